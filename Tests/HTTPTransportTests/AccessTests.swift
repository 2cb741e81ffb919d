import PluginAPI
import TLSTesting
import Testing

@testable import HTTPTransport

extension HTTPTests {
  @Suite struct AccessTests {
    static let reader = "reader-0123456789"
    static let message = Array(#"{"tx":["mutable://open/a",1]}"#.utf8)

    /// Keys as they stand in a configuration.
    private static func decode(_ json: String) throws -> HTTPConfiguration {
      let bytes = Array(json.utf8)
      return try bytes.withUnsafeBufferPointer { try ConfigurationDecoder.decode(HTTPConfiguration.self, from: $0) }
    }

    private static func token(_ name: String, _ text: String, _ allow: String...) -> TokenKeys {
      TokenKeys(name: name, token: text, sha256: nil, allow: allow)
    }

    @Test func rights() async throws {
      try await withTransport({ $0.tokens = [Self.token("reader", Self.reader, "read", "list")] }) { fixture in
        fixture.host.put("mutable://open/a", json: "1")
        let client = try fixture.client()
        let token = "Authorization: Bearer \(Self.reader)\r\n"
        for path in ["/health", "/health/live", "/health/ready", "/api/v1/health"] {
          #expect(try client.get(path).status == 200, "\(path)")
        }
        let shapes = [
          ("/api/v1/read/mutable/open/a", #"{"error":"#), ("/api/v1/list/mutable/open", #"{"success":false,"error":"#),
          ("/api/v1/schema", #"{"error":"#), ("/metrics", #"{"error":"#),
        ]
        for (path, shape) in shapes {
          let answer = try client.get(path)
          #expect(answer.status == 401, "\(path)")
          #expect(answer.text.hasPrefix(shape), "\(path)")
          #expect(answer.headers["www-authenticate"] == "Bearer")
          #expect(answer.headers["connection"] == nil)
        }
        #expect(try client.get("/api/v1/read/mutable/open/a", token).text == #"{"ts":0,"data":1}"#)
        #expect(
          try client.get("/api/v1/read/mutable/open/a", "authorization: bEARER  \(Self.reader)\r\n").status == 200)
        #expect(
          try client.post("/api/v1/read-multi", Array(#"{"uris":["mutable://open/a"]}"#.utf8), token).status == 200)
        let forbidden = try client.post("/api/v1/receive", Self.message, token)
        #expect(forbidden.status == 403)
        #expect(forbidden.text == #"{"accepted":false,"error":"The right to do this is missing."}"#)
        #expect(try client.get("/metrics", token).status == 403)
        #expect(try client.get("/nothing").status == 404)
        #expect(try client.get("/", method: "OPTIONS").status == 204)
        for wrong in ["Bearer \(Self.reader)x", "Bearer reader", "Basic \(Self.reader)", "Bearer", Self.reader] {
          let answer = try client.get("/api/v1/schema", "Authorization: \(wrong)\r\n")
          #expect(answer.status == 401, "\(wrong)")
          #expect(answer.headers["www-authenticate"] == #"Bearer error="invalid_token""#)
        }
        #expect(fixture.host.state.withLock { $0.calls.count } == 3)
      }
    }

    @Test func digestsAndAnonymousRights() async throws {
      let digest = Tokens.digest(Self.reader).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
      try await withTransport({
        $0.tokens = [TokenKeys(name: "one", token: nil, sha256: digest, allow: ["receive"])]
        $0.anonymous = ["read", "health"]
      }) { fixture in
        let client = try fixture.client()
        #expect(try client.get("/api/v1/read/mutable/open/a").status == 404)
        let token = "Authorization: Bearer \(Self.reader)\r\n"
        #expect(try client.post("/api/v1/receive", Self.message, token).status == 200)
        // What everybody may do, it may too.
        #expect(try client.get("/api/v1/read/mutable/open/a", token).status == 200)
        #expect(try client.get("/api/v1/list/mutable/open", token).status == 403)
      }
    }

    /// A body that nobody wants: a small one is passed over, a large one ends the connection.
    @Test func bodiesOfDeniedRequests() async throws {
      try await withTransport({ $0.anonymous = ["read"] }) { fixture in
        let client = try fixture.client()
        let small = try client.post("/api/v1/receive", [UInt8](repeating: 0x20, count: 60_000))
        #expect(small.status == 403)
        #expect(small.headers["connection"] == nil)
        #expect(try client.get("/api/v1/read/mutable/open/a").status == 404)
        let large = try client.post("/api/v1/receive", [UInt8](repeating: 0x20, count: 1 << 20))
        #expect(large.status == 403)
        #expect(large.headers["connection"] == "close")
        let waiting = try fixture.client()
        waiting.send("POST /api/v1/receive HTTP/1.1\r\nExpect: 100-continue\r\ncontent-length: 10\r\n\r\n")
        #expect(try waiting.response().status == 403)
      }
    }

    @Test func origins() async throws {
      try await withTransport({ $0.origins = ["https://App.example", "null"] }) { fixture in
        let client = try fixture.client()
        func post(_ origin: String) throws -> Client.Response {
          try client.post("/api/v1/receive", Self.message, origin)
        }
        #expect(try post("").status == 200)
        #expect(try post("Origin: https://app.example\r\n").status == 200)
        #expect(try post("Origin: null\r\n").status == 200)
        for foreign in ["https://app.example.evil", "http://app.example", String(repeating: "x", count: 5000)] {
          let answer = try post("Origin: \(foreign)\r\n")
          #expect(answer.status == 403, "\(foreign.prefix(40))")
          #expect(answer.text.hasPrefix(#"{"accepted":false,"error":"#))
        }
        // One that is allowed does not cover for another.
        #expect(try post("Origin: https://app.example\r\nOrigin: https://evil.example\r\n").status == 403)
        #expect(try client.get("/api/v1/delete/mutable/open/a", "Origin: x://y\r\n", method: "DELETE").status == 403)
        // Reading is what CORS is for.
        let read = try client.get("/api/v1/read/mutable/open/a", "Origin: x://y\r\n")
        #expect(read.status == 200)
        #expect(read.headers["access-control-allow-origin"] == "x://y")
      }
    }

    @Test func ratesByAddressAndToken() async throws {
      try await withTransport({
        $0.tokens = [Self.token("a", "token-a-0123456789", "all"), Self.token("b", "token-b-0123456789", "all")]
        $0.anonymous = ["all"]
        $0.rateLimit = RateLimitKeys(requestsPerSecond: 0.001, burst: 2, by: "token", clientsMax: nil)
      }) { fixture in
        let client = try fixture.client()
        func status(_ token: String) throws -> Int {
          try client.get("/api/v1/schema", token.isEmpty ? "" : "Authorization: Bearer \(token)\r\n").status
        }
        for token in ["", "token-a-0123456789", "token-b-0123456789"] {
          #expect(try (0..<3).map { _ in try status(token) } == [200, 200, 429])
        }
        // Whoever guesses tokens is counted by address.
        #expect(try status("token-c-0123456789") == 429)
        let refused = try client.get("/api/v1/schema")
        #expect(Int(refused.headers["retry-after"] ?? "") ?? 0 >= 990)
        #expect(try client.get("/health").status == 200)
      }
    }

    @Test func clientsBehindAProxy() async throws {
      try await withTransport({
        $0.rateLimit = RateLimitKeys(requestsPerSecond: 0.001, burst: 1, by: nil, clientsMax: nil)
        $0.trustedProxies = ["127.0.0.0/8", "2001:db8::/32"]
      }) { fixture in
        let client = try fixture.client()
        func status(_ stations: String) throws -> Int {
          try client.get("/api/v1/schema", "X-Forwarded-For: \(stations)\r\n").status
        }
        #expect(try status("192.0.2.1") == 200)
        #expect(try status("192.0.2.1:4711") == 429)
        // What the client itself has claimed does not count.
        #expect(try status("198.51.100.1, 192.0.2.1") == 429)
        #expect(try status("192.0.2.1, 198.51.100.7, 2001:db8::5, 127.0.0.2") == 200)
        // Of IPv6 a /64 is one client.
        #expect(try status("[2001:db9::1]:80") == 200)
        #expect(try status("2001:db9::2") == 429)
        #expect(try status("2001:db9:0:1::2") == 200)
        // What is no address ends the walk: the proxy before it is the client.
        #expect(try status("192.0.2.9, unknown") == 200)
        #expect(try status("192.0.2.10, nonsense") == 429)
      }
    }

    @Test func clientsBehindAProxyThatSendsForwarded() async throws {
      try await withTransport({
        $0.rateLimit = RateLimitKeys(requestsPerSecond: 0.001, burst: 1, by: nil, clientsMax: nil)
        $0.trustedProxies = ["127.0.0.0/8", "2001:db8::/32"]
        $0.clientAddressHeader = "Forwarded"
      }) { fixture in
        let client = try fixture.client()
        func status(_ lines: String...) throws -> Int {
          try client.get("/api/v1/schema", lines.map { "Forwarded: \($0)\r\n" }.joined()).status
        }
        #expect(try status("for=192.0.2.1") == 200)
        #expect(try status(#"proto=https;For="192.0.2.1:4711";by=_me"#) == 429)
        #expect(try status("for=198.51.100.1, for=192.0.2.1") == 429)
        #expect(try status("for=192.0.2.1", #"for=198.51.100.7, for="[2001:db8::5]", for=127.0.0.2"#) == 200)
        #expect(try status(#"for="[2001:db9::1]:80""#) == 200)
        #expect(try status(#"for="[2001:db9::2]""#) == 429)
        // The other header is the client's own.
        #expect(try client.get("/api/v1/schema", "X-Forwarded-For: 192.0.2.77\r\n").status == 200)
        #expect(try client.get("/api/v1/schema", "X-Forwarded-For: 192.0.2.78\r\n").status == 429)
        // Of what is malformed nothing is believed: it is the proxy's.
        #expect(try status(#"for="x, for=192.0.2.79"#) == 429)
        #expect(try status("for=192.0.2.80, for=unknown") == 429)
      }
    }

    @Test func theTableOfClientsIsBounded() {
      let limiter = RateLimiter(requestsPerSecond: 1, burst: 3, clientsMax: 100)
      func key(_ number: Int) -> ClientKey { ClientKey(IPAddress(v4: UInt32(number))) }
      var now: UInt64 = 1_000_000_000_000
      for _ in 0..<3 { #expect(limiter.admit(key(0), nowNs: now) == 0) }
      #expect(limiter.admit(key(0), nowNs: now) == 1)
      for number in 1..<10_000 {
        #expect(limiter.admit(key(number), nowNs: now) == 0)
        // Kept, because it keeps coming.
        #expect(limiter.admit(key(0), nowNs: now) > 0)
      }
      #expect(limiter.clients == 100)
      now += 1_000_000_000
      #expect(limiter.admit(key(0), nowNs: now) == 0)
      #expect(limiter.admit(key(0), nowNs: now) == 1)
      now += 1_000_000_000_000
      for _ in 0..<3 { #expect(limiter.admit(key(0), nowNs: now) == 0) }
      #expect(limiter.admit(key(0), nowNs: now) == 1)
    }

    @Test func addressesAndRanges() {
      #expect(IPAddress("192.0.2.1")?.isV4 == true)
      #expect(IPAddress("::ffff:192.0.2.1") == IPAddress("192.0.2.1"))
      #expect(IPAddress("192.0.2") == nil)
      for text in ["10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "/8", "x", "::/129", "10.0.0.0/8/8", ""] {
        #expect(AddressRange(text) == nil, "\(text)")
      }
      func holds(_ range: String, _ address: String) -> Bool {
        AddressRange(range)!.contains(IPAddress(address)!)
      }
      #expect(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.0"))
      #expect(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "2001:db8::1"))
      #expect(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.8"))
      #expect(holds("2001:db8::/65", "2001:db8::7fff:0:0:1") && !holds("2001:db8::/65", "2001:db8::8000:0:0:1"))
      #expect(holds("::/0", "2001:db8::1") && holds("fe80::1", "fe80::1") && !holds("fe80::1", "fe80::2"))
    }

    /// Everything that is wrong, each with its place, and nothing of a token.
    @Test func whatIsRefused() throws {
      let json = """
        {"tokens":[{"name":"","token":"secret-secret-1","allow":["read","fly"]},
        {"name":"a","token":"secret-secret-secret","sha256":"ab","allow":[]},{"name":"a","sha256":"abc"},
        {"name":"b","allow":["all"]},{"name":"c","token":"secret-secret-12","allow":[]},
        {"name":"d","token":"secret-secret-12","allow":[]}],"anonymous":["dance"],
        "origins":["https://app.example/","app"],"rate_limit":{"burst":0,"by":"name","clients_max":0},
        "trusted_proxies":["10.0.0.0/99"],"client_address_header":"via","http2_streams_max":0,"http2_answers_size_bytes_max":1,
        "tls":{"certificate_file":"relative.pem","minimum_version":"1.1","handshake_timeout_ms":0,
        "certificate_check_interval_ms":1}}
        """
      let configuration = try Self.decode(json)
      let errors = #expect(throws: ConfigurationErrors.self) { try configuration.limits() }
      let problems = errors?.problems ?? []
      let pointers = Set(problems.map(\.pointer))
      let expected = [
        "/tokens/0/name", "/tokens/0/token", "/tokens/0/allow/1", "/tokens/1", "/tokens/2/name", "/tokens/2/sha256",
        "/tokens/2/allow", "/tokens/3", "/tokens/5", "/anonymous/0", "/origins/0", "/origins/1",
        "/rate_limit/requests_per_second", "/rate_limit/burst", "/rate_limit/by", "/rate_limit/clients_max",
        "/trusted_proxies/0", "/client_address_header", "/http2_streams_max", "/http2_answers_size_bytes_max",
        "/tls/certificate_file", "/tls/private_key_file", "/tls/minimum_version", "/tls/handshake_timeout_ms",
        "/tls/certificate_check_interval_ms",
      ]
      #expect(Set(expected).subtracting(pointers) == [])
      #expect(pointers.subtracting(expected) == [])
      #expect(problems.allSatisfy { !$0.message.contains("secret-") && !$0.message.isEmpty })
      let unused = try Self.decode(#"{"trusted_proxies":["10.0.0.0/8"]}"#)
      #expect(throws: ConfigurationErrors.self) { try unused.limits() }
      let unread = try Self.decode(
        #"{"rate_limit":{"requests_per_second":1},"client_address_header":"forwarded"}"#)
      #expect(throws: ConfigurationErrors.self) { try unread.limits() }
      // Nothing asked for is nothing to look at.
      #expect(try Self.decode("{}").limits().access == nil)
    }
  }
}
