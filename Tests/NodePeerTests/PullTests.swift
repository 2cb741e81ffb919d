import Foundation
import NodeTesting
import Testing

/// Real nodes that are asked for what others do not have.
@Suite(.serialized) struct PullTests {
  @Test(.timeLimit(.minutes(3))) func aMissIsAskedOfThePeersInOrder() throws {
    let (b, c) = (try PeerNode(), try PeerNode())
    let a = try PeerNode([
      PeerNode.peer("second", c.port, "pull", ", order: 2"), PeerNode.peer("first", b.port, "pull", ", order: 1"),
    ])
    #expect(try a.knows("first") && a.knows("second"))
    #expect(try b.put("both", "1") == 200 && c.put("both", "2") == 200 && c.put("late", "3") == 200)
    #expect(try a.put("own", "4") == 200)
    #expect(try a.value("both") == "1" && a.value("late") == "3" && a.value("own") == "4" && a.value("none") == nil)
    // Answered, not stored; and a list is of what is here.
    let listed = try HTTPConnection(port: a.port).get("/api/v1/list/mutable/open").text
    #expect(listed.contains("own") && !listed.contains("both"))
    // Nothing is pushed to them.
    #expect(try b.value("own") == nil)
    let multi = try HTTPConnection(port: a.port).post(
      "/api/v1/read-multi",
      #"{"uris":["mutable://open/own","mutable://open/none","mutable://open/late","mutable://open/both"]}"#)
    #expect(multi.status == 200)
    for value in ["1", "3", "4"] { #expect(multi.text.contains("\"data\":\(value)"), "\(multi.text)") }
    #expect(multi.text.contains("\"succeeded\":3"), "\(multi.text)")
    #expect(try a.count("backplane_peer_pulls_total", "first", "result=\"hit\"") == 2)
    #expect(try a.count("backplane_peer_pulls_total", "second", "result=\"hit\"") == 2)
    // A delete is of what is here too.
    let client = try HTTPConnection(port: a.port)
    #expect(try client.request("DELETE", "/api/v1/delete/mutable/open/late").status == 404)
    #expect(try c.value("late") == "3")
    // Without the first one the second is asked.
    b.kill()
    #expect(try a.value("both") == "2")
    c.kill()
    #expect(try a.value("both") == nil)
    #expect(try a.process.health().status == 200)
  }

  @Test(.timeLimit(.minutes(3))) func mutualMissesEnd() throws {
    let (left, right) = (FreePort.find(), FreePort.find())
    let a = try PeerNode(port: left, [PeerNode.peer("right", right, "bidirectional")])
    let b = try PeerNode(port: right, [PeerNode.peer("left", left, "bidirectional")])
    // A peer that is known to be away is not asked.
    #expect(try a.knows("right") && b.knows("left"))
    for number in 0..<20 {
      #expect(try a.value("missing\(number)") == nil)
      #expect(try b.value("missing\(number)") == nil)
    }
    #expect(try Polling.until(seconds: 60) { try a.requests("read") >= 40 && b.requests("read") >= 40 })
    #expect(try a.requests("read") == 40 && b.requests("read") == 40)
    #expect(try a.count("backplane_peer_pulls_total", "right", "result=\"miss\"") == 20)
    // A client that says that it is another node is answered from here alone.
    #expect(try b.put("there", "1") == 200)
    #expect(try b.isLevel("left"))
    let forwarded = try HTTPConnection(port: left).request(
      "GET", "/api/v1/read/mutable/open/missing", headers: ["backplane-forwarded": "1"])
    #expect(forwarded.status == 404)
    #expect(try b.requests("read") == 40)
  }

  @Test(.timeLimit(.minutes(3))) func whatAnotherNodeSaysOverAWebSocketGoesNoFurther() throws {
    let b = try PeerNode()
    let a = try PeerNode([PeerNode.peer("b", b.port, "bidirectional")])
    #expect(try a.knows("b"))
    #expect(try b.put("there", "1") == 200)
    let forwarded = try WebSocketClient(port: a.port, headers: ["backplane-forwarded": "1"])
    let plain = try WebSocketClient(port: a.port)
    let read = #"{"id":1,"type":"read","payload":{"uri":"mutable://open/there"}}"#
    #expect(try !forwarded.ask(read).contains("record"))
    #expect(try plain.ask(read).contains("record"))
    func receive(_ name: String) -> String {
      #"{"id":1,"type":"receive","payload":{"tx":["mutable://open/\#(name)",1]}}"#
    }
    #expect(try forwarded.ask(receive("further")).contains(#""accepted":true"#))
    #expect(try plain.ask(receive("here")).contains(#""accepted":true"#))
    #expect(try a.isLevel("b"))
    #expect(try b.value("here") == "1" && b.value("further") == nil)
    #expect(try a.count("backplane_peer_pushed_total", "b") == 1)
  }

  /// A peer that never answers costs its time a few times, not at every miss.
  @Test(.timeLimit(.minutes(3))) func aSilentPeerIsLeftAlone() throws {
    let silent = try SilentServer()
    defer { withExtendedLifetime(silent) {} }
    let a = try PeerNode([
      PeerNode.peer(
        "slow", silent.port, "pull",
        ", timeout_ms: 1000, connect_timeout_ms: 100, health_interval_ms: 60000, pull: {timeout_ms: 300}"
      ).replacing("health_interval_ms: 100, ", with: "")
    ])
    let start = Date()
    for number in 0..<200 { #expect(try a.value("missing\(number)") == nil) }
    // 200 times 300 ms would be a minute.
    #expect(Date().timeIntervalSince(start) < 30)
    let timeouts = try a.count("backplane_peer_pulls_total", "slow", "result=\"timeout\"")
    let skipped = try a.count("backplane_peer_pulls_total", "slow", "result=\"skipped\"")
    #expect(timeouts + skipped == 200 && skipped >= 100, "\(timeouts) \(skipped)")
    #expect(try a.process.health().status == 200)
  }

  @Test(.timeLimit(.minutes(3))) func peersAloneAreNoNode() throws {
    let node = try NodeProcess(
      plugins: PeerNode.plugins, environment: ["PORT": ""],
      configuration: "slots:\n  \(PeerNode.peer("b", FreePort.find(), "push"))\n", waits: false)
    node.expectsEnd()
    #expect(Polling.until(seconds: 60) { !node.isRunning })
    #expect(node.log.contains("The node has peers (b) and no backend of its own"), "\(node.log)")
  }
}
