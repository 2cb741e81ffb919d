import Foundation
import NodeTesting
import Testing

/// The B3nd schema in whole nodes: what clients see of it.
@Suite(.serialized) struct NodeB3ndTests {
  private static let wrong = "hash://sha256/" + String(repeating: "1", count: 64)
  private static let exists = "hash:// is write-once: resource already exists"

  @Test func everyProgramServes() throws {
    let node = try B3ndNode()
    #expect(
      try node.client.get("/api/v1/schema").text
        == #"{"schema":["mutable://open","mutable://inbox","immutable://inbox","mutable://accounts","immutable://open","#
        + #""immutable://accounts","hash://sha256","link://accounts","link://open"]}"#)
    let owner = try Signer(1)
    let signed = try owner.message(#"{"b":1,"a":[true,"é"]}"#)
    let link = try owner.message(#""hash://sha256/ab""#)
    for (uri, value) in [
      ("mutable://open/a", "1"), ("mutable://inbox/a", "1"), ("immutable://inbox/a", "1"),
      ("mutable://accounts/\(owner.key)/x", signed), ("link://accounts/\(owner.key)/x", link),
      ("link://open/x", #""mutable://open/a""#),
    ] {
      #expect(try node.receive(uri, value) == nil)
      #expect(try node.receive(uri, value) == nil)
      #expect(try node.data(uri) == value)
    }
    let digest = try digestURI(#"{"b":1,"a":2}"#)
    for (uri, value, text) in [
      ("immutable://open/x", "1", "Validation failed"),
      ("immutable://accounts/\(owner.key)/x", signed, "immutable object exists"),
      (digest, #"{"a":2,"b":1}"#, Self.exists),
    ] {
      #expect(try node.receive(uri, value) == nil)
      #expect(try node.receive(uri, value) == text)
      #expect(try node.data(uri) == value)
    }
    // One record, in whatever case its digest is written.
    let shouted = "hash://sha256/" + digest.dropFirst("hash://sha256/".count).uppercased()
    #expect(try node.receive(shouted, #"{"a":2,"b":1}"#) == Self.exists)
    #expect(try node.data(shouted) == #"{"a":2,"b":1}"#)
    #expect(try node.receive(digest, "3") == Self.exists)
    #expect(try node.receive(Self.wrong, "3") == "Content hash mismatch")
    for (uri, value, text) in [
      ("mutable://accounts/\(owner.key)/x", "null", "Cannot read properties of null (reading 'auth')"),
      ("mutable://accounts/\(owner.key)/x", "1", "write.value.auth is not iterable"),
      ("mutable://accounts/\(owner.key)/x", #"{"auth":[],"payload":1}"#, "Signature verification failed"),
      ("mutable://accounts/\(owner.key)/x", try Signer(2).message("1"), "Signature verification failed"),
      ("mutable://accounts", signed, "Signature verification failed"),
      ("link://open/x", "1", "Link value must be a string URI"),
      ("link://open/x", #""x""#, "Link value must be a valid URI"),
      ("mutable://none/x", "1", "Unknown program: mutable://none"), ("nonsense", "1", "Invalid URI format"),
      ("nonsense", envelope([]), "Invalid envelope URI format"), ("hash://md5/x", "1", "Unsupported algorithm: md5"),
    ] {
      #expect(try node.receive(uri, value) == text)
    }
    // As in the reference, anyone deletes.
    #expect(try node.delete(digest).status == 200)
    #expect(try node.delete("mutable://accounts/\(owner.key)/x").status == 200)
    #expect(try node.data(digest) == nil)
  }

  @Test func anEnvelopeIsAppliedWholeOrNotAtAll() throws {
    let node = try B3ndNode()
    let owner = try Signer(1)
    let digest = try digestURI("{}")
    let good = #"["mutable://open/good",1]"#
    let once = #"["immutable://open/once",1]"#
    let signed = try owner.message("1")
    for (outputs, text) in [
      ([good, #"["nonsense",1]"#], "Invalid output URI: nonsense"),
      ([good, #"["mutable://none/x",1]"#], "Unknown program: mutable://none"),
      ([good, #"["\#(Self.wrong)",1]"#], "Content hash mismatch"),
      ([good, #"["mutable://open/n",\#(envelope([#"["\#(Self.wrong)",1]"#]))]"#], "Content hash mismatch"),
      ([good, #"["mutable://accounts/\#(owner.key)",1]"#], "write.value.auth is not iterable"),
      ([good, once, once], "Validation failed for output: immutable://open/once"),
      ([once, #"["mutable://open/n",\#(envelope([once]))]"#], "Validation failed for output: immutable://open/once"),
      ([#"["\#(digest)",{}]"#, #"["\#(digest)",{}]"#], Self.exists),
      // The validator of the second sees what the first is going to write.
      ([#"["\#(digest)",{}]"#, #"["\#(digest)",1]"#], Self.exists),
      (
        [
          #"["immutable://accounts/\#(owner.key)/x",\#(signed)]"#,
          #"["immutable://accounts/\#(owner.key)/x",\#(signed)]"#,
        ], "immutable object exists"
      ),
    ] {
      #expect(try node.receive("mutable://open/e", envelope(outputs)) == text)
      for uri in ["mutable://open/e", "mutable://open/good", "mutable://open/n", "immutable://open/once", digest] {
        #expect(try node.data(uri) == nil, "\(uri) after \(text)")
      }
    }
    // The envelope itself is the first to be written.
    #expect(
      try node.receive("immutable://open/e", envelope([#"["immutable://open/e",1]"#]))
        == "Validation failed for output: immutable://open/e")
    #expect(try node.receive(Self.wrong, envelope([good])) == "Content hash mismatch")
    #expect(try node.data(Self.wrong) == nil)
    let message = envelope([
      good, once, #"["\#(digest)",{}]"#, #"["mutable://open/n",\#(envelope([#"["mutable://open/deep",2]"#]))]"#,
      #"["mutable://open/good",2]"#,
    ])
    let uri = try digestURI(message)
    #expect(try node.receive(uri, message) == nil)
    #expect(try node.data(uri) == message)
    #expect(try node.data("mutable://open/good") == "2")
    #expect(try node.data("mutable://open/deep") == "2")
    #expect(try node.data(digest) == "{}")
    // A replay is refused by the first that is written once.
    #expect(try node.receive(uri, message) == Self.exists)
    #expect(
      try node.receive("mutable://open/e", envelope([once]))
        == "Validation failed for output: immutable://open/once")
  }

  @Test(arguments: [#"{kind: backend, url: "memory://"}"#, #"{kind: backend, url: "sqlite://"}"#])
  func ofSixtyFourFirstWritesOneIsAccepted(_ backend: String) throws {
    let node = try B3ndNode(backend: backend)
    let port = node.node.port
    let owner = try Signer(1)
    let message = try owner.message("1")
    let digest = try digestURI("1")
    for (uri, value, text) in [
      ("immutable://open/x", "", "Validation failed"),
      ("immutable://accounts/\(owner.key)/x", message, "immutable object exists"), (digest, "1", Self.exists),
    ] {
      let answers = try onThreads(64) { index in
        let answer = try HTTPConnection(port: port, timeoutSeconds: 60).post(
          "/api/v1/receive", #"{"tx":["\#(uri)",\#(value.isEmpty ? "\(index)" : value)]}"#)
        return (status: answer.status, text: answer.text)
      }
      #expect(answers.filter { $0.status == 200 }.count == 1)
      #expect(answers.filter { $0.status == 400 && $0.text.contains(text) }.count == 63)
    }
  }

  @Test func deletesAreGovernedWhenTheConfigurationSaysSo() throws {
    let owner = try Signer(1)
    let uri = "mutable://accounts/\(owner.key)/x"
    let node = try B3ndNode(schema: "delete: owner")
    #expect(try node.receive(uri, try owner.message("1")) == nil)
    #expect(try node.receive("mutable://open/a", "1") == nil)
    #expect(try node.receive("immutable://open/a", "1") == nil)
    let refused = try node.delete(uri)
    #expect(refused.status == 403)
    #expect(refused.text.hasPrefix(#"{"success":false,"error":"Only its owner deletes this record"#), "\(refused.text)")
    #expect(try node.delete("immutable://open/a").status == 403)
    #expect(try node.delete("immutable://open/none").status == 403)
    #expect(try node.delete("mutable://open/a").status == 200)
    #expect(try node.delete("mutable://open/a").status == 404)
    #expect(try node.data(uri) != nil)
    let theirs = try Signer(2).message(#"{"delete":"\#(uri)"}"#)
    #expect(try node.receive(uri, theirs) == "Signature verification failed")
    let mine = try owner.message(#"{"delete":"\#(uri)"}"#)
    #expect(try node.receive(uri, mine) == nil)
    #expect(try node.data(uri) == nil)
    // What is gone already is gone.
    #expect(try node.receive(uri, mine) == nil)
    // In force from the next reload on.
    let file = node.node.folder.path + "/backplane.yaml"
    let text = try String(contentsOfFile: file, encoding: .utf8)
    try node.node.folder.write(text.replacing("delete: owner", with: "delete: none"), to: "backplane.yaml")
    _ = try node.node.reload()
    #expect(try node.receive("mutable://open/a", "1") == nil)
    let none = try node.delete("mutable://open/a")
    #expect(none.status == 403 && none.text == #"{"success":false,"error":"Records are not deleted on this node."}"#)
  }

  @Test func programsOfOnesOwnBesideAnotherSchema() throws {
    let node = try B3ndNode(
      schema: #"fallback: false, programs: {"mutable://people": account, "immutable://docs": write-once}"#,
      more: "  rest: {kind: schema, plugin: org.backplane.permissive, order: 5}")
    let owner = try Signer(1)
    #expect(try node.receive("mutable://people/\(owner.key)", try owner.message("1")) == nil)
    #expect(try node.receive("mutable://people/\(owner.key)", "1") == "write.value.auth is not iterable")
    #expect(try node.receive("immutable://docs/a", "1") == nil)
    #expect(try node.receive("immutable://docs/a", "1") == "Validation failed")
    #expect(try node.receive("anything://else/a", "1") == nil)
    // An envelope of the one may have outputs of the other.
    #expect(
      try node.receive(
        "anything://else/e", envelope([#"["anything://else/b",1]"#, #"["immutable://docs/a",1]"#]))
        == "Validation failed for output: immutable://docs/a")
    #expect(try node.data("anything://else/b") == nil)
    #expect(try node.client.get("/api/v1/schema").text == #"{"schema":["immutable://docs","mutable://people"]}"#)
  }

  @Test func aMistakeInTheConfigurationIsNamed() throws {
    let node = try B3ndNode(schema: #"programs: {"mutable://a": open}"#)
    let file = node.node.folder.path + "/backplane.yaml"
    let text = try String(contentsOfFile: file, encoding: .utf8)
    try node.node.folder.write(
      text.replacing("\"mutable://a\": open", with: "\"mutable://a\": opne"), to: "backplane.yaml")
    let (output, errors, status) = try node.node.command(["reload"])
    #expect(status != 0)
    #expect((output + errors).contains("/programs/mutable:~1~1a"), "\(output)\(errors)")
    #expect((output + errors).contains("there is no rule 'opne'"), "\(output)\(errors)")
    #expect(try node.receive("mutable://a/x", "1") == nil)
  }
}
