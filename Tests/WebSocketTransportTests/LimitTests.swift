import Foundation
import NodeTesting
import PluginTestHost
import Testing

extension WebSocketTests {
  @Suite struct LimitTests {
    private static let read = #"{"id":1,"type":"read","payload":{"uri":"mutable://open/a"}}"#

    /// As many requests as may be, and no more is taken from the socket until one of them is answered.
    @Test func requestsInFlight() async throws {
      try await withTransport(.own, #"{"requests_in_flight_max":4}"#) { fixture in
        let client = try fixture.client()
        fixture.node.shut()
        for index in 0..<20 {
          try client.sendText(#"{"id":\#(index),"type":"read","payload":{"uri":"mutable://open/a"}}"#)
        }
        #expect(Polling.until(seconds: 60) { fixture.node.calls == 4 })
        // Another connection is not held up by it.
        #expect(try fixture.client().ask(#"{"id":1,"type":"health"}"#).contains("healthy"))
        #expect(fixture.node.calls == 4)
        fixture.node.open()
        var ids: Set<Int> = []
        for _ in 0..<20 {
          let answer = try #require(JSONValue(try client.readText()))
          ids.insert(Int(answer["id"]?.double ?? -1))
        }
        #expect(ids == Set(0..<20))
      }
    }

    @Test func connections() async throws {
      try await withTransport(.shared, #"{"websocket":{"connections_max":2}}"#) { fixture in
        let first = try fixture.client()
        let second = try fixture.client()
        do {
          _ = try fixture.client()
          Issue.record("a third was let in")
        } catch let refused as WebSocketClient.Refused {
          #expect(refused.answer.status == 503)
          #expect(refused.answer.headers["retry-after"] == "1")
        }
        #expect(try HTTPConnection(port: fixture.port).get("/health/live").status == 200)
        try first.sendClose(1000)
        _ = try first.readClose()
        #expect(Polling.until(seconds: 60) { (try? fixture.client()) != nil })
        withExtendedLifetime(second) {}
      }
    }

    @Test func silenceIsAskedAndThenEnded() async throws {
      let keys = #"{"websocket":{"ping_interval_ms":100,"ping_timeout_ms":300}}"#
      try await withTransport(.shared, keys) { fixture in
        // One that answers stays.
        let lively = try fixture.client()
        for _ in 0..<8 {
          #expect(try lively.readFrame().opcode == 9)
          try lively.send(WebSocketClient.frame(10, []))
        }
        #expect(try lively.ask(#"{"id":1,"type":"getSchema"}"#).contains("success"))
        try lively.sendClose(1000)
        let silent = try fixture.client()
        #expect(try silent.readFrame() == .init(opcode: 9, isFinal: true, reserved: 0, payload: []))
        let close = try silent.readFrame()
        #expect(close.opcode == 8)
        #expect(close.payload.prefix(2) == [0x03, 0xF0])
        #expect(String(decoding: close.payload.dropFirst(2), as: UTF8.self).contains("ping_timeout_ms"))
        #expect(try silent.connection.waitForClose(), "the connection ends though nothing is said")
        #expect(fixture.waits("websocket_closed_total", ["cause": "ping_timeout_ms"], is: 1))
      }
    }

    @Test func idleness() async throws {
      try await withTransport(.shared, #"{"websocket":{"idle_timeout_ms":200}}"#) { fixture in
        let observer = try fixture.client()
        #expect(try observer.ask(#"{"id":1,"type":"observe","payload":{"uri":""}}"#).contains("place"))
        let waiter = try fixture.client()
        fixture.node.shut()
        try waiter.sendText(Self.read)
        let idle = try fixture.client()
        let closed = try idle.readClose()
        #expect(closed?.code == 1000)
        #expect(closed?.reason.contains("idle_timeout_ms") == true)
        // Who observes, and who waits for an answer, is not idle.
        fixture.node.open()
        #expect(try waiter.readText().contains("Not found"))
        #expect(try observer.ask(#"{"id":2,"type":"getSchema"}"#).contains("success"))
      }
    }

    @Test func bytesBeingReceived() async throws {
      try await withTransport(.own, #"{"messages_size_bytes_max":100000}"#) { fixture in
        let greedy = try fixture.client()
        // The rest never comes: what has come is held.
        try greedy.send(Array(WebSocketClient.frame(1, [UInt8](repeating: 0x20, count: 200_000)).prefix(150_000)))
        #expect(try greedy.readClose()?.code == 1013)
        #expect(try fixture.client().ask(Self.read).contains("Not found"))
        let pieces = try fixture.client()
        var closed: WebSocketClient.Closed?
        try? pieces.send(WebSocketClient.frame(1, [UInt8](repeating: 0x20, count: 60_000), isFinal: false))
        try? pieces.send(WebSocketClient.frame(0, [UInt8](repeating: 0x20, count: 60_000), isFinal: false))
        closed = try pieces.readClose()
        #expect(closed?.code == 1013)
        #expect(try fixture.client().ask(Self.read).contains("Not found"))
      }
    }

    /// A client that asks and does not read: what waits for it is bounded, and after a while it is cut off.
    @Test func aClientThatDoesNotRead() async throws {
      try await withTransport(.shared, #"{"websocket":{"write_timeout_ms":500}}"#) { fixture in
        fixture.node.memory.put("mutable://open/a", Array(("\"" + String(repeating: "x", count: 100_000) + "\"").utf8))
        let client = try fixture.client(isSlow: true)
        client.connection.setSendTimeout(milliseconds: 200)
        var sent = 0
        // Until the server takes no more, which ends by a time-out of this side or by the end of the connection.
        while sent < 100_000, (try? client.sendText(Self.read)) != nil { sent += 1 }
        #expect(sent < 100_000, "the server has stopped reading")
        #expect(fixture.node.calls < 2_000, "\(fixture.node.calls)")
        #expect(fixture.waits("websocket_closed_total", ["cause": "write_timeout_ms"], is: 1))
        #expect(fixture.waits("websocket_connections", is: 0))
      }
    }

    @Test func configuration() throws {
      for carrier in Carrier.allCases {
        func keys(_ text: String) -> String { carrier == .own ? "{\(text)}" : #"{"websocket":{\#(text)}}"# }
        let prefix = carrier == .own ? "" : "/websocket"
        for (text, pointer) in [
          (#""message_size_bytes_max":0"#, "/message_size_bytes_max"), (#""ping_interval_ms":-1"#, "/ping_interval_ms"),
          (#""origins":["a b"]"#, "/origins/0"), (#""requests_in_flight_max":1e9"#, "/requests_in_flight_max"),
          (#""pong":1"#, "/pong"), (#""origins":7"#, "/origins"),
        ] {
          do {
            try checkConfiguration(carrier, keys(text))
            Issue.record("\(text) was taken")
          } catch let error as TestHostError {
            #expect(error.diagnostics.contains { $0.pointer == prefix + pointer }, "\(text): \(error.diagnostics)")
          }
        }
        try checkConfiguration(carrier, keys(#""origins":"*","subscriptions_max":0,"idle_timeout_ms":1000"#))
        try checkConfiguration(carrier, keys(#""origins":["https://a.example","https://b.example"]"#))
      }
      for text in [#"{"path":"ws"}"#, #"{"path":"/a?b"}"#, #"{"websocket":true}"#] {
        #expect(throws: TestHostError.self) { try checkConfiguration(.own, text) }
      }
      try checkConfiguration(.own, #"{"path":"/live","port":0,"loops":2,"connections_max":5}"#)
      for text in ["true", "false", "{}"] { try checkConfiguration(.shared, #"{"websocket":\#(text)}"#) }
    }

    @Test func offAndPaths() async throws {
      try await withTransport(.shared, #"{"websocket":false}"#) { fixture in
        do {
          _ = try fixture.client()
          Issue.record("WebSocket is off")
        } catch let refused as WebSocketClient.Refused { #expect(refused.answer.status == 404) }
      }
      try await withTransport(.own) { fixture in
        for path in ["/", "/api/v1/ws", "/anything?at=all"] {
          let client = try fixture.client(path: path)
          #expect(try client.ask(Self.read).contains("Not found"))
        }
        #expect(try HTTPConnection(port: fixture.port).get("/health").status == 426)
        #expect(try HTTPConnection(port: fixture.port).get("/api/v1/schema").status == 426)
      }
      try await withTransport(.own, #"{"path":"/live"}"#) { fixture in
        #expect(try fixture.client(path: "/live?x=1").ask(Self.read).contains("Not found"))
        var refusal: WebSocketClient.Refused?
        do { _ = try fixture.client(path: "/") } catch let refused as WebSocketClient.Refused { refusal = refused }
        #expect(refusal?.answer.status == 404)
      }
    }

    @Test(arguments: Carrier.allCases) func tokens(carrier: Carrier) async throws {
      let keys = #"""
        {"tokens":[{"name":"reader","token":"0123456789abcdef","allow":["read"]},
                   {"name":"probe","token":"fedcba9876543210","allow":["health"]}],
         "rate_limit":{"requests_per_second":0.01,"burst":4,"by":"token"}}
        """#
      try await withTransport(carrier, keys) { fixture in
        func status(_ headers: [String: String] = [:], _ path: String = "/api/v1/ws") throws -> Int {
          do { return try fixture.client(path: path, headers: headers).answer.status } catch let refused
            as WebSocketClient.Refused
          { return refused.answer.status }
        }
        #expect(try status() == 401)
        #expect(try status(["authorization": "Bearer wrong"]) == 401)
        #expect(try status([:], "/api/v1/ws?token=wrong") == 401)
        #expect(try status(["authorization": "Bearer fedcba9876543210"]) == 403)
        // One for the upgrade, and one for each message.
        let reader = try fixture.client(path: "/api/v1/ws?x=1&token=0123456789abcdef")
        #expect(try reader.ask(Self.read).contains("Not found"))
        #expect(
          try reader.ask(#"{"id":1,"type":"receive","payload":{"tx":["mutable://open/a",1]}}"#)
            == #"{"id":1,"success":false,"error":"The right to do this is missing."}"#)
        #expect(try reader.ask(Self.read).contains("Not found"))
        #expect(try reader.ask(Self.read).contains("Not found"))
        #expect(try reader.ask(Self.read).contains("Too many requests"))
        #expect(fixture.node.memory.records.isEmpty)
      }
    }
  }
}
