import Foundation
import NodeTesting
import Testing

@Suite struct InFlight {
  /// One after the other in one node: what hangs in quiesce, stop or destroy is written off and disturbs nobody.
  @Test func whatHangsOnItsWayOutIsWedgedAndNamed() throws {
    let steps = ["quiesce", "stop", "destroy"]
    let toy = try ToyNode(Toy(version: "1.0.0", hang: steps[0]))
    for (index, step) in steps.enumerated() {
      let next = index + 1 < steps.count ? steps[index + 1] : ""
      try toy.drop(Toy(version: "\(index + 2).0.0", hang: next))
      #expect(try toy.reload().outcome == "applied")
      #expect(try toy.servingVersion() == "\(index + 2).0.0")
      #expect(
        try Polling.until(seconds: 30, everyMs: 50) {
          try toy.node.metric("backplane_instances_wedged_total") == Double(index + 1)
        })
      let line = toy.node.log.split(separator: "\n").last { $0.contains("wedged") } ?? ""
      #expect(line.contains("slot=toy") && line.contains("in=\(step)") && line.contains("version=\(index + 1).0.0"))
    }
    try toy.drop(Toy(version: "9.0.0"))
    #expect(try toy.reload().outcome == "applied")
    #expect(try toy.servingVersion() == "9.0.0")
    #expect(Polling.until { toy.events.last == "4.0.0 destroy" }, "\(toy.events)")
  }

  @Test func aClientIsAnsweredAtItsDeadlineAndTheLateCompletionIsCounted() throws {
    let toy = try ToyNode(settings: "limits: {request_timeout_ms: 300}")
    try toy.set("hold")
    let start = Date()
    let answer = try toy.node.read("mutable/open/slow/1")
    #expect(answer.status == 504, "\(answer.text)")
    #expect(answer.text.contains("deadline"))
    let written = try toy.node.put("mutable://open/slow/2", "1")
    #expect(written.status == 504, "\(written.text)")
    // Two deadlines of 300 ms, not the transport's 30 s.
    #expect(Date().timeIntervalSince(start) < 10)
    #expect(try toy.node.metric("backplane_calls_in_flight", "slot=\"toy\"") == 2)
    #expect(try toy.node.metric("backplane_calls_total", "slot=\"toy\"", "operation=\"read\"") == nil)
    try toy.set("hold", false)
    #expect(try Polling.until { try toy.node.metric("backplane_calls_in_flight", "slot=\"toy\"") == 0 })
    #expect(try toy.node.metric("backplane_calls_total", "slot=\"toy\"", "operation=\"read\"", "code=\"ok\"") == 1)
    #expect(try toy.node.metric("backplane_calls_total", "slot=\"toy\"", "operation=\"apply\"", "code=\"ok\"") == 1)
    #expect(try toy.servingVersion() == "1.0.0")
  }
}
