import Foundation
import NodeTesting
import Testing

/// A request on a thread of its own: it takes as long as the node lets it.
final class Waiting: @unchecked Sendable {
  // @unchecked: `received` is written before the signal and read after it.
  private var received: HTTPConnection.Answer?
  private let ended = DispatchSemaphore(value: 0)

  init(_ port: Int, _ method: String, _ path: String, _ body: String? = nil) {
    Thread.detachNewThread { [self] in
      received = try? HTTPConnection(port: port).request(method, path, body: body.map { Array($0.utf8) })
      ended.signal()
    }
  }

  /// The answer; nil when none comes within 20 s, or the connection breaks.
  func answer() -> HTTPConnection.Answer? {
    guard ended.wait(timeout: .now() + 20) == .success else { return nil }
    return received
  }
}

/// Drains with small limits: 400 ms to the report, 800 ms to the cancel, 300 ms of grace.
@Suite struct Drains {
  /// A reload while one request of the old instance hangs.
  private func replace(_ rogue: RogueNode, version: String = "2.0.0") throws {
    try rogue.drop(Rogue(version: version))
    let receipt = try rogue.node.reloadDirectly(now: ["*"], losesState: true)
    #expect(receipt.outcome == "applied", "\(receipt)")
  }

  private func firstHeld(_ generation: [String: Any]?) -> [String: Any] {
    (generation?["held"] as? [[String: Any]])?.first ?? [:]
  }

  @Test func whoHoldsAGenerationIsShownAndWhatNeverCompletesIsWedged() throws {
    let rogue = try RogueNode(Rogue(readMode: "BP_MODE_ASYNC"))
    let waiting = Waiting(rogue.node.port, "GET", "/api/v1/read/mutable/open/read-lost")
    #expect(try Polling.until { try rogue.slot()["in_flight"] as? Int == 1 })
    try replace(rogue)

    let draining = try rogue.held("draining")
    #expect(draining?["number"] as? Int == 1 && draining?["leases"] as? Int == 1, "\(draining ?? [:])")
    let lease = firstHeld(draining)
    #expect(lease["request"] as? String == "read" && lease["call"] as? String == "read", "\(lease)")
    #expect(lease["slot"] as? String == "rogue" && lease["version"] as? String == "1.0.0", "\(lease)")
    #expect(
      (lease["peer"] as? String)?.contains("127.0.0.1") == true && lease["answered"] as? Bool == false, "\(lease)")

    // The soft limit names it, the hard one answers its client.
    #expect(Polling.until { rogue.node.log.contains("a superseded generation is still held") })
    #expect(rogue.node.log.contains("read in slot 'rogue'"))
    #expect(waiting.answer()?.status == 503)
    // It does not come back: its instance is written off, and the node says so.
    #expect(try Polling.until { try rogue.node.metric("backplane_instances_wedged_total") == 1 })
    #expect(firstHeld(try rogue.held("wedged"))["answered"] as? Bool == true)
    let wedged = try rogue.node.ask(["command": "generations"])["wedged"] as? [[String: Any]] ?? []
    #expect(wedged.map { $0["slot"] as? String } == ["rogue"] && wedged.map { $0["call"] as? String } == ["read"])
    #expect(rogue.node.log.contains("an instance is wedged"))
    #expect(try rogue.slot()["state"] as? String == "degraded")
    #expect(try rogue.node.metric("backplane_instances_wedged_total") == 1)
    let text = try rogue.node.command(["generations", "--control", rogue.node.controlSocket]).output
    #expect(text.contains("Generation 1, wedged") && text.contains("Wedged: slot rogue"), "\(text)")

    // It blocks neither the next reload, nor its retirement, nor the end.
    try replace(rogue, version: "3.0.0")
    #expect(try rogue.slot()["version"] as? String == "3.0.0")
    #expect(try Polling.until { try rogue.generations().count == 2 })
    #expect(try rogue.node.put("mutable://open/a", "1").status == 200)
    let began = Date()
    #expect(rogue.node.stop() == 0)
    #expect(Date().timeIntervalSince(began) < 10)
  }

  @Test func aCallThatComesBackLateEndsQuietly() throws {
    let rogue = try RogueNode()
    try rogue.set("hold")
    let waiting = Waiting(rogue.node.port, "POST", "/api/v1/receive", #"{"tx":["mutable://open/apply-stuck",1]}"#)
    #expect(try Polling.until { try rogue.slot()["in_flight"] as? Int == 1 })
    try replace(rogue)
    #expect(try firstHeld(rogue.held("draining"))["request"] as? String == "receive")
    let answer = waiting.answer()
    #expect(answer?.status == 503, "\(answer?.text ?? "none")")
    #expect(try Polling.until { try rogue.node.metric("backplane_instances_wedged_total") == 1 })
    try rogue.set("hold", false)
    // The write arrives, nobody waits for it, and the generation goes with it; the instance stays written off.
    #expect(try Polling.until { try rogue.generations().map { $0["state"] as? String } == ["published"] })
    #expect(try rogue.node.metric("backplane_instances_wedged_total") == 1)
    #expect(try rogue.node.put("mutable://open/a", "1").status == 200)
    #expect(rogue.node.stop() == 0)
  }

  @Test func theOtherInstancesOfAWedgedGenerationRetire() throws {
    let rogue = try RogueNode(Rogue(readMode: "BP_MODE_ASYNC"))
    let waiting = Waiting(rogue.node.port, "GET", "/api/v1/read/mutable/open/read-lost")
    #expect(try Polling.until { try rogue.slot()["in_flight"] as? Int == 1 })
    // Both leave at once.
    try rogue.drop(Rogue(version: "2.0.0"))
    try PluginFile.drop(
      BuiltProducts.plugin("schema-permissive"), into: rogue.node.pluginsDirectory,
      as: "libbackplane-schema-permissive.so", stamp: "another build")
    let receipt = try rogue.node.reloadDirectly(now: ["*"], losesState: true)
    #expect(receipt.changes.sorted() == ["rogue:replaced", "schema:replaced"], "\(receipt)")
    #expect(waiting.answer()?.status == 503)
    #expect(try Polling.until { try rogue.node.metric("backplane_instances_wedged_total") == 1 })
    let wedged = try rogue.node.ask(["command": "generations"])["wedged"] as? [[String: Any]] ?? []
    #expect(wedged.map { $0["slot"] as? String } == ["rogue"])
    #expect(rogue.node.stop() == 0)
  }

  @Test func aStopThatDoesNotComeBackDoesNotHoldTheNode() throws {
    let rogue = try RogueNode(settings: "node: {name: stuck}")
    try rogue.set("stop-stuck")
    rogue.node.signal(SIGTERM)
    let began = Date()
    #expect(rogue.node.wait() == 0)
    #expect(Date().timeIntervalSince(began) < 20, "\(rogue.node.log)")
  }
}
