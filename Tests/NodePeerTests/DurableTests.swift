import Foundation
import NodeTesting
import Testing

/// Queues outlive what they belong to: the slot's instance, the process, the slot itself.
@Suite(.serialized) struct DurableTests {
  private static let durable = ", push: {durable: true}"

  @Test(.timeLimit(.minutes(3))) func aKillLosesNoAcknowledgedMessage() throws {
    let away = FreePort.find()
    let a = try PeerNode([PeerNode.peer("b", away, "push", Self.durable)], backend: PeerNode.disk)
    let acknowledged = Shared<[String]>([])
    let port = a.port
    let threads = TestThreads()
    for writer in 0..<4 {
      threads.start {
        guard let connection = try? HTTPConnection(port: port) else { return }
        for number in 0..<100_000 {
          let name = "w\(writer)-\(number)"
          guard
            let answer = try? connection.post("/api/v1/receive", #"{"tx":["mutable://open/\#(name)","\#(name)"]}"#),
            answer.status == 200
          else { return }
          acknowledged.with { $0.append(name) }
        }
      }
    }
    #expect(Polling.until(seconds: 60) { acknowledged.with { $0.count } >= 500 })
    a.kill()
    #expect(threads.join())
    let b = try PeerNode(port: away)
    try a.startAgain()
    #expect(try a.isLevel("b"))
    let names = acknowledged.with { $0 }
    #expect(names.count >= 500)
    #expect(try b.missing(names).isEmpty)
    // What the peer has is not sent again after another kill.
    let before = try a.count("backplane_peer_pushed_total", "b")
    #expect(before >= names.count)
    a.kill()
    try a.startAgain()
    #expect(try a.put("later", "1") == 200)
    #expect(try Polling.until(seconds: 60) { try b.value("later") == "1" })
    #expect(try a.isLevel("b"))
    #expect(try a.count("backplane_peer_pushed_total", "b") == 1)
  }

  @Test(.timeLimit(.minutes(3))) func aQueueOutlivesItsSlotsInstancesAndTheProcess() throws {
    let (wrong, right) = (FreePort.find(), FreePort.find())
    let a = try PeerNode([PeerNode.peer("b", wrong, "push", Self.durable)], backend: PeerNode.disk)
    let names = (0..<100).map { "n\($0)" }
    #expect(try a.put(names) == names)
    // An orderly end and another start.
    #expect(a.process.stop() == 0)
    try a.startAgain()
    #expect(try Polling.until(seconds: 60) { try a.queued("b") == 100 })
    // The kernel takes its own place.
    let upgraded = try a.process.upgrade()
    #expect(upgraded.outcome == "applied", "\(upgraded)")
    #expect(try a.put(["after"]) == ["after"])
    #expect(try Polling.until(seconds: 60) { try a.queued("b") == 101 })
    // The slot is taken out: what waits is kept and named.
    try a.write([])
    _ = try a.process.reload()
    let kept = try a.process.command(["status"]).output
    #expect(kept.contains("no peer 'b' is pushed to, and 101 messages wait for it"), "\(kept)")
    #expect(try a.put(["unsent"]) == ["unsent"])
    // And it comes back with another address.
    let b = try PeerNode(port: right)
    try a.write([PeerNode.peer("b", right, "push", Self.durable)])
    _ = try a.process.reload()
    #expect(try a.isLevel("b"))
    #expect(try b.missing(names + ["after"]).isEmpty)
    #expect(try b.value("unsent") == nil)
  }

  @Test(.timeLimit(.minutes(3))) func theOperatorDropsWhatNobodyNeeds() throws {
    let away = FreePort.find()
    let a = try PeerNode([PeerNode.peer("b", away, "push", Self.durable)], backend: PeerNode.disk)
    #expect(try a.put(["one", "two"]) == ["one", "two"])
    #expect(try a.queued("b") == 2)
    try a.write([])
    _ = try a.process.reload()
    #expect(try a.process.command(["backend", "accept", "b"]).status == 0)
    #expect(try !a.process.command(["status"]).output.contains("messages wait"))
    #expect(try a.process.command(["backend", "accept", "b"]).status != 0)
    try a.write([PeerNode.peer("b", away, "push", Self.durable)])
    _ = try a.process.reload()
    #expect(try a.queued("b") == 0)
  }

  /// A slot whose instance is replaced while messages wait in memory goes on with them.
  @Test(.timeLimit(.minutes(3))) func aReloadedSlotSendsWhatWaited() throws {
    let (wrong, right) = (FreePort.find(), FreePort.find())
    let b = try PeerNode(port: right)
    let a = try PeerNode([PeerNode.peer("b", wrong, "push")])
    let names = (0..<100).map { "n\($0)" }
    #expect(try a.put(names) == names)
    #expect(try a.queued("b") == 100)
    try a.write([PeerNode.peer("b", right, "bidirectional")])
    // The node may have seen the file before it is asked.
    let receipt = try a.process.reload()
    #expect(receipt["outcome"] as? String != "refused", "\(receipt)")
    #expect(try a.isLevel("b"))
    #expect(try b.missing(names).isEmpty)
  }

  /// Also a peer that cannot be started at all keeps nobody from starting.
  @Test(.timeLimit(.minutes(3))) func aPeerThatIsNotThereKeepsNobodyFromStarting() throws {
    // A web server that is no node: the HTTP backend refuses to start with it.
    let stranger = try PeerNode()
    let a = try PeerNode([
      "b: {kind: backend, url: \"http://127.0.0.1:\(stranger.port)/nowhere\", peer: bidirectional}"
    ])
    #expect(try a.put("one", "1") == 200)
    #expect(try a.value("none") == nil)
    #expect(try a.process.health().status == 200)
    let status = try a.process.command(["status"]).output
    #expect(status.contains("slot b is degraded"), "\(status)")
    try a.write([PeerNode.peer("b", stranger.port, "bidirectional")])
    // The node may have seen the file before it is asked.
    let receipt = try a.process.reload()
    #expect(receipt["outcome"] as? String != "refused", "\(receipt)")
    // What was written while nothing served the slot is not lost.
    #expect(try a.isLevel("b"))
    #expect(try stranger.value("one") == "1")
  }
}
