import Foundation
import MessageCrypto
import NodeTesting
import Testing

/// Whole nodes under a rules file.
@Suite struct RulesNodeTests {
  static let open = "version: 1\nprograms:\n  mutable://open: allow\n"

  @Test func aChangedFileIsInForceWithoutAFailedRequest() throws {
    let node = try RulesNode(["rules.yaml": Self.open])
    #expect(try node.refusal("mutable://open/a", #""too long""#) == nil)
    let isOver = Shared(false)
    let wrong = Shared<[String]>([])
    let threads = TestThreads()
    let port = node.node.port
    for client in 0..<4 {
      threads.start {
        do {
          let connection = try HTTPConnection(port: port)
          var count = 0
          while !isOver.with({ $0 }) {
            count += 1
            let answer = try connection.post("/api/v1/receive", #"{"tx":["mutable://open/\#(client)-\#(count)",1]}"#)
            if answer.status != 200 { wrong.with { $0.append("\(answer.status)") } }
          }
        } catch {
          wrong.with { $0.append("\(error)") }
        }
      }
    }
    for round in 1...3 {
      try node.write("version: 1\nprograms:\n  mutable://open: {size_bytes_max: \(round)}\n  mutable://new: allow\n")
      let long = "1" + String(repeating: "1", count: round)
      #expect(
        try Polling.until(seconds: 60) {
          try node.refusal("mutable://open/a", long)
            == "The value has \(round + 1) bytes; \(round) is the most that this program takes."
        })
    }
    // A program that came is served by the same change.
    #expect(try node.refusal("mutable://new/a", "1") == nil)
    isOver.with { $0 = true }
    #expect(threads.join())
    #expect(wrong.with { $0 } == [])
    let receipts = try node.node.receipts().filter { $0.trigger == "configuration" }
    #expect(receipts.first?.changes == ["schema:replaced"])
  }

  @Test func aWrongFileIsRefusedAndTheOldRulesServeOn() throws {
    let node = try RulesNode(["rules.yaml": Self.open])
    func refused(_ text: String, _ parts: String...) throws {
      let before = try node.node.receipts().first!.id
      try node.write(text)
      var message = ""
      #expect(
        try Polling.until(seconds: 60) {
          guard let receipt = try node.node.receipts().first, receipt.id > before, receipt.outcome == "refused" else {
            return false
          }
          message = receipt.refusals.map(\.message).joined(separator: "\n")
          return true
        })
      for part in parts { #expect(message.contains(part), "'\(part)' is not in: \(message)") }
      #expect(try node.refusal("mutable://open/a", "1") == nil)
    }
    try refused(
      "version: 1\nprograms:\n  mutable://open:\n    - size_byte_max: 1\n", "file rules/rules.yaml:4",
      "/rules/programs/mutable:~1~1open/0/size_byte_max", #"Did you mean "size_bytes_max"?"#)
    try refused("version: 1\nprograms: [\n", "rules/rules.yaml:3", "not valid YAML")
    try refused(
      "version: 1\nprograms:\n  mutable://open:\n    json_schema: ${yaml:none.json}\n", "rules/rules.yaml:4",
      "does not exist")
    // A good one heals.
    try node.write("version: 1\nprograms:\n  mutable://open: deny\n")
    #expect(
      try Polling.until(seconds: 60) { try node.refusal("mutable://open/a", "1") == "This program takes no messages." })
  }

  @Test func aFileThatIsTakenInIsWatchedToo() throws {
    let node = try RulesNode([
      "rules.yaml":
        "version: 1\njson_schemas:\n  n: ${yaml:schemas/n.json}\nprograms:\n  mutable://n: {json_schema: n}\n",
      "schemas/n.json": #"{"type": "number"}"#,
    ])
    #expect(try node.refusal("mutable://n/a", "1") == nil)
    #expect(try node.refusal("mutable://n/a", "true")?.contains("(type)") == true)
    try node.write(#"{"type": "boolean"}"#, to: "schemas/n.json")
    #expect(try Polling.until(seconds: 60) { try node.refusal("mutable://n/a", "true") == nil })
  }

  /// Its folder is named by rules that were refused because of it.
  @Test func aMissingFileThatComesHeals() throws {
    let node = try RulesNode(["rules.yaml": Self.open])
    let before = try node.node.receipts().first!.id
    try node.write("version: 1\nprograms:\n  mutable://open:\n    json_schema: ${yaml:new/n.json}\n")
    #expect(
      try Polling.until(seconds: 60) {
        try node.node.receipts().first.map { $0.id > before && $0.outcome == "refused" } ?? false
      })
    try node.write(#"{"type": "number"}"#, to: "new/n.json")
    #expect(try Polling.until(seconds: 60) { try node.refusal("mutable://open/a", "true") != nil })
    #expect(try node.refusal("mutable://open/a", "1") == nil)
  }

  /// As a mounted ConfigMap is swung: every name is a link into `..data`, which is renamed over.
  @Test func aSwungSymbolicLinkIsSeen() throws {
    let folder = try TemporaryFolder()
    let files = FileManager.default
    let mount = folder.path + "/mount"
    try folder.write(Self.open, to: "mount/..first/rules.yaml")
    try files.createSymbolicLink(atPath: mount + "/..data", withDestinationPath: "..first")
    try files.createSymbolicLink(atPath: mount + "/rules.yaml", withDestinationPath: "..data/rules.yaml")
    let node = try NodeProcess(
      folder: folder, plugins: RulesNode.plugins,
      environment: ["SCHEMA_MODULE": "mount/rules.yaml", "BACKEND_URL": "memory://"])
    #expect(try node.put("mutable://open/a", "1").status == 200)
    try folder.write("version: 1\nprograms:\n  mutable://open: deny\n", to: "mount/..second/rules.yaml")
    try files.createSymbolicLink(atPath: mount + "/..next", withDestinationPath: "..second")
    #expect(rename(mount + "/..next", mount + "/..data") == 0)
    #expect(try Polling.until(seconds: 60) { try node.put("mutable://open/a", "1").status == 400 })
  }

  @Test func anEnvelopePaysOrIsRefusedWhole() throws {
    let node = try RulesNode([
      "rules.yaml": """
      version: 1
      programs:
        mutable://paid:
          requires_output: {uri_pattern: ^fees://north/, number_min: 10}
        fees://north: write_once
      """
    ])
    let wanted = "an output to a URI that matches ^fees://north/"
    #expect(
      try node.refusal("mutable://paid/a", Self.paid("9"))
        == "The envelope has \(wanted), but its value is not a number of at least 10.")
    #expect(
      try node.refusal("mutable://paid/a", #"{"plain":true}"#)
        == "The message is no envelope; this program asks for one with \(wanted).")
    #expect(try !node.exists("mutable://paid/a") && !node.exists("fees://north/1"))
    #expect(try node.refusal("mutable://paid/a", Self.paid("10")) == nil)
    #expect(try node.exists("mutable://paid/a") && node.exists("fees://north/1"))
    // The same fee pays once: all of the second envelope is refused, in the rule's words.
    #expect(
      try node.refusal("mutable://paid/b", Self.paid("10")) == "The record exists already, and it is written once.")
    #expect(try !node.exists("mutable://paid/b"))
  }

  private static func paid(_ fee: String) -> String {
    #"{"payload":{"inputs":[],"outputs":[["fees://north/1",\#(fee)]]}}"#
  }

  @Test func anAccountIsWrittenByItsOwner() throws {
    let node = try RulesNode(["rules.yaml": "version: 1\nprograms:\n  mutable://accounts: {signed_by: owner}\n"])
    let owner = Ed25519.KeyPair()
    let payload = #"{"name":"Alice"}"#
    func signed(by key: Ed25519.KeyPair) -> String {
      let signature = Hexadecimal.text(Array(payload.utf8).withUnsafeBytes { key.sign($0) })
      return #"{"auth":[{"pubkey":"\#(key.publicKeyHex)","signature":"\#(signature)"}],"payload":\#(payload)}"#
    }
    let uri = "mutable://accounts/\(owner.publicKeyHex)/profile"
    #expect(try node.refusal(uri, signed(by: Ed25519.KeyPair())) == "Signature verification failed")
    #expect(try !node.exists(uri))
    #expect(try node.refusal(uri, signed(by: owner)) == nil)
    #expect(try node.exists(uri))
  }

  @Test func sixtyFourFirstWritesAndOneIsAccepted() throws {
    let node = try RulesNode(["rules.yaml": "version: 1\nprograms:\n  immutable://a: {write_once: Taken.}\n"])
    let accepted = Shared(0)
    let texts = Shared<Set<String>>([])
    let threads = TestThreads()
    let port = node.node.port
    for writer in 0..<64 {
      threads.start {
        let answer = try? HTTPConnection(port: port).post("/api/v1/receive", #"{"tx":["immutable://a/x",\#(writer)]}"#)
        if answer?.status == 200 { accepted.with { $0 += 1 } } else { texts.with { $0.insert(answer?.text ?? "none") } }
      }
    }
    #expect(threads.join())
    #expect(accepted.with { $0 } == 1)
    #expect(texts.with { $0 } == [#"{"accepted":false,"error":"Taken."}"#])
  }

  @Test func deletesAreRefusedWhereTheFileSaysSo() throws {
    let node = try RulesNode([
      "rules.yaml": "version: 1\nprograms:\n  a://kept: {rules: allow, delete: none}\n  a://open: allow\n"
    ])
    for program in ["kept", "open"] { #expect(try node.refusal("a://\(program)/x", "1") == nil) }
    func delete(_ path: String) throws -> Int {
      try HTTPConnection(port: node.node.port).request("DELETE", "/api/v1/delete/\(path)").status
    }
    #expect(try delete("a/open/x") == 200)
    #expect(try delete("a/kept/x") != 200)
    #expect(try node.exists("a://kept/x") && !node.exists("a://open/x"))
  }

  @Test func aLargeFileUnderIsolation() throws {
    let programs = (0..<4000).map { "  a://program-\($0): [{size_bytes_max: \($0)}, {content: json}]\n" }.joined()
    let node = try RulesNode(
      ["rules.yaml": "version: 1\nprograms:\n\(programs)"], environment: ["BACKPLANE_ISOLATION_DEFAULT": "process"])
    #expect(try node.refusal("a://program-3999/x", "1") == nil)
    #expect(
      try node.refusal("a://program-2/x", "123") == "The value has 3 bytes; 2 is the most that this program takes.")
  }

  @Test func theSameUnderIsolation() throws {
    let node = try RulesNode(
      ["rules.yaml": "version: 1\nprograms:\n  a://a: [write_once, {json_schema: {type: number}}]\n"],
      environment: ["BACKPLANE_ISOLATION_DEFAULT": "process"])
    #expect(try node.refusal("a://a/x", "1") == nil)
    #expect(try node.refusal("a://a/x", "2") == "The record exists already, and it is written once.")
    #expect(try node.refusal("a://a/y", "true")?.contains("(type)") == true)
  }
}
