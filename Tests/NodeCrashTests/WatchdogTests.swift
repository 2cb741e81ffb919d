import Foundation
import NodeTesting
import Testing

/// What the watchdog says of plugins that misbehave while they serve: the node goes on. A call counts as stuck after
/// 300 ms here.
@Suite struct Watchdogs {
  @Test func aStuckDirectCallIsNamed() throws {
    let rogue = try RogueNode()
    try rogue.set("hold")
    let waiting = Waiting(rogue.node.port, "GET", "/api/v1/read/mutable/open/read-stuck")
    #expect(Polling.until { rogue.node.log.contains("a thread is stuck in a plugin") }, "\(rogue.node.log)")
    let line = try #require(rogue.node.log.split(separator: "\n").first { $0.contains("a thread is stuck") })
    for part in ["slot=rogue", "plugin=\(Rogue.id)", "version=1.0.0", "call=read", "generation=1"] {
      #expect(line.contains(part), "\(line)")
    }
    #expect(try rogue.slot()["state"] as? String == "degraded")
    #expect((try rogue.slot()["message"] as? String)?.contains("stuck") == true)
    let held = try #require(try rogue.held("published")?["held"] as? [[String: Any]])
    #expect(held.contains { $0["call"] as? String == "read" && $0["slot"] as? String == "rogue" }, "\(held)")
    try rogue.set("hold", false)
    #expect(waiting.answer()?.status == 404)
    #expect(Polling.until { rogue.node.log.contains("a call that was stuck has come back") })
    #expect(try Polling.until { try rogue.slot()["state"] as? String == "healthy" })
    #expect(rogue.node.stop() == 0)
  }

  @Test func callsThatAreNeverCompletedAreCounted() throws {
    let rogue = try RogueNode(Rogue(readMode: "BP_MODE_ASYNC"), settings: "limits: {request_timeout_ms: 200}")
    let answer = Waiting(rogue.node.port, "GET", "/api/v1/read/mutable/open/read-lost").answer()
    #expect(answer?.status == 504 || answer?.status == 503, "\(answer?.text ?? "none")")
    #expect(
      try Polling.until { try rogue.node.metric("backplane_calls_stuck", #"slot="rogue""#) == 1 }, "\(rogue.node.log)")
    #expect(rogue.node.log.contains("does not complete calls that were given up long ago"))
    #expect((try rogue.slot()["message"] as? String)?.contains("has not completed 1 call") == true)
    #expect(try rogue.node.put("mutable://open/a", "1").status == 200)
  }

  @Test func aCallThatIsCompletedTwiceCountsOnce() throws {
    let rogue = try RogueNode()
    #expect(try rogue.node.read("mutable/open/read-twice").status == 404)
    #expect(try rogue.node.metric("backplane_slot_completions_ignored_total", #"slot="rogue""#) == 1)
    #expect(Polling.until { rogue.node.log.contains("a plugin completed calls that were not open") })
    #expect(try rogue.slot()["state"] as? String == "degraded")
  }

  @Test func descriptorsThatAPluginClosesArePutBack() throws {
    let rogue = try RogueNode()
    #expect(try rogue.node.read("mutable/open/read-close").status == 404)
    func lines() -> [Substring] {
      rogue.node.log.split(separator: "\n").filter { $0.contains("a descriptor of the kernel's was taken from it") }
    }
    // One is put back after the other.
    for name in ["the control socket", "the listening socket"] {
      #expect(Polling.until { lines().contains { $0.contains(name) && $0.contains("put back") } }, "\(lines())")
    }
    #expect(lines().allSatisfy { $0.contains(Rogue.id) })
    // Both are good again: a question, and a transport that borrows the socket anew.
    #expect(try rogue.generations().count == 1)
    try PluginFile.drop(
      BuiltProducts.plugin("transport-http"), into: rogue.node.pluginsDirectory, as: "libbackplane-transport-http.so",
      stamp: "another build")
    #expect(try rogue.node.reloadDirectly(now: ["*"]).outcome == "applied")
    #expect(try rogue.node.put("mutable://open/a", "1").status == 200)
    #expect(try rogue.node.metric("backplane_descriptors_lost_total") == 2)
    #expect(rogue.node.stop() == 0)
  }
}
