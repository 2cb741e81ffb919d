import Foundation
import NodeTesting
import Testing

/// Real nodes that are each other's peers: what one accepts, the others get.
@Suite(.serialized) struct PushTests {
  @Test(.timeLimit(.minutes(3))) func aWriteIsSentOnceEachWay() throws {
    let (left, right) = (FreePort.find(), FreePort.find())
    let a = try PeerNode(port: left, [PeerNode.peer("right", right, "bidirectional")])
    let b = try PeerNode(port: right, [PeerNode.peer("left", left, "bidirectional")])
    let (fromA, fromB) = ((0..<40).map { "a\($0)" }, (0..<30).map { "b\($0)" })
    #expect(try a.put(fromA) == fromA)
    #expect(try b.put(fromB) == fromB)
    #expect(try a.isLevel("right") && b.isLevel("left"))
    #expect(try a.missing(fromA + fromB).isEmpty && b.missing(fromA + fromB).isEmpty)
    // Each has seen its own clients' messages and the other's, and none twice. Counters are reported once a second.
    #expect(try Polling.until(seconds: 60) { try a.requests("receive") >= 70 && b.requests("receive") >= 70 })
    #expect(try a.count("backplane_peer_pushed_total", "right") == 40)
    #expect(try b.count("backplane_peer_pushed_total", "left") == 30)
    // One that came round again would have been sent by now: it goes out before what follows it.
    #expect(try a.put("last", "1") == 200)
    #expect(try Polling.until(seconds: 60) { try b.value("last") == "1" })
    #expect(try Polling.until(seconds: 60) { try a.requests("receive") >= 71 && b.requests("receive") >= 71 })
    #expect(try a.requests("receive") == 71 && b.requests("receive") == 71)
  }

  @Test(.timeLimit(.minutes(3))) func everyPeerGetsDeletesAndEnvelopes() throws {
    let (b, c) = (try PeerNode(), try PeerNode())
    let a = try PeerNode([PeerNode.peer("b", b.port, "push"), PeerNode.peer("c", c.port, "push")])
    #expect(try a.put("gone", "1") == 200)
    #expect(try a.put("kept", "[1.0]") == 200)
    #expect(try a.put("onlyhere", "1") == 200)
    #expect(try a.isLevel("b") && a.isLevel("c"))
    // The other node has it no more: that is what is wanted.
    #expect(try HTTPConnection(port: b.port).request("DELETE", "/api/v1/delete/mutable/open/onlyhere").status == 200)
    let client = try HTTPConnection(port: a.port)
    for name in ["gone", "onlyhere"] {
      #expect(try client.request("DELETE", "/api/v1/delete/mutable/open/\(name)").status == 200)
    }
    let envelope =
      #"{"payload":{"inputs":[],"outputs":[["mutable://open/x",{"n":1.0}],["#
      + #""mutable://open/y",{"__b3nd_binary__":true,"encoding":"base64","data":"AP8="}]]}}"#
    #expect(try a.put("envelope", envelope) == 200)
    #expect(try a.isLevel("b") && a.isLevel("c"))
    for peer in [b, c] {
      #expect(try peer.value("gone") == nil && peer.value("onlyhere") == nil)
      #expect(try peer.value("kept") == "[1.0]" && peer.value("x") == #"{"n":1.0}"#)
      #expect(try peer.process.read("mutable/open/y").body == [0, 255])
      #expect(try peer.value("envelope") == envelope)
    }
    for slot in ["b", "c"] {
      #expect(try a.count("backplane_peer_pushed_total", slot) == 6)
      #expect(try a.count("backplane_peer_push_refused_total", slot) == 0)
    }
    // An envelope is one message there too.
    #expect(try Polling.until(seconds: 60) { try b.requests("receive") == 4 && c.requests("receive") == 4 })
    let status = try a.process.command(["status"])
    #expect(status.output.contains("Peer b: push; 0 messages wait in memory, 6 pushed"), "\(status)")
  }

  @Test(.timeLimit(.minutes(3))) func anOutageLosesNothingThatHasRoom() throws {
    let away = FreePort.find()
    let a = try PeerNode([PeerNode.peer("b", away, "push")])
    let names = (0..<200).map { "n\($0)" }
    #expect(try a.put(names) == names)
    for value in 0..<50 { #expect(try a.put("same", "\(value)") == 200) }
    #expect(try a.queued("b") == 250)
    let health = try a.process.health()
    #expect(health.status == 200)
    let slot = try #require(try a.slot("b"))
    #expect(slot["state"] as? String == "degraded")
    #expect(try a.process.command(["status"]).output.contains("messages wait for it: "))
    #expect(a.process.log.contains("[peer] Best-effort push failed: "))
    let b = try PeerNode(port: away)
    #expect(try a.isLevel("b"))
    #expect(try b.missing(names).isEmpty)
    #expect(try b.value("same") == "49")
    #expect(try a.count("backplane_peer_pushed_total", "b") == 250)
    // It goes away and comes back, with nothing in it.
    b.kill()
    #expect(try a.put("second", "2") == 200)
    try b.startAgain()
    #expect(try a.isLevel("b"))
    #expect(try b.value("second") == "2")
    #expect(try a.knows("b"))
  }

  @Test(.timeLimit(.minutes(3))) func aFullQueueDropsTheOldest() throws {
    let away = FreePort.find()
    let a = try PeerNode([PeerNode.peer("b", away, "push", ", push: {queue_units_max: 20}")])
    let names = (0..<100).map { "n\($0)" }
    #expect(try a.put(names) == names)
    #expect(try Polling.until(seconds: 60) { try a.queued("b") <= 20 })
    let dropped = try a.count("backplane_peer_push_dropped_total", "b")
    #expect(dropped >= 79 && dropped <= 80)
    #expect(try a.process.command(["status"]).output.contains("its queue was full"))
    #expect(a.process.log.components(separatedBy: "the queue of a peer is full").count == 2)
    let b = try PeerNode(port: away)
    #expect(try a.isLevel("b"))
    // What came last is there.
    #expect(try b.missing(Array(names.suffix(20))).isEmpty)
    #expect(try b.missing(names).count == dropped)
    #expect(try Polling.until(seconds: 60) { a.process.log.contains("is level again") })
  }

  @Test(.timeLimit(.minutes(3))) func whatThePeerRefusesIsDroppedAndSaid() throws {
    // The peer takes no data that long.
    let port = FreePort.find()
    let b = try PeerNode(port: port, environment: ["BACKPLANE_LIMITS_BODY_SIZE_BYTES_MAX": "1000"])
    let a = try PeerNode([PeerNode.peer("b", port, "push")])
    #expect(try a.put("before", "1") == 200)
    #expect(try a.put("large", "\"\(String(repeating: "x", count: 2000))\"") == 200)
    #expect(try a.put("after", "1") == 200)
    #expect(try a.isLevel("b"))
    #expect(try b.value("before") == "1" && b.value("after") == "1" && b.value("large") == nil)
    #expect(try a.count("backplane_peer_push_refused_total", "b") == 1)
    #expect(a.process.log.contains("[peer] Best-effort push failed: "))
    #expect(a.process.log.contains("mutable://open/large"))
  }

  /// Local writes do not wait for a peer that takes connections and never answers, nor does the end of the node.
  @Test(.timeLimit(.minutes(3))) func aSlowPeerSlowsNobody() throws {
    let silent = try SilentServer()
    defer { withExtendedLifetime(silent) {} }
    let a = try PeerNode([
      PeerNode.peer("slow", silent.port, "bidirectional", ", timeout_ms: 1000, connect_timeout_ms: 100")
    ])
    let names = (0..<300).map { "n\($0)" }
    let start = Date()
    #expect(try a.put(names) == names)
    // 300 times the second after which an answer of the peer is not waited for any more: far more than this.
    #expect(Date().timeIntervalSince(start) < 60)
    #expect(try a.queued("slow") == 300)
    #expect(try a.process.health().status == 200)
    #expect(a.process.stop() == 0)
  }

  @Test(.timeLimit(.minutes(3))) func aPeerInAProcessOfItsOwn() throws {
    let b = try PeerNode()
    #expect(try b.put("there", "1") == 200)
    let a = try PeerNode([PeerNode.peer("b", b.port, "bidirectional", ", isolation: process")])
    let names = (0..<50).map { "n\($0)" }
    #expect(try a.put(names) == names)
    #expect(try a.isLevel("b"))
    #expect(try b.missing(names).isEmpty)
    #expect(try a.value("there") == "1")
  }

  /// The mark of a forwarded request goes through a transport in a process of its own.
  @Test(.timeLimit(.minutes(3))) func everythingInProcessesOfItsOwn() throws {
    let (left, right) = (FreePort.find(), FreePort.find())
    let environment = ["BACKPLANE_ISOLATION_DEFAULT": "process"]
    let a = try PeerNode(port: left, [PeerNode.peer("right", right, "bidirectional")], environment: environment)
    let b = try PeerNode(port: right, [PeerNode.peer("left", left, "bidirectional")], environment: environment)
    #expect(try a.put(["one"]) == ["one"] && b.put(["two"]) == ["two"])
    #expect(try a.isLevel("right") && b.isLevel("left"))
    #expect(try a.missing(["one", "two"]).isEmpty && b.missing(["one", "two"]).isEmpty)
    #expect(try a.value("nowhere") == nil)
    #expect(try a.count("backplane_peer_pushed_total", "right") == 1)
    #expect(try b.count("backplane_peer_pushed_total", "left") == 1)
  }
}
