import Glibc
import PluginAPI
import Testing
import TransportSupport

@testable import HTTPTransport

extension HTTPTests {
  /// Clients that mean no good, or do not know better.
  @Suite struct HTTP2AbuseTests {
    typealias Kind = FrameClient.Kind

    enum Flood: String, CaseIterable, CustomTestStringConvertible {
      case pings, settings, resets, emptyData, continuations
      var testDescription: String { rawValue }

      /// The bytes of a flood; several times what is borne.
      var bytes: [UInt8] {
        switch self {
        case .pings: Self.times(1000) { _ in FrameClient.frame(Kind.ping, 0, 0, [UInt8](repeating: 1, count: 8)) }
        case .settings: Self.times(1000) { _ in FrameClient.frame(Kind.settings, 0, 0) }
        case .resets:
          Self.times(1000) { index in
            FrameClient.request(2 * index + 1, "/api/v1/read/mutable/open/a")
              + FrameClient.frame(Kind.reset, 0, 2 * index + 1, FrameClient.big(8, 4))
          }
        case .emptyData:
          FrameClient.request(1, "/api/v1/receive", method: "POST", ends: false)
            + Self.times(100) { _ in FrameClient.frame(Kind.data, 0, 1) }
        case .continuations:
          FrameClient.frame(Kind.headers, 0, 1, FrameClient.block([(":method", "GET")]))
            + Self.times(100) { _ in FrameClient.frame(Kind.continuation, 0, 1, FrameClient.block([("a", "b")])) }
        }
      }

      private static func times(_ count: Int, _ body: (Int) -> [UInt8]) -> [UInt8] { (0..<count).flatMap(body) }
    }

    @Test(arguments: Flood.allCases) func floodsEndTheConnection(flood: Flood) async throws {
      try await withTransport({ $0.lingerTimeoutMs = 100 }) { fixture in
        let client = try FrameClient(fixture)
        client.send(flood.bytes)
        #expect(try client.failure() == FrameClient.enhanceYourCalm)
        #expect(fixture.host.state.withLock { $0.calls.count } < 300)
        #expect(try fixture.client().get("/health/live").status == 200)
      }
    }

    /// What breaks the protocol, and the code of the GOAWAY that says so.
    @Test(arguments: [
      ("a frame that is too long", FrameClient.big(16_385, 3) + [0, 0, 0, 0, 0, 1], 6 as UInt8),
      ("a ping of seven bytes", FrameClient.frame(Kind.ping, 0, 0, [UInt8](repeating: 0, count: 7)), 6),
      ("data on stream 0", FrameClient.frame(Kind.data, 0, 0, [1]), 1),
      ("a stream of the server's", FrameClient.request(2, "/"), 1),
      ("a block that is no HPACK", FrameClient.frame(Kind.headers, 5, 1, [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]), 9),
      ("a window that is too large", FrameClient.frame(Kind.settings, 0, 0, [0, 4, 0xFF, 0xFF, 0xFF, 0xFF]), 3),
    ])
    func whatBreaksTheProtocol(name: String, bytes: [UInt8], code: UInt8) async throws {
      try await withTransport({ $0.lingerTimeoutMs = 100 }) { fixture in
        let client = try FrameClient(fixture)
        client.send(bytes)
        let failure = try client.failure()
        #expect([code, 1].contains(failure), "\(name)")
        #expect(try fixture.client().get("/health/live").status == 200)
      }
    }

    /// Requests that are none: their stream ends, the connection goes on.
    @Test(arguments: [
      [(":method", "GET"), (":scheme", "http"), (":authority", "t")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":path", "/")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("Upper", "x")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("connection", "close")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("transfer-encoding", "chunked")],
      [(":method", "GET"), (":scheme", "http"), ("a", "b"), (":path", "/")],
      [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":status", "200")],
    ])
    func requestsThatAreNone(fields: [(String, String)]) async throws {
      try await withTransport { fixture in
        let client = try FrameClient(fixture)
        client.send(FrameClient.frame(Kind.headers, 5, 1, FrameClient.block(fields)))
        let reset = try client.next(Kind.reset, Kind.goAway)
        #expect(reset.type == Kind.reset)
        #expect(reset.errorCode == 1)
        client.send(FrameClient.request(3, "/health/live"))
        #expect(try client.status() == "200")
      }
    }

    @Test func lengthsThatAreNotTrue() async throws {
      try await withTransport { fixture in
        let client = try FrameClient(fixture)
        client.send(FrameClient.request(1, "/api/v1/receive", method: "POST", [("content-length", "5")], ends: false))
        client.send(FrameClient.frame(Kind.data, 1, 1, [0x20]))
        #expect(try client.next(Kind.reset).stream == 1)
        client.send(FrameClient.request(3, "/health/live"))
        #expect(try client.status() == "200")
        #expect(fixture.host.state.withLock { $0.calls.isEmpty })
      }
    }

    @Test func aClientThatTakesNothing() async throws {
      try await withTransport({ ($0.writeTimeoutMs, $0.http2AnswersSizeBytesMax) = (300, 65_536) }) { fixture in
        fixture.host.put("mutable://open/a", json: "\"" + String(repeating: "x", count: 1 << 20) + "\"")
        let client = try FrameClient(fixture, windowSize: 0)
        #expect(try client.next(Kind.settings).flags == 0)
        for index in 0..<50 { client.send(FrameClient.request(2 * index + 1, "/api/v1/read/mutable/open/a")) }
        // The first is made, the others wait for it: fifty megabytes do not gather.
        #expect(try client.status() == "200")
        #expect(fixture.host.state.withLock { $0.calls.count } == 1)
        let reset = try client.next(Kind.reset)
        #expect(reset.stream == 1)
        // Then the next has its turn.
        #expect(try client.status() == "200")
        #expect(fixture.host.state.withLock { $0.calls.count } < 5)
      }
    }

    @Test func aWindowThatOpensLetsTheAnswerThrough() async throws {
      try await withTransport { fixture in
        fixture.host.put("mutable://open/a", json: "\"" + String(repeating: "x", count: 40_000) + "\"")
        let client = try FrameClient(fixture, windowSize: 100)
        client.send(FrameClient.request(1, "/api/v1/read/mutable/open/a"))
        var count = 0
        while true {
          let data = try client.next(Kind.data)
          count += data.payload.count
          #expect(data.payload.count <= 1_000)
          if data.flags & 1 == 1 { break }
          client.send(FrameClient.frame(Kind.windowUpdate, 0, 1, FrameClient.big(1_000, 4)))
        }
        #expect(count == 40_000 + 2 + 16)
      }
    }

    @Test func slowClients() async throws {
      try await withTransport({
        ($0.bodyTimeoutMs, $0.idleTimeoutMs, $0.lingerTimeoutMs) = (100, 300, 100)
      }) { fixture in
        let client = try FrameClient(fixture)
        client.send(FrameClient.request(1, "/api/v1/receive", method: "POST", ends: false))
        client.send(FrameClient.frame(Kind.data, 0, 1, [0x20]))
        #expect(try client.status() == "408")
        #expect(try client.next(Kind.reset).errorCode == 0)
        // With nothing open, the connection is ended as the protocol has it.
        let goodbye = try client.next(Kind.goAway)
        #expect(goodbye.payload[7] == 0)
        _ = try client.raw.end()
      }
    }

    @Test func goodbye() async throws {
      try await withTransport { fixture in
        fixture.host.put("mutable://open/a", json: "1")
        fixture.host.state.withLock { $0.holds = true }
        let client = try FrameClient(fixture)
        client.send(FrameClient.request(1, "/api/v1/read/mutable/open/a"))
        var held = fixture.host.held.makeAsyncIterator()
        let call = try #require(await held.next())
        let end = deadline(inMs: 60_000)
        async let quiesced: Void = fixture.transport.quiesce(end)
        #expect(try client.next(Kind.goAway).payload[7] == 0)
        let ping = try client.next(Kind.ping)
        client.send(FrameClient.frame(Kind.ping, 1, 0, ping.payload))
        onThread(call)
        #expect(try client.next(Kind.data).payload == Array(#"{"ts":0,"data":1}"#.utf8))
        _ = try client.raw.end()
        await quiesced
        #expect(monotonicNs() < end.monotonicNs)
        #expect(fixture.transport.connections() == 0)
      }
    }

    /// A client that knows the first line and nothing else, and does not wait for an answer.
    @Test func nothingButThePreface() async throws {
      try await withTransport({ $0.lingerTimeoutMs = 20 }) { fixture in
        var random = SeededRandom(state: 8)
        for round in 0..<200 {
          let client = try fixture.client()
          let noise = (0..<Int.random(in: 0...5_000, using: &random)).map { _ in
            UInt8.random(in: .min ... .max, using: &random)
          }
          client.send(round % 2 == 0 ? FrameClient.preface + noise : Array("PRI * HTTP/2.0\r\n".utf8) + noise)
          if round % 3 == 0 { _ = try? client.end() } else { client.reset() }
        }
        #expect(try fixture.client().get("/health/live").status == 200)
      }
    }

    /// Seeded noise: no crash, and another client is served throughout.
    @Test func noise() async throws {
      try await withTransport({ $0.lingerTimeoutMs = 20 }) { fixture in
        var random = SeededRandom(state: 7)
        let steady = try FrameClient(fixture)
        let message = Array(#"{"tx":["mutable://open/x",[1]]}"#.utf8)
        let seed =
          FrameClient.frame(Kind.settings, 0, 0) + FrameClient.request(1, "/api/v1/list/mutable/open?page=2")
          + FrameClient.request(3, "/api/v1/receive", method: "POST", ends: false)
          + FrameClient.frame(Kind.data, 0, 3, message) + FrameClient.frame(Kind.windowUpdate, 0, 3, [0, 0, 1, 0])
          + FrameClient.frame(Kind.reset, 0, 3, [0, 0, 0, 8]) + FrameClient.request(5, "/health/live")
        for round in 0..<200 {
          var bytes = seed
          for _ in 0..<Int.random(in: 1...6, using: &random) {
            bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
          }
          let client = try fixture.client()
          client.send(FrameClient.preface + bytes)
          client.finish()
          _ = try client.end()
          steady.send(FrameClient.request(2 * round + 1, "/health/live"))
          #expect(try steady.status() == "200")
        }
      }
    }
  }
}
