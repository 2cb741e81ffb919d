import Foundation
import NodeTesting
import Testing

/// What a service is told of the node, in the node's process and in its own.
@Suite struct ServiceLife {
  @Test func itIsToldThatTheNodeServesAndThatItEnds() throws {
    let clerk = try ClerkNode()
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

  @Test func oneThatIsReplacedIsNotToldThatTheNodeEnds() throws {
    let clerk = try ClerkNode()
    #expect(clerk.comes("1.0.0 ready 0"), "\(clerk.node.log)")
    try clerk.drop("1.1.0")
    let receipt = try clerk.node.reloadDirectly(now: ["*"])
    #expect(receipt.outcome == "applied", "\(receipt)")
    #expect(clerk.comes("1.1.0 ready 0"), "\(clerk.node.log)")
    #expect(clerk.comes("1.0.0 stop"), "\(clerk.node.log)")
    // It is told once, whatever is published after it.
    try clerk.configure(settings: "node: {write_policy: all}", keys: "")
    let second = try clerk.node.reloadDirectly(now: ["*"])
    #expect(second.outcome == "applied", "\(second)")
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
    let events = clerk.events
    #expect(events.filter { $0 == "1.0.0 ends" }.isEmpty, "\(events)")
    #expect(events.filter { $0 == "1.1.0 told" }.count == 1, "\(events)")
    #expect(events.filter { $0 == "1.1.0 ending 0" }.count == 1, "\(events)")
  }
}
