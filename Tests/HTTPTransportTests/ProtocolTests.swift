import Glibc
import PluginAPI
import Testing

@testable import HTTPTransport

extension HTTPTests {
  @Suite struct ProtocolTests {
    static let read = "GET /api/v1/read/mutable/open/"
    static let tail = " HTTP/1.1\r\nHost: t\r\n\r\n"

    @Test func pipelinedRequestsAreAnsweredInOrder() async throws {
      try await withTransport { fixture in
        for name in ["a", "b", "c"] { fixture.host.put("mutable://open/\(name)", json: "\"\(name)\"") }
        let client = try fixture.client()
        client.send(["a", "b", "c"].map { Self.read + $0 + Self.tail }.joined())
        for name in ["a", "b", "c"] { #expect(try client.response().text == "{\"ts\":0,\"data\":\"\(name)\"}") }
      }
    }

    @Test func completionsOnAnotherThreadKeepTheOrder() async throws {
      try await withTransport { fixture in
        for name in ["a", "b"] { fixture.host.put("mutable://open/\(name)", json: "\"\(name)\"") }
        fixture.host.state.withLock { $0.holds = true }
        let client = try fixture.client()
        client.send(["a", "b"].map { Self.read + $0 + Self.tail }.joined())
        var held = fixture.host.held.makeAsyncIterator()
        let first = try #require(await held.next())
        #expect(fixture.host.state.withLock { $0.calls.count } == 1)
        onThread(first)
        #expect(try client.response().text == "{\"ts\":0,\"data\":\"a\"}")
        onThread(try #require(await held.next()))
        #expect(try client.response().text == "{\"ts\":0,\"data\":\"b\"}")
      }
    }

    @Test func everyRouteMayCompleteLater() async throws {
      try await withTransport { fixture in
        fixture.host.put("mutable://open/a", json: "1")
        fixture.host.state.withLock { $0.holds = true }
        let client = try fixture.client()
        var held = fixture.host.held.makeAsyncIterator()
        client.send("GET /api/v1/list/mutable/open\(Self.tail)")
        onThread(try #require(await held.next()))
        #expect(try client.response().text.contains(#"[{"uri":"mutable://open/a"}]"#))
        let uris = #"{"uris":["mutable://open/a"]}"#
        client.send("POST /api/v1/read-multi HTTP/1.1\r\ncontent-length: \(uris.utf8.count)\r\n\r\n\(uris)")
        onThread(try #require(await held.next()))
        #expect(try client.response().text.contains(#""record":{"ts":7,"data":1}"#))
        let message = #"{"tx":["mutable://open/b",[2]]}"#
        client.send("POST /api/v1/receive HTTP/1.1\r\ncontent-length: \(message.utf8.count)\r\n\r\n\(message)")
        onThread(try #require(await held.next()))
        #expect(try client.response().text == #"{"accepted":true}"#)
        client.send("DELETE /api/v1/delete/mutable/open/b\(Self.tail)")
        onThread(try #require(await held.next()))
        #expect(try client.response().text == #"{"success":true}"#)
      }
    }

    @Test func aDisconnectCancelsTheCallAndALateCompletionIsHarmless() async throws {
      try await withTransport { fixture in
        fixture.host.state.withLock { $0.holds = true }
        let client = try fixture.client()
        client.send(Self.read + "a" + Self.tail)
        var held = fixture.host.held.makeAsyncIterator()
        let call = try #require(await held.next())
        client.reset()
        var cancelled = fixture.host.cancelled.makeAsyncIterator()
        #expect(await cancelled.next() != nil)
        onThread(call)
        fixture.host.state.withLock { $0.holds = false }
        #expect(try fixture.client().get("/health/live").status == 200)
      }
    }

    @Test func aClientThatHasSaidEverythingGetsItsAnswer() async throws {
      try await withTransport { fixture in
        fixture.host.put("mutable://open/a", json: "1")
        fixture.host.state.withLock { $0.holds = true }
        let client = try fixture.client()
        client.send(Self.read + "a" + Self.tail)
        client.finish()
        var held = fixture.host.held.makeAsyncIterator()
        onThread(try #require(await held.next()))
        let text = String(decoding: try client.end(), as: UTF8.self)
        #expect(text.hasSuffix("{\"ts\":0,\"data\":1}"))
      }
    }

    @Test func chunkedBodies() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        client.send("POST /api/v1/receive HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in #"{"tx":["mutable://open/x",[1]]}"# { client.send("1\r\n\(byte)\r\n") }
        client.send("0\r\n\r\n")
        #expect(try client.response().status == 200)
        #expect(try client.get("/api/v1/read/mutable/open/x").text == "{\"ts\":0,\"data\":[1]}")
      }
    }

    @Test func expectations() async throws {
      try await withTransport({ $0.bodySizeBytesMax = 100 }) { fixture in
        let body = #"{"tx":["mutable://open/x",1]}"#
        let client = try fixture.client()
        client.send(
          "POST /api/v1/receive HTTP/1.1\r\nExpect: 100-continue\r\ncontent-length: \(body.utf8.count)\r\n\r\n")
        #expect(try client.response().status == 100)
        client.send(body)
        #expect(try client.response().status == 200)
        client.send("POST /api/v1/receive HTTP/1.1\r\nExpect: 100-continue\r\ncontent-length: 101\r\n\r\n")
        #expect(try client.response().status == 413)
        #expect(try fixture.client().get("/", "Expect: a-miracle\r\n").status == 417)
      }
    }

    @Test func boundsOfSize() async throws {
      try await withTransport({
        ($0.bodySizeBytesMax, $0.uriSizeBytesMax, $0.headerSizeBytesMax) = (1000, 100, 2000)
      }) { fixture in
        let tooLong = try fixture.client().post("/api/v1/receive", [UInt8](repeating: 0x20, count: 1001))
        #expect(tooLong.status == 413)
        #expect(tooLong.headers["connection"] == "close")
        let chunked = try fixture.client()
        chunked.send("POST /api/v1/receive HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in 0..<11 { chunked.send("64\r\n" + String(repeating: " ", count: 100) + "\r\n") }
        #expect(try chunked.response().status == 413)
        #expect(try fixture.client().get("/" + String(repeating: "a", count: 100)).status == 414)
        #expect(try fixture.client().get("/", "A: \(String(repeating: "a", count: 3000))\r\n").status == 431)
        #expect(try fixture.client().post("/api/v1/receive", [UInt8](repeating: 0x20, count: 1000)).status == 400)
      }
    }

    @Test func allBodiesTogetherAreBounded() async throws {
      try await withTransport({ $0.bodiesSizeBytesMax = 1000 }) { fixture in
        let first = try fixture.client()
        first.send("POST /api/v1/receive HTTP/1.1\r\ncontent-length: 901\r\n\r\n" + String(repeating: " ", count: 900))
        // The next request on another connection is read after the first: the server has seen those bytes by then.
        #expect(try fixture.client().get("/health/live").status == 200)
        let second = try fixture.client().post("/api/v1/receive", [UInt8](repeating: 0x20, count: 200))
        #expect(second.status == 503)
        first.send(" ")
        #expect(try first.response().status == 400)
        #expect(try fixture.client().post("/api/v1/receive", [UInt8](repeating: 0x20, count: 200)).status == 400)
      }
    }

    @Test(arguments: [
      ("nonsense\r\n\r\n", 400), ("GET / HTTP/2.0\r\n\r\n", 505),
      ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
      ("POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400), ("GET / HTTP/1.1\r\nA b: c\r\n\r\n", 400),
    ])
    func whatIsNotHTTP(text: String, status: Int) async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        client.send(text)
        let answer = try client.response()
        #expect(answer.status == status)
        #expect(answer.headers["connection"] == "close")
        _ = try client.end()
      }
    }

    @Test func tooManyPipelinedRequests() async throws {
      try await withTransport({ $0.pipelinedRequestsMax = 3 }) { fixture in
        fixture.host.state.withLock { $0.holds = true }
        let client = try fixture.client()
        client.send(String(repeating: Self.read + "a" + Self.tail, count: 20))
        var held = fixture.host.held.makeAsyncIterator()
        for _ in 0..<5 {
          onThread(try #require(await held.next()))
          #expect(try client.response().status == 404)
        }
        #expect(try client.response().status == 503)
        _ = try client.end()
      }
    }

    @Test func slowClients() async throws {
      try await withTransport({
        ($0.headerTimeoutMs, $0.bodyTimeoutMs, $0.idleTimeoutMs, $0.lingerTimeoutMs) = (100, 100, 300, 50)
      }) { fixture in
        let head = try fixture.client()
        head.send("GET / HT")
        #expect(try head.response().status == 408)
        let body = try fixture.client()
        body.send("POST /api/v1/receive HTTP/1.1\r\ncontent-length: 10\r\n\r\n{")
        #expect(try body.response().status == 408)
        let idle = try fixture.client()
        #expect(try idle.get("/health/live").status == 200)
        #expect(try idle.end() == [])
        #expect(try fixture.client().end() == [])
      }
    }

    @Test func aClientThatDoesNotReadIsNotServedWithoutEnd() async throws {
      try await withTransport({ $0.writeTimeoutMs = 200 }) { fixture in
        fixture.host.put("mutable://open/a", json: "\"" + String(repeating: "x", count: 1 << 20) + "\"")
        let client = try fixture.client()
        client.send(String(repeating: Self.read + "a" + Self.tail, count: 100))
        // Another client is served meanwhile.
        #expect(try fixture.client().get("/health/live").status == 200)
        while fixture.transport.connections() > 0 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(fixture.host.state.withLock { $0.calls.count } < 100)
      }
    }

    @Test func connectionsAboveTheBoundAreTold() async throws {
      try await withTransport({ $0.connectionsMax = 2 }) { fixture in
        let first = try fixture.client()
        let second = try fixture.client()
        #expect(try first.get("/health/live").status == 200)
        #expect(try second.get("/health/live").status == 200)
        let refused = try fixture.client().get("/health/live")
        #expect(refused.status == 503)
        #expect(refused.headers["connection"] == "close")
        #expect(try first.get("/health/live").status == 200)
      }
    }

    @Test func oldClients() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        client.send("GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        #expect(try client.response().headers["connection"] == "keep-alive")
        client.send("GET /health/live HTTP/1.0\r\n\r\n")
        #expect(try client.response().headers["connection"] == "close")
        #expect(try client.end() == [])
      }
    }

    /// Seeded noise: no crash, and another client is served throughout.
    @Test func noise() async throws {
      try await withTransport({ $0.lingerTimeoutMs = 50 }) { fixture in
        var random = SeededRandom(state: 42)
        let seeds = [
          "POST /api/v1/receive HTTP/1.1\r\nHost: t\r\ncontent-length: 30\r\n\r\n{\"tx\":[\"mutable://open/x\",[1]]}",
          "GET /api/v1/list/mutable/open?page=2&limit=0x1&pattern=%5E HTTP/1.1\r\nOrigin: x\r\n\r\n",
          "POST /api/v1/read-multi HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"uri\r\n0\r\n\r\n",
        ]
        let steady = try fixture.client()
        for round in 0..<300 {
          var bytes = Array(seeds[round % seeds.count].utf8)
          for _ in 0..<Int.random(in: 1...6, using: &random) {
            bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
          }
          let client = try fixture.client()
          client.send(bytes)
          client.finish()
          _ = try client.end()
          #expect(try steady.get("/health/live").status == 200)
        }
      }
    }
  }
}

struct SeededRandom: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}

/// Runs a closure on a thread of its own and waits for it.
func onThread(_ body: @escaping @Sendable () -> Void) {
  final class Box { let body: @Sendable () -> Void; init(_ body: @escaping @Sendable () -> Void) { self.body = body } }
  var thread = pthread_t()
  pthread_create(
    &thread, nil,
    { context in
      Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
      return nil
    }, Unmanaged.passRetained(Box(body)).toOpaque())
  pthread_join(thread, nil)
}
