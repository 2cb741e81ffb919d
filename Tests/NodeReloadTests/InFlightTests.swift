import Foundation
import NodeTesting
import Testing

@Suite struct InFlight {
  @Test func callsEndOnTheGenerationTheyBeganOn() throws {
    let toy = try ToyNode()
    try toy.set("hold")
    let port = toy.node.port
    let answers = Shared<[String]>([])
    let clients = TestThreads()
    for number in 0..<12 {
      clients.start {
        let text: String
        do {
          let connection = try HTTPConnection(port: port)
          let answer =
            number < 8
            ? try connection.get("/api/v1/read/mutable/open/slow/\(number)")
            : try connection.post("/api/v1/receive", #"{"tx":["mutable://open/slow/\#(number)",1]}"#)
          text = "\(answer.status) \(answer.text)"
        } catch { text = "\(error)" }
        answers.with { $0.append(text) }
      }
    }
    #expect(Polling.until { toy.events.filter { $0 == "1.0.0 holds" }.count == 12 })

    try toy.drop(Toy(version: "2.0.0"))
    #expect(try toy.reload().outcome == "applied")
    // New calls go to the new one, while the old one still has its own.
    #expect(try toy.servingVersion() == "2.0.0")
    #expect(try toy.node.metric("backplane_generations_held") == 1)
    #expect(answers.with { $0 } == [])
    #expect(!toy.events.contains("1.0.0 quiesce"))
    let notes = try toy.node.ask(["command": "status"])["notes"] as? [String] ?? []
    #expect(notes.contains { $0.contains("generation 1 is still held by 12 leases") }, "\(notes)")

    try toy.set("hold", false)
    #expect(clients.join(seconds: 20))
    let all = answers.with { $0 }
    #expect(all.filter { $0.hasPrefix("200") && $0.contains(#""version":"1.0.0""#) }.count == 8, "\(all)")
    #expect(all.filter { $0.hasPrefix("200") }.count == 12, "\(all)")
    #expect(Polling.until { toy.events.last == "1.0.0 destroy" }, "\(toy.events)")
    #expect(toy.events.suffix(3) == ["1.0.0 quiesce", "1.0.0 stop", "1.0.0 destroy"])
    #expect(try Polling.until { try toy.node.metric("backplane_generations_held") == 0 })
  }

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
