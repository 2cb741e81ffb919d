import Foundation
import NodeTesting
import PluginAPI
import PluginTestHost
import Synchronization
import Testing

extension WebSocketTests {
  /// What a client sees when the transport is replaced.
  @Suite struct GoodbyeTests {
    private static let read = #"{"id":1,"type":"read","payload":{"uri":"mutable://open/a"}}"#

    /// Begins to quiesce; `true` when it has.
    private static func quiesce(_ fixture: Fixture) -> DispatchSemaphore {
      let done = DispatchSemaphore(value: 0)
      Task {
        try? await fixture.host.quiesce(within: .seconds(60))
        done.signal()
      }
      return done
    }

    @Test func idleOnesAreToldAtOnce() async throws {
      try await withTransport { fixture in
        let clients = try (0..<20).map { _ in try fixture.client() }
        _ = try clients[0].ask(#"{"id":1,"type":"observe","payload":{"uri":""}}"#)
        let done = Self.quiesce(fixture)
        for client in clients {
          #expect(
            try client.readClose() == .init(code: 1001, reason: "The server is being replaced; connect again."))
          #expect(try client.connection.waitForClose())
        }
        // Long before the deadline.
        #expect(done.wait(timeout: .now() + 30) == .success)
        #expect(fixture.feed.subscribers.isEmpty)
      }
    }

    /// What was asked before is answered before the goodbye; what comes after is not executed.
    @Test func whatIsInFlightIsAnsweredFirst() async throws {
      try await withTransport(.shared, #"{"websocket":{"requests_in_flight_max":2}}"#) { fixture in
        let client = try fixture.client()
        fixture.node.shut()
        for id in 0..<3 {
          try client.sendText(#"{"id":\#(id),"type":"receive","payload":{"tx":["mutable://open/\#(id)",\#(id)]}}"#)
        }
        #expect(Polling.until(seconds: 60) { fixture.node.calls == 2 })
        let idle = try fixture.client()
        let done = Self.quiesce(fixture)
        #expect(try idle.readClose()?.code == 1001)
        fixture.node.open()
        var answered: Set<Int> = []
        do {
          while true { answered.insert(Int(JSONValue(try client.readText())?["id"]?.double ?? -1)) }
        } catch let closed as WebSocketClient.Closed { #expect(closed.code == 1001) }
        #expect(answered.isSuperset(of: [0, 1]))
        // The third was read or not: in either case what the client saw is what happened.
        #expect(Set(fixture.node.memory.records.keys) == Set(answered.map { "mutable://open/\($0)" }))
        #expect(done.wait(timeout: .now() + 30) == .success)
      }
    }

    @Test func aMessageThatIsHalfThereIsWaitedFor() async throws {
      try await withTransport { fixture in
        let whole = WebSocketClient.frame(
          1, Array(#"{"id":1,"type":"receive","payload":{"tx":["mutable://open/half",1]}}"#.utf8))
        let inFrame = try fixture.client()
        try inFrame.send(Array(whole.prefix(20)))
        let inMessage = try fixture.client()
        try inMessage.send(WebSocketClient.frame(1, Array(#"{"id":2,"#.utf8), isFinal: false))
        // A pong shows that the half has been read.
        try inMessage.send(WebSocketClient.frame(9, []))
        #expect(try inMessage.readFrame().opcode == 10)
        let idle = try fixture.client()
        #expect(fixture.waits("websocket_connections", is: 3))
        let done = Self.quiesce(fixture)
        #expect(try idle.readClose()?.code == 1001)
        try inFrame.send(Array(whole.dropFirst(20)))
        #expect(try inFrame.readText() == #"{"id":1,"success":true,"data":{"accepted":true}}"#)
        #expect(try inFrame.readClose()?.code == 1001)
        try inMessage.send(WebSocketClient.frame(0, Array(#""type":"getSchema"}"#.utf8)))
        #expect(try inMessage.readText().hasPrefix(#"{"id":2,"success":true"#))
        #expect(try inMessage.readClose()?.code == 1001)
        #expect(done.wait(timeout: .now() + 30) == .success)
      }
    }

    @Test func afterTheGoodbyeNothingIsExecuted() async throws {
      try await withTransport(.shared, #"{"websocket":{"close_timeout_ms":60000}}"#) { fixture in
        let client = try fixture.client()
        let done = Self.quiesce(fixture)
        let close = try client.readFrame()
        #expect(close.opcode == 8)
        try client.sendText(#"{"id":1,"type":"receive","payload":{"tx":["mutable://open/late",1]}}"#)
        try client.sendClose(1001)
        #expect(try client.connection.waitForClose())
        #expect(done.wait(timeout: .now() + 30) == .success)
        #expect(fixture.node.memory.records.isEmpty)
      }
    }

    @Test func stoppingGivesUpWhatIsOpen() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        _ = try client.ask(#"{"id":1,"type":"observe","payload":{"uri":""}}"#)
        fixture.node.shut()
        try client.sendText(Self.read)
        #expect(Polling.until(seconds: 60) { fixture.node.calls == 1 })
        DispatchQueue.global().asyncAfter(deadline: .now() + 0.2) { fixture.node.open() }
        waitFor { try? await fixture.host.stop() }
        #expect(fixture.host.openCallsCount == 0)
      }
    }

    @Test func nothingStaysBehind() async throws {
      func descriptors() -> Int { (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? 0 }
      func once() async throws {
        try await withTransport { fixture in
          let client = try fixture.client()
          _ = try client.ask(#"{"id":1,"type":"observe","payload":{"uri":""}}"#)
          fixture.feed.publish("mutable://open/a", Array("1".utf8))
          _ = try client.readText()
        }
      }
      try await once()
      let before = descriptors()
      for _ in 0..<10 { try await once() }
      #expect(descriptors() == before)
    }
  }
}
