import Foundation
import NodeTesting
import Testing

/// What a service is told of the node, in the node's process and in its own.
@Suite struct ServiceLife {
  static let places = ["in", "process"]

  @Test(arguments: places) func itIsToldThatTheNodeServesAndThatItEnds(_ place: String) throws {
    let clerk = try ClerkNode(keys: "isolation: \(place)")
    #expect(clerk.comes("1.0.0 ready 0"), "\(clerk.node.log)")
    // What it wrote then went the way of any write.
    let answer = try clerk.node.read("mutable/open/clerk/ready")
    #expect(answer.status == 200 && answer.text.contains("\"1.0.0\""), "\(answer)")
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
    #expect(
      clerk.events == [
        "1.0.0 start", "1.0.0 told", "1.0.0 ready 0", "1.0.0 ends", "1.0.0 ending 0", "1.0.0 quiesce", "1.0.0 stop",
      ], "\(clerk.node.log)")
  }

  @Test(arguments: places) func oneThatIsReplacedIsNotToldThatTheNodeEnds(_ place: String) throws {
    let clerk = try ClerkNode(keys: "isolation: \(place)")
    #expect(clerk.comes("1.0.0 ready 0"), "\(clerk.node.log)")
    try clerk.drop("1.1.0")
    let receipt = try clerk.node.reloadDirectly(now: ["*"])
    #expect(receipt.outcome == "applied", "\(receipt)")
    #expect(clerk.comes("1.1.0 ready 0"), "\(clerk.node.log)")
    #expect(clerk.comes("1.0.0 stop"), "\(clerk.node.log)")
    // It is told once, whatever is published after it.
    try clerk.configure(settings: "node: {write_policy: all}", keys: "isolation: \(place)")
    let second = try clerk.node.reloadDirectly(now: ["*"])
    #expect(second.outcome == "applied", "\(second)")
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
    let events = clerk.events
    #expect(events.filter { $0 == "1.0.0 ends" }.isEmpty, "\(events)")
    #expect(events.filter { $0 == "1.1.0 told" }.count == 1, "\(events)")
    #expect(events.filter { $0 == "1.1.0 ending 0" }.count == 1, "\(events)")
  }

  @Test func oneOfItsKindStopsBeforeItsSuccessorStarts() throws {
    let clerk = try ClerkNode(handover: "stop-then-start")
    #expect(clerk.comes("1.0.0 ready 0"), "\(clerk.node.log)")
    try clerk.drop("1.1.0", handover: "stop-then-start")
    let receipt = try clerk.node.reloadDirectly(now: ["*"])
    #expect(receipt.outcome == "applied" && receipt.changes == ["clerk:replaced"], "\(receipt)")
    #expect(clerk.comes("1.1.0 ready 0"), "\(clerk.node.log)")
    #expect(
      clerk.events == [
        "1.0.0 start", "1.0.0 told", "1.0.0 ready 0", "1.0.0 quiesce", "1.0.0 stop", "1.1.0 start", "1.1.0 told",
        "1.1.0 ready 0",
      ])
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
  }

  @Test(arguments: places) func aFailureLeavesTheNodeDegradedAndServing(_ place: String) throws {
    let clerk = try ClerkNode(keys: "isolation: \(place), mode: fails")
    let node = clerk.node
    #expect(try Polling.until { try node.health().text.contains("degraded") }, "\(node.log)")
    let status = try #require(try node.ask(["command": "status"])["slots"] as? [[String: Any]])
    let slot = try #require(status.first { $0["name"] as? String == "clerk" })
    #expect(slot["state"] as? String == "unhealthy")
    #expect(slot["message"] as? String == "node_ready failed: the clerk was told to fail")
    #expect(try node.put("mutable://open/a", "1").status == 200)
    #expect(node.stop() == 0, "\(node.log)")
  }

  @Test func oneThatIsLateIsUnhealthyUntilItIsThere() throws {
    let clerk = try ClerkNode(keys: "mode: late")
    let node = clerk.node
    func health() throws -> String { try node.health().text }
    #expect(try Polling.until { try health().contains("degraded") }, "\(node.log)")
    #expect(node.log.contains("node_ready had not been completed in time (reload.start_timeout_ms)"))
    try clerk.folder.write("", to: clerk.stateDirectory + "/go")
    #expect(clerk.comes("1.0.0 late"))
    #expect(try Polling.until { try !health().contains("degraded") }, "\(node.log)")
    #expect(node.stop() == 0, "\(node.log)")
  }

  @Test func theEndDoesNotWaitForOneThatIsDeaf() throws {
    let clerk = try ClerkNode(keys: "mode: deaf")
    #expect(clerk.comes("1.0.0 ready 0"), "\(clerk.node.log)")
    let clock = ContinuousClock()
    let start = clock.now
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
    // A quarter of reload.drain_soft_ms at least.
    #expect(clock.now - start >= .milliseconds(900))
    #expect(clerk.node.log.contains("node_ending had not been completed in time"), "\(clerk.node.log)")
    #expect(clerk.events.suffix(3) == ["1.0.0 ends", "1.0.0 quiesce", "1.0.0 stop"])
  }

  @Test func aProcessThatTakesTheNodeOverTellsItAgain() throws {
    let clerk = try ClerkNode()
    #expect(clerk.comes("1.0.0 ready 0"), "\(clerk.node.log)")
    let receipt = try clerk.node.upgrade()
    #expect(receipt.outcome == "applied", "\(receipt)\n\(clerk.node.log)")
    #expect(clerk.comes("1.0.0 ready 0", count: 2), "\(clerk.node.log)")
    #expect(clerk.comes("1.0.0 stop"), "\(clerk.node.log)")
    #expect(!clerk.events.contains("1.0.0 ends"))
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
    #expect(clerk.events.filter { $0 == "1.0.0 ending 0" }.count == 1, "\(clerk.events)\n\(clerk.node.log)")
  }

  @Test func oneOfItsKindIsTakenOverToo() throws {
    let clerk = try ClerkNode(handover: "stop-then-start")
    #expect(clerk.comes("1.0.0 ready 0"), "\(clerk.node.log)")
    #expect(try clerk.node.upgrade().outcome == "applied", "\(clerk.node.log)")
    #expect(clerk.comes("1.0.0 ready 0", count: 2), "\(clerk.node.log)")
    #expect(
      clerk.events == [
        "1.0.0 start", "1.0.0 told", "1.0.0 ready 0", "1.0.0 quiesce", "1.0.0 stop", "1.0.0 start", "1.0.0 told",
        "1.0.0 ready 0",
      ], "\(clerk.node.log)")
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
  }

  @Test func aNewProcessOfItsOwnIsToldToo() throws {
    let clerk = try ClerkNode(keys: "isolation: process")
    #expect(clerk.comes("1.0.0 ready 0"), "\(clerk.node.log)")
    let child = try #require(clerk.node.children.first)
    kill(child, SIGKILL)
    #expect(clerk.comes("1.0.0 ready 0", count: 2), "\(clerk.node.log)")
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
    #expect(clerk.events.filter { $0 == "1.0.0 ending 0" }.count == 1)
  }
}
