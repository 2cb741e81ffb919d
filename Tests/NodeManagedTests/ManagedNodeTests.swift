import Foundation
import HostileTesting
import ManagedNode
import MessageCrypto
import NodeTesting
import Testing

/// Whole nodes that configure themselves over the protocol.
@Suite struct ManagedNodes {
  @Test func oneFollowsItsConfiguration() throws {
    let scene = try ManagedScene()
    let server = try ManagedScene.configServer()
    try scene.publish(scene.configuration("north"), at: server.port)
    let node = try scene.start(configURL: "http://127.0.0.1:\(server.port)")
    #expect(node.says("[managed] Managed mode active"), "\(node.log)")
    for line in [
      "[managed] Node ID: \(scene.nodeID)", "[managed] Config URL: http://127.0.0.1:\(server.port)",
      "[managed] Loaded config: \"north\" (v1)", "[managed] Backends hot-swapped from config",
    ] { #expect(node.log.contains(line), "\(line)\n\(node.log)") }
    #expect(
      try Polling.until(seconds: 60) { try scene.status(at: server.port)?.name == "north" }, "\(node.log)")
    let status = try #require(try scene.status(at: server.port))
    #expect(status.status == .online && status.port == scene.port && status.configTimestampMs > 0, "\(status)")
    #expect(status.backends == [NodeStatus.Backend(type: "memory", status: "connected")])

    // Changed under load: nobody notices, and the records stay.
    let failures = Shared<[String]>([])
    let isOver = Shared(false)
    #expect(try ManagedScene.put("mutable://open/kept", "1", at: scene.port).status == 200)
    let threads = TestThreads()
    let port = scene.port
    for number in 0..<2 {
      threads.start {
        do {
          let connection = try HTTPConnection(port: port)
          var count = 0
          while !isOver.with({ $0 }) {
            count += 1
            let written = try connection.post(
              "/api/v1/receive", #"{"tx":["mutable://open/load/\#(number)",\#(count)]}"#)
            let read = try connection.get("/api/v1/read/mutable/open/kept")
            if written.status != 200 || read.status != 200 { failures.with { $0.append("\(written) \(read)") } }
          }
        } catch { failures.with { $0.append("\(error)") } }
      }
    }
    try scene.publish(
      scene.configuration(
        "south", backends: #"[{"type":"memory","url":"memory://"},{"type":"memory","url":"memory://"}]"#),
      at: server.port)
    #expect(node.says("[managed] Config applied: \"south\""), "\(node.log)")
    isOver.with { $0 = true }
    #expect(threads.join())
    #expect(failures.with { $0 }.isEmpty, "\(failures.with { $0.prefix(3) })")
    #expect(try ManagedScene.read("mutable/open/kept", at: scene.port).status == 200)

    // A clean end is written.
    #expect(node.stop() == 0, "\(node.log)")
    #expect(try scene.status(at: server.port)?.status == .offline)
  }

  @Test func whatIsWrongChangesNothing() throws {
    let scene = try ManagedScene()
    let server = try ManagedScene.configServer()
    try scene.publish(scene.configuration("north"), at: server.port)
    let node = try scene.start(configURL: "http://127.0.0.1:\(server.port)")
    #expect(node.says("[managed] Backends hot-swapped from config"), "\(node.log)")
    try scene.publish(scene.configuration("evil"), at: server.port, by: Ed25519.KeyPair())
    #expect(node.says("has no valid signature from operator \(scene.operatorPair.publicKeyHex)"), "\(node.log)")
    // A backend that this node has no plugin for, as one whose database is not there.
    try scene.publish(
      scene.configuration("south", backends: #"[{"type":"mongodb","url":"mongodb://127.0.0.1:1/x"}]"#), at: server.port)
    #expect(node.says("[managed] Failed to apply config: "), "\(node.log)")
    #expect(
      try Polling.until(seconds: 60) {
        let status = try scene.status(at: server.port)
        return status?.status == .degraded && status?.problem?.contains("mongodb") == true
      }, "\(String(describing: try? scene.status(at: server.port)))\n\(node.log)")
    #expect(try ManagedScene.put("mutable://open/a", "1", at: scene.port).status == 200)
    try scene.publish(scene.configuration("west"), at: server.port)
    #expect(node.says("[managed] Config applied: \"west\""), "\(node.log)")
    #expect(node.count("[managed] Failed to apply config: ") == 1, "\(node.log)")
    #expect(try Polling.until(seconds: 60) { try scene.status(at: server.port)?.status == .online }, "\(node.log)")
  }

  /// Each is refused in the reference's words, or reported, and the configuration before it goes on serving.
  @Test func whatCannotBeTakenIsSaid() throws {
    let scene = try ManagedScene()
    let server = try ManagedScene.configServer()
    let database = #"[{"type":"postgresql","url":"postgresql://b3nd:hidden-word@127.0.0.1:1/b3nd"}]"#
    try scene.publish(scene.configuration("first", backends: database), at: server.port)
    let node = try scene.start(configURL: "http://127.0.0.1:\(server.port)", plugins: ["backend-postgresql"])
    #expect(node.says("[managed] Failed to build backends from config: "), "\(node.log)")
    #expect(node.says("[managed] Continuing with Phase 1 backends"), "\(node.log)")
    #expect(try ManagedScene.put("mutable://open/a", "1", at: scene.port).status == 200)
    try scene.publish(scene.configuration("good"), at: server.port)
    #expect(node.says("[managed] Config applied: \"good\""), "\(node.log)")

    let good = String(decoding: try scene.message(scene.configuration("good")), as: UTF8.self)
    let stranger = X25519.KeyPair().publicKey
    let other = Ed25519.KeyPair().publicKeyHex
    let cases: [(message: String, says: String)] = [
      (
        good.replacing("\"good\"", with: "\"tampered\""),
        "Config at \(scene.configURI) has no valid signature from operator \(scene.operatorPair.publicKeyHex)"
      ),
      (#"{"payload":1}"#, "Config at \(scene.configURI) is not a signed AuthenticatedMessage"),
      (#""text""#, "Invalid config data at \(scene.configURI)"),
      (
        try scene.text(scene.configuration("secret"), encryptingTo: stranger),
        "Config at \(scene.configURI) is encrypted but no decryption key provided"
      ),
      (
        try scene.text(scene.configuration("rules").replacing("\"configVersion\":1", with: "\"configVersion\":2")),
        "Invalid config data at \(scene.configURI): configVersion must be 1"
      ),
      (try scene.text(scene.configuration("another").replacing(scene.nodeID, with: other)), other),
      (
        try scene.text(scene.configuration("database", backends: database)),
        "[managed] Failed to apply config: "
      ),
    ]
    for (message, text) in cases {
      try scene.put(message, at: server.port)
      #expect(node.says(text), "\(text)\n\(node.log)")
      #expect(try ManagedScene.read("mutable/open/a", at: scene.port).status == 200)
    }
    #expect(try Polling.until(seconds: 60) { try scene.status(at: server.port)?.status == .degraded }, "\(node.log)")
    #expect(try scene.status(at: server.port)?.problem?.isEmpty == false)
    #expect(node.count("[managed] Config applied: ") == 1 && !node.log.contains("hidden-word"), "\(node.log)")
    try scene.publish(scene.configuration("last"), at: server.port)
    #expect(node.says("[managed] Config applied: \"last\""), "\(node.log)")
    #expect(node.stop() == 0, "\(node.log)")
  }

  @Test func aServerThatComesAndGoesDisturbsNothing() throws {
    let scene = try ManagedScene()
    let serverPort = FreePort.find()
    let node = try scene.start(configURL: "http://127.0.0.1:\(serverPort)")
    #expect(
      node.says("[managed] Config not available yet: http://127.0.0.1:\(serverPort) cannot be reached"), "\(node.log)")
    #expect(node.says("[managed] Running with Phase 1 backends; config watcher will retry"))
    #expect(try ManagedScene.put("mutable://open/a", "1", at: scene.port).status == 200)
    do {
      let server = try ManagedScene.configServer(port: serverPort)
      try scene.publish(scene.configuration("late"), at: serverPort)
      #expect(node.says("[managed] Config applied: \"late\""), "\(node.log)")
      #expect(server.stop() == 0)
    }
    #expect(node.says("[managed] Config poll error: "), "\(node.log)")
    #expect(node.says("[heartbeat] Failed to write status:"), "\(node.log)")
    #expect(try ManagedScene.read("mutable/open/a", at: scene.port).status == 200)
    #expect(node.stop() == 0, "\(node.log)")
    // It starts again on what it had last.
    let again = try scene.start(configURL: "http://127.0.0.1:\(serverPort)")
    #expect(again.says("[managed] Loaded config: \"late\" (v1)"), "\(again.log)")
    #expect(again.says("[managed] Backends hot-swapped from config"), "\(again.log)")
    #expect(again.stop() == 0, "\(again.log)")
  }

  @Test func aNodeMayHoldItsOwnConfiguration() throws {
    let scene = try ManagedScene()
    let node = try scene.start(configURL: "http://localhost:\(scene.port)", plugins: ["schema-rules"])
    #expect(node.says("[managed] Config not available yet: Config not found at \(scene.configURI)"), "\(node.log)")
    #expect(try ManagedScene.put("mutable://open/before", "1", at: scene.port).status == 200)
    try scene.publish(scene.configuration("self"), at: scene.port)
    #expect(node.says("[managed] Config applied: \"self\""), "\(node.log)")
    #expect(try ManagedScene.read("mutable/open/before", at: scene.port).status == 200)
    #expect(try Polling.until(seconds: 60) { try scene.status(at: scene.port)?.name == "self" }, "\(node.log)")
    // Rules in the configuration hold from now on.
    try scene.publish(
      scene.configuration(
        "ruled",
        #""schemaInline":{"version":1,"programs":{"mutable://open":[{"size_bytes_max":4}],"mutable://accounts":"allow"}}"#
      ),
      at: scene.port)
    #expect(node.says("[managed] Config applied: \"ruled\""), "\(node.log)")
    #expect(node.log.contains("[managed] Schema module changed: schemaInline"), "\(node.log)")
    #expect(try ManagedScene.put("mutable://open/b", "123456", at: scene.port).status == 400)
    #expect(try ManagedScene.put("mutable://open/b", "1", at: scene.port).status == 200)
    #expect(node.stop() == 0, "\(node.log)")
  }

  /// Whatever the server answers, the node serves, and takes the configuration when there is one at last.
  @Test func aHostileServerDisturbsNothing() throws {
    let scene = try ManagedScene()
    let message = String(decoding: try scene.message(scene.configuration("at last")), as: UTF8.self)
    let mood = Shared(0)
    let garbage = String(repeating: "x", count: 100_000)
    let server = try HostileServer { request in
      guard request.hasPrefix("GET"), request.contains("/config ") else {
        return .bytes(HostileServer.answer(200, #"{"accepted":true}"#))
      }
      switch mood.with({ $0 }) {
      case 0: return .bytes(HostileServer.answer(200, "<html>", type: "text/html"))
      case 1: return .endless(head: "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", chunk: garbage)
      case 2: return .silence
      case 3: return .bytes(HostileServer.answer(302, "", "location: /\r\n"))
      case 4: return .bytesThenClose("nonsense")
      default: return .bytes(HostileServer.answer(200, #"{"ts":5,"data":\#(message)}"#))
      }
    }
    defer { server.stop() }
    let node = try scene.start(configURL: server.url, keys: ", request_timeout_ms: 2000")
    let expected = [
      "gives an answer that is no node's", "answers with more than", "gave no whole answer within 2000 ms",
      "answers with a redirect", "poll error: \(server.url)",
    ]
    for (number, text) in expected.enumerated() {
      mood.with { $0 = number }
      #expect(node.says(text), "\(text)\n\(node.log)")
      #expect(try ManagedScene.put("mutable://open/a", "\(number)", at: scene.port).status == 200)
    }
    mood.with { $0 = 5 }
    #expect(node.says("[managed] Config applied: \"at last\""), "\(node.log)")
    #expect(node.stop() == 0, "\(node.log)")
  }

  @Test func theEnvironmentIsChecked() throws {
    let scene = try ManagedScene()
    let other = Ed25519.KeyPair().publicKeyHex
    let pem = PrivateKey.ed25519(scene.nodePair).pem.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    let node = try NodeProcess(
      folder: scene.folder, plugins: BuiltProducts.bundled + ["service-managed"],
      environment: [
        "PORT": "\(scene.port)", "CONFIG_URL": "http://127.0.0.1:1", "OPERATOR_KEY": other, "NODE_ID": other,
        "NODE_PRIVATE_KEY_PEM": pem,
      ], waits: false)
    node.expectsEnd()
    #expect(node.wait() != 0)
    #expect(node.log.contains("node_id is not the public key of node_private_key_pem"), "\(node.log)")
  }
}
