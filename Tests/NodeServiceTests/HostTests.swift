import Foundation
import NodeTesting
import Testing

/// What a service has of its host, in the node's process and in its own.
@Suite struct ServiceHost {
  static let places = ["in", "process"]

  @Test(arguments: places) func timersComeAndGoWithIt(_ place: String) throws {
    let clerk = try ClerkNode(keys: "isolation: \(place), mode: ticks")
    #expect(clerk.comes("1.0.0 tick 10 0"), "\(clerk.node.log)")
    #expect(try clerk.node.metric("backplane_timers ") == 1)
    try clerk.drop("1.1.0")
    #expect(try clerk.node.reloadDirectly(now: ["*"]).outcome == "applied")
    #expect(clerk.comes("1.0.0 stop") && clerk.comes("1.1.0 tick 10 0"), "\(clerk.node.log)")
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
    let events = clerk.events
    // The last one ended with its instance: BP_CANCELLED or BP_CLOSED.
    #expect(
      events.contains { $0.hasPrefix("1.0.0 tick ") && ($0.hasSuffix(" 1") || $0.hasSuffix(" 20")) }, "\(events)")
    let last = try #require(events.lastIndex { $0.hasPrefix("1.0.0 tick") })
    #expect(try last < #require(events.firstIndex(of: "1.0.0 stop")), "\(events)")
  }

  @Test(arguments: places) func soManyTimersAndNoMore(_ place: String) throws {
    let clerk = try ClerkNode(keys: "isolation: \(place), mode: hoards")
    #expect(clerk.comes("1.0.0 hoards 1024"), "\(clerk.node.log)")
    // One was refused, one given up.
    #expect(clerk.comes("1.0.0 timer 8") && clerk.comes("1.0.0 timer 1"), "\(clerk.events)")
    #expect(try Polling.until { try clerk.node.metric("backplane_timers ") == 1023 })
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
    #expect(clerk.events.suffix(2) == ["1.0.0 quiesce", "1.0.0 stop"])
  }

  @Test(arguments: places) func itKnowsOfTheNode(_ place: String) throws {
    let clerk = try ClerkNode(keys: "isolation: \(place), mode: counts")
    #expect(clerk.comes("1.0.0 ready 0"), "\(clerk.node.log)")
    for number in 0..<4 { #expect(try clerk.node.put("mutable://open/\(number)", "1").status == 200) }
    #expect(try clerk.node.put("nowhere://open/1", "1").status != 0)
    #expect(try clerk.node.read("mutable/open/1").status == 200)
    #expect(try clerk.node.read("mutable/open/none").status == 404)
    #expect(try HTTPConnection(port: clerk.node.port).get("/api/v1/list/mutable/open").status == 200)
    #expect(
      try HTTPConnection(port: clerk.node.port).request("DELETE", "/api/v1/delete/mutable/open/1").status == 200)
    #expect(try clerk.node.metric("backplane_requests_total", "operation=\"list\"", "code=\"ok\"") == 1)
    #expect(try clerk.node.metric("backplane_request_seconds_count", "operation=\"remove\"") == 1)
    #expect(clerk.node.stop() == 0, "\(clerk.node.log)")
    let events = clerk.events
    #expect(events.contains("1.0.0 counted receive 6 0 6 timed"), "\(events)")
    #expect(events.contains("1.0.0 counted read 2 0 2 timed"), "\(events)")
    #expect(events.contains("1.0.0 counted read_multi 0 0 0 untimed"), "\(events)")
    #expect(events.contains("1.0.0 counted list 1 0 1 timed"), "\(events)")
    #expect(events.contains("1.0.0 counted remove 1 0 1 timed"), "\(events)")
    #expect(events.contains("1.0.0 slot primary backend 0") && events.contains("1.0.0 slot clerk service 0"))
    #expect(events.contains("1.0.0 slot http transport 0"), "\(events)")
  }

  @Test(.timeLimit(.minutes(5)), arguments: places) func reloadsLeaveNothingBehind(_ place: String) throws {
    let clerk = try ClerkNode(keys: "isolation: \(place), mode: ticks")
    let node = clerk.node
    /// Replaces it by the same file with other words in its configuration, and waits until it is there alone.
    func replace(_ number: Int) throws {
      try clerk.configure(keys: "isolation: \(place), mode: ticks, word: w\(number)")
      #expect(try node.reloadDirectly(now: ["*"]).outcome == "applied", "\(node.log)")
      #expect(
        clerk.comes("1.0.0 ready 0", count: number + 1) && clerk.comes("1.0.0 stop", count: number), "\(node.log)")
    }
    #expect(clerk.comes("1.0.0 ready 0"), "\(node.log)")
    for number in 1...3 { try replace(number) }
    // What a moment had too many or too few of, the next has not.
    func settled() -> (threads: Int, descriptors: Int) {
      var last = node.resources()
      var same = 0
      _ = Polling.until {
        let now = node.resources()
        same = now == last ? same + 1 : 0
        last = now
        return same >= 20
      }
      return last
    }
    let before = settled()
    for number in 4...14 { try replace(number) }
    #expect(Polling.until { node.resources() == before }, "\(before) \(node.resources()) \(node.resourceNames())")
    #expect(try Polling.until { try node.metric("backplane_timers ") == 1 })
    #expect(node.stop() == 0, "\(node.log)")
  }
}
