import Foundation
import NodeTesting
import Testing

/// What a node must survive: bounded time and memory, and a reason.
@Suite(.serialized) struct NodeB3ndHostileTests {
  private func post(_ node: B3ndNode, _ uri: String, _ data: String) throws -> HTTPConnection.Answer {
    let client = try HTTPConnection(port: node.node.port, timeoutSeconds: 120)
    return try client.post("/api/v1/receive", #"{"tx":["\#(uri)",\#(data)]}"#)
  }

  @Test func aHundredThousandOutputs() throws {
    let node = try B3ndNode()
    let outputs = (0..<100_000).map { #"["mutable://open/\#($0)",\#($0)]"# }
    let before = node.node.residentBytes
    let most = try post(node, "mutable://inbox/e", envelope(outputs))
    #expect(most.status == 200, "\(most.text)")
    #expect(try node.data("mutable://open/99999") == "99999")
    #expect(node.node.residentBytes - before < 1 << 30)
    let more = try post(node, "mutable://inbox/f", envelope(outputs + [#"["mutable://open/x",1]"#]))
    #expect(more.status == 400)
    #expect(more.text.contains("the envelope has 100001 outputs, and 100000 is the most that one may have"))
    // Nested ones count together.
    let half = envelope(Array(outputs[..<60_000]))
    let nested = try post(
      node, "mutable://inbox/f", envelope([#"["mutable://open/a",\#(half)]"#, #"["mutable://open/b",\#(half)]"#]))
    #expect(nested.status == 400)
    #expect(nested.text.contains("the message comes to more than 100001 writes"), "\(nested.text)")
    for uri in ["mutable://inbox/f", "mutable://open/a", "mutable://open/x"] { #expect(try node.data(uri) == nil) }
    // Two to one record among many.
    let twice = outputs + []
    let last = Array(twice.dropLast()) + [#"["immutable://open/x",1]"#]
    let doubled = [#"["immutable://open/x",1]"#] + Array(last.dropFirst())
    #expect(
      try post(node, "mutable://inbox/g", envelope(doubled)).text
        == #"{"accepted":false,"error":"Validation failed for output: immutable://open/x"}"#)
    #expect(try node.data("mutable://inbox/g") == nil)
  }

  @Test func envelopesInEnvelopes() throws {
    let node = try B3ndNode()
    var message = envelope([])
    for level in 0..<16 { message = envelope([#"["mutable://open/\#(level)",\#(message)]"#]) }
    #expect(try node.receive("mutable://open/e", message) == nil)
    #expect(try node.data("mutable://open/0") == envelope([]))
    let deeper = envelope([#"["mutable://open/x",\#(message)]"#])
    #expect(try node.receive("mutable://open/f", deeper) == "the message's outputs are nested deeper than 16")
    #expect(try node.data("mutable://open/f") == nil)
  }

  /// While large messages are verified, on threads of the schema's own, everybody else is served.
  @Test func largeSignedMessagesAreVerified() throws {
    let node = try B3ndNode()
    let owner = try Signer(1)
    let payload = "\"" + String(repeating: "é", count: 2 << 20) + "\""
    let message = try owner.message(payload)
    let uri = "mutable://accounts/\(owner.key)/large"
    let forged = message.replacing("é\"", with: "e\"")
    let port = node.node.port
    let statuses = try onThreads(8) { index in
      try HTTPConnection(port: port, timeoutSeconds: 120).post(
        "/api/v1/receive", #"{"tx":["\#(uri)",\#(index % 2 == 0 ? message : forged)]}"#
      ).status
    }
    #expect(statuses.sorted() == [200, 200, 200, 200, 400, 400, 400, 400])
    #expect(try node.data(uri) == message)
  }

  @Test func aValidatorThatNeverAnswers() throws {
    let folder = try TemporaryFolder()
    let file = try CPlugin.build(
      "\(SourceTree.root)/Tests/NodeB3ndTests/Plugins/silent.c",
      manifest: """
        {"id": "org.example.silent", "version": "1.0.0", "kinds": ["schema"], "abi": {"major": 0, "minor": 1},
         "runtime": "c"}
        """, in: folder)
    let directory = folder.path + "/plugins.d"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    try PluginFile.drop(file, into: directory, as: "silent.so")
    let node = try B3ndNode(
      more: "  silent: {kind: schema, plugin: org.example.silent, order: 5}\nlimits:\n  request_timeout_ms: 300",
      folder: folder)
    let plain = try post(node, "silent://open/x", "1")
    #expect(plain.status == 504 && plain.text.contains("deadline"), "\(plain.status) \(plain.text)")
    let message = envelope([#"["mutable://open/a",1]"#, #"["silent://open/x",1]"#])
    #expect(try post(node, "mutable://open/e", message).status == 504)
    #expect(try node.data("mutable://open/a") == nil && node.data("mutable://open/e") == nil)
    #expect(try node.receive("mutable://open/a", "1") == nil)
    node.node.signal(SIGKILL)
    _ = node.node.wait()
  }
}
