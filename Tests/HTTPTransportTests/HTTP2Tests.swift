import PluginAPI
import Testing

@testable import HTTPTransport

extension HTTPTests {
  @Suite struct HTTP2Tests {
    typealias Kind = FrameClient.Kind

    @Test func thePrefaceMayComeInPieces() async throws {
      try await withTransport { fixture in
        let client = try FrameClient(fixture, sendsPreface: false)
        for byte in FrameClient.preface {
          client.send([byte])
          // The server has looked at it before the next one comes, or takes both together: either is fine.
          #expect(fixture.transport.connections() <= 1)
        }
        client.send(FrameClient.frame(Kind.settings, 0, 0) + FrameClient.request(1, "/health/live"))
        #expect(try client.next().type == Kind.settings)
        #expect(try client.status() == "200")
        let data = try client.next(Kind.data)
        #expect(data.flags == 1)
        #expect(String(decoding: data.payload, as: UTF8.self) == #"{"status":"live"}"#)
        #expect(fixture.transport.connections() == 1)
      }
    }

    @Test(arguments: ["PRI * HTTP/1.1\r\n\r\n", "PRI / HTTP/1.1\r\n\r\n", "PRX * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
    func whatOnlyBeginsLikeIt(text: String) async throws {
      try await withTransport({ $0.headerTimeoutMs = 100 }) { fixture in
        let client = try fixture.client()
        client.send(text)
        #expect(try client.response().status >= 400)
        _ = try client.end()
      }
    }

    @Test func aWrongPrefaceEndsTheConnection() async throws {
      try await withTransport({ $0.lingerTimeoutMs = 50 }) { fixture in
        let client = try fixture.client()
        client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n")
        _ = try client.end()
        #expect(try fixture.client().get("/health/live").status == 200)
      }
    }

    @Test func anUpgradeIsIgnored() async throws {
      try await withTransport { fixture in
        let answer = try fixture.client().get(
          "/health/live", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")
        #expect(answer.status == 200)
      }
    }

    @Test func requestsOfEveryKind() async throws {
      try await withTransport { fixture in
        let client = try FrameClient(fixture)
        let message = Array(#"{"tx":["mutable://open/a",[1]]}"#.utf8)
        client.send(FrameClient.request(1, "/api/v1/receive", method: "POST", ends: false))
        // In two pieces, one of them padded.
        client.send(FrameClient.frame(Kind.data, 8, 1, [3] + message[..<10] + [0, 0, 0]))
        client.send(FrameClient.frame(Kind.data, 1, 1, Array(message[10...])))
        #expect(try client.status() == "200")
        #expect(try client.next(Kind.data).payload == Array(#"{"accepted":true}"#.utf8))
        client.send(FrameClient.request(3, "/api/v1/read/mutable/open/a", method: "HEAD"))
        let head = try client.next(Kind.headers)
        // END_STREAM: nothing follows.
        #expect(head.flags & 1 == 1)
        client.send(FrameClient.request(5, "/", method: "OPTIONS"))
        #expect(try client.next(Kind.headers).flags & 1 == 1)
        client.send(FrameClient.request(7, "/api/v1/delete/mutable/open/a", method: "DELETE"))
        #expect(try client.next(Kind.data).payload == Array(#"{"success":true}"#.utf8))
        // There is no changing of protocols here.
        client.send(FrameClient.request(11, "/api/v1/ws"))
        #expect(try client.next(Kind.headers).stream == 11)
        // Trailers end a request too.
        client.send(FrameClient.request(13, "/api/v1/receive", method: "POST", ends: false))
        client.send(FrameClient.frame(Kind.data, 0, 13, message))
        client.send(FrameClient.frame(Kind.headers, 5, 13, FrameClient.block([("x-checksum", "1")])))
        var last = try client.next(Kind.data)
        while last.stream != 13 { last = try client.next(Kind.data) }
        #expect(last.payload == Array(#"{"accepted":true}"#.utf8))
      }
    }

    @Test func expectations() async throws {
      try await withTransport { fixture in
        let client = try FrameClient(fixture)
        let message = Array(#"{"tx":["mutable://open/a",[1]]}"#.utf8)
        client.send(
          FrameClient.request(
            1, "/api/v1/receive", method: "POST", [("expect", "100-continue"), ("content-length", "\(message.count)")],
            ends: false))
        #expect(try client.status() == "100")
        client.send(FrameClient.frame(Kind.data, 1, 1, message))
        #expect(try client.status() == "200")
      }
    }

    @Test func boundsOfSize() async throws {
      try await withTransport({
        ($0.bodySizeBytesMax, $0.uriSizeBytesMax, $0.headerSizeBytesMax) = (1000, 100, 2000)
      }) { fixture in
        let client = try FrameClient(fixture)
        client.send(FrameClient.request(1, "/", [("a", String(repeating: "a", count: 3000))]))
        #expect(try client.status() == "431")
        client.send(FrameClient.request(3, "/" + String(repeating: "a", count: 100)))
        #expect(try client.status() == "414")
        client.send(FrameClient.request(5, "/", (0..<130).map { ("h\($0)", "x") }))
        #expect(try client.status() == "431")
        // Answered before its end, and then cut off without blame.
        client.send(FrameClient.request(7, "/api/v1/receive", method: "POST", ends: false))
        client.send(FrameClient.frame(Kind.data, 0, 7, [UInt8](repeating: 0x20, count: 1001)))
        #expect(try client.status() == "413")
        let reset = try client.next(Kind.reset)
        #expect(reset.stream == 7)
        #expect(reset.errorCode == 0)
        client.send(
          FrameClient.request(9, "/api/v1/receive", method: "POST", [("content-length", "1001")], ends: false))
        #expect(try client.status() == "413")
        // The others do not notice.
        client.send(FrameClient.request(11, "/health/live"))
        #expect(try client.status() == "200")
      }
    }

    @Test func aBodyThatIsCutOffGivesItsRoomBack() async throws {
      try await withTransport({ $0.bodiesSizeBytesMax = 1000 }) { fixture in
        let client = try FrameClient(fixture)
        let body = [UInt8](repeating: 0x20, count: 900)
        for index in 0..<5 {
          let stream = 1 + 4 * index
          client.send(FrameClient.request(stream, "/api/v1/receive", method: "POST", ends: false))
          client.send(FrameClient.frame(Kind.data, 0, stream, body))
          // Two of them do not fit.
          client.send(FrameClient.request(stream + 2, "/api/v1/receive", method: "POST", ends: false))
          client.send(FrameClient.frame(Kind.data, 1, stream + 2, body))
          #expect(try client.status() == "503")
          client.send(FrameClient.frame(Kind.reset, 0, stream, FrameClient.big(8, 4)))
        }
        client.send(FrameClient.request(101, "/api/v1/receive", method: "POST", ends: false))
        client.send(FrameClient.frame(Kind.data, 1, 101, body))
        #expect(try client.status() == "400")
      }
    }

    @Test func aStreamThatIsCancelledCancelsItsCall() async throws {
      try await withTransport { fixture in
        fixture.host.state.withLock { $0.holds = true }
        let client = try FrameClient(fixture)
        client.send(FrameClient.request(1, "/api/v1/read/mutable/open/a"))
        var held = fixture.host.held.makeAsyncIterator()
        let call = try #require(await held.next())
        client.send(FrameClient.frame(Kind.reset, 0, 1, FrameClient.big(8, 4)))
        var cancelled = fixture.host.cancelled.makeAsyncIterator()
        #expect(await cancelled.next() != nil)
        onThread(call)
        client.send(FrameClient.request(3, "/health/live"))
        #expect(try client.status() == "200")
      }
    }

    @Test func answersComeInAnyOrder() async throws {
      try await withTransport { fixture in
        fixture.host.put("mutable://open/a", json: "1")
        fixture.host.state.withLock { $0.holds = true }
        let client = try FrameClient(fixture)
        client.send(FrameClient.request(1, "/api/v1/read/mutable/open/a"))
        client.send(FrameClient.request(3, "/api/v1/read/mutable/open/a"))
        var held = fixture.host.held.makeAsyncIterator()
        let calls = [try #require(await held.next()), try #require(await held.next())]
        client.send(FrameClient.request(5, "/health/live"))
        #expect(try client.next(Kind.headers).stream == 5)
        onThread(calls[1])
        #expect(try client.next(Kind.headers).stream == 3)
        onThread(calls[0])
        #expect(try client.next(Kind.headers).stream == 1)
      }
    }

    /// A client that was told how many there may be, and opens more.
    @Test func tooManyStreams() async throws {
      try await withTransport({ ($0.http2StreamsMax, $0.lingerTimeoutMs) = (2, 100) }) { fixture in
        fixture.host.state.withLock { $0.holds = true }
        let client = try FrameClient(fixture)
        let settings = try client.next(Kind.settings)
        #expect(settings.payload.prefix(6) == [0, 3, 0, 0, 0, 2])
        for stream in [1, 3, 5] { client.send(FrameClient.request(stream, "/api/v1/read/mutable/open/a")) }
        #expect(try client.failure() == 1)
        #expect(fixture.host.state.withLock { $0.calls.count } == 2)
        #expect(try fixture.client().get("/health/live").status == 200)
      }
    }

    @Test func connectionsAboveTheBoundAreTold() async throws {
      try await withTransport({ $0.connectionsMax = 1 }) { fixture in
        let first = try FrameClient(fixture)
        first.send(FrameClient.request(1, "/health/live"))
        #expect(try first.status() == "200")
        let second = try FrameClient(fixture)
        second.send(FrameClient.request(1, "/health/live"))
        #expect(try second.status() == "503")
      }
    }
  }
}
