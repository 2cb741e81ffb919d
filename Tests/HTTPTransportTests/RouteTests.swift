import PluginAPI
import Testing
import TransportSupport

@testable import HTTPTransport

extension HTTPTests {
  @Suite struct RouteTests {
    @Test func bytesOfJSONAreKept() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        let data = "{ \"b\" : 1.0, \"a\":12345678901234567890 ,\"a\": \"\\u00e9\" }"
        let written = try client.receive("{\"tx\":[\"mutable://open/x\",\(data)]}")
        #expect(written.status == 200)
        #expect(written.text == "{\"accepted\":true}")
        #expect(written.headers["x-backplane-durability"] == "disk")
        #expect(try client.get("/api/v1/read/mutable/open/x").text == "{\"ts\":0,\"data\":\(data)}")
      }
    }

    @Test func invalidUTF8IsRefused() async throws {
      try await withTransport { fixture in
        let body = Array("{\"tx\":[\"mutable://open/x\",\"".utf8) + [0xFF] + Array("\"]}".utf8)
        let answer = try fixture.client().post("/api/v1/receive", body)
        #expect(answer.status == 400)
        #expect(answer.text.contains("not valid UTF-8"))
      }
    }

    @Test func healthReadinessSchemaAndMetrics() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        #expect(
          try client.get("/api/v1/health").text == "{\"status\":\"healthy\",\"backends\":[\"memory\",\"sqlite\"]}")
        #expect(try client.get("/health").text == "{\"status\":\"healthy\",\"backends\":[\"memory\",\"sqlite\"]}")
        #expect(try client.get("/health/live").status == 200)
        #expect(try client.get("/health/ready").status == 200)
        #expect(try client.get("/api/v1/schema").text == #"{"schema":["mutable://open","hash://\"sha256\""]}"#)
        let metrics = try client.get("/metrics")
        #expect(metrics.text == "# EOF\n")
        #expect(metrics.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8")
        fixture.host.state.withLock { ($0.healthState, $0.isReady) = (BP_HEALTH_UNHEALTHY, false) }
        let sick = try client.get("/api/v1/health")
        #expect(sick.status == 503)
        #expect(sick.text.hasPrefix("{\"status\":\"unhealthy\",\"message\":\"primary: the disk is full"))
        let notReady = try client.get("/health/ready")
        #expect(notReady.status == 503)
        #expect(notReady.text.contains("the disk is full"))
      }
    }

    @Test func readMultiKeepsOrderAndShape() async throws {
      try await withTransport { fixture in
        fixture.host.put("mutable://m/a", json: "[1 ]")
        fixture.host.put("mutable://m/b.png", BP_CONTENT_BYTES, [0, 0xFF, 0x68, 0x69])
        let client = try fixture.client()
        let uris = #"{"uris":["mutable://m/a","mutable://m/none","mutable://m/b.png"]}"#
        let expected =
          #"{"success":true,"results":[{"uri":"mutable://m/a","success":true,"record":{"ts":7,"data":[1 ]}},"#
          + #"{"uri":"mutable://m/none","success":false,"error":"Not found: mutable://m/none"},"#
          + #"{"uri":"mutable://m/b.png","success":true,"record":{"ts":7,"data":"#
          + #"{"__b3nd_binary__":true,"encoding":"base64","data":"AP9oaQ=="}}}],"#
          + #""summary":{"total":3,"succeeded":2,"failed":1}}"#
        #expect(try client.post("/api/v1/read-multi", Array(uris.utf8)).text == expected)
        let none = try client.post("/api/v1/read-multi", Array(#"{"uris":[]}"#.utf8))
        #expect(none.text == #"{"success":false,"results":[],"summary":{"total":0,"succeeded":0,"failed":0}}"#)
        let many = "{\"uris\":[" + Array(repeating: "\"mutable://m/a\"", count: 51).joined(separator: ",") + "]}"
        let tooMany = try client.post("/api/v1/read-multi", Array(many.utf8))
        #expect(tooMany.text == #"{"success":false,"results":[],"summary":{"total":51,"succeeded":0,"failed":51}}"#)
        #expect(try client.post("/api/v1/read-multi", Array("[]".utf8)).status == 400)
      }
    }

    @Test func readMultiLeavesOutWhatIsTooLarge() async throws {
      try await withTransport({ $0.readMultiSizeBytesMax = 4 }) { fixture in
        fixture.host.put("mutable://m/a", json: "\"too long\"")
        let answer = try fixture.client().post("/api/v1/read-multi", Array(#"{"uris":["mutable://m/a"]}"#.utf8))
        #expect(answer.text.contains("\"success\":false,\"error\":\"Left out"))
      }
    }

    @Test func listsPageAndClamp() async throws {
      try await withTransport { fixture in
        for name in ["a", "b", "c\\d"] { fixture.host.put("mutable://l/\(name)", json: "1") }
        let client = try fixture.client()
        #expect(
          try client.get("/api/v1/list/mutable/l?limit=2").text
            == #"{"success":true,"data":[{"uri":"mutable://l/a"},{"uri":"mutable://l/b"}],"#
            + #""pagination":{"page":1,"limit":2,"total":3}}"#)
        #expect(try client.get("/api/v1/list/mutable/l?limit=2&page=2").text.contains(#"[{"uri":"mutable://l/c\\d"}]"#))
        #expect(
          try client.get("/api/v1/list/mutable/l?page=0&limit=-1").text.contains(#""page":1,"limit":50,"total":3"#))
        let invalid = try client.get("/api/v1/list/9bad/x?limit=7")
        #expect(invalid.text == #"{"success":true,"data":[],"pagination":{"page":1,"limit":7,"total":0}}"#)
      }
    }

    @Test func urisThatAreNone() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        let read = try client.get("/api/v1/read/9bad/yyy/x")
        #expect(read.status == 404)
        #expect(read.text == #"{"error":"Not found: 9bad://yyy/x"}"#)
        let deleted = try client.get("/api/v1/delete/9bad/yyy/x", method: "DELETE")
        #expect(deleted.status == 404)
        #expect(deleted.text == #"{"success":false,"error":"Not found: 9bad://yyy/x"}"#)
      }
    }

    @Test func headHasTheLengthAndNoBody() async throws {
      try await withTransport { fixture in
        fixture.host.put("mutable://open/x", json: "[1,2,3]")
        let client = try fixture.client()
        let whole = try client.get("/api/v1/read/mutable/open/x")
        let head = try client.get("/api/v1/read/mutable/open/x", method: "HEAD")
        #expect(head.headers["content-length"] == "\(whole.body.count)")
        // The next answer begins where the head ended: there was no body.
        #expect(try client.get("/api/v1/read/mutable/open/x").text == whole.text)
      }
    }

    @Test func aFixedOriginIsSentOnEveryAnswer() async throws {
      try await withTransport({ $0.corsOrigin = "https://a.test" }) { fixture in
        let client = try fixture.client()
        for path in ["/nope", "/api/v1/health"] {
          #expect(
            try client.get(path, "Origin: http://b.test\r\n").headers["access-control-allow-origin"] == "https://a.test"
          )
        }
        let preflight = try client.get("/x", "Access-Control-Request-Headers: a, b\r\n", method: "OPTIONS")
        #expect(preflight.headers["access-control-allow-origin"] == "https://a.test")
        #expect(preflight.headers["access-control-allow-headers"] == "a,b")
        #expect(preflight.headers["vary"] == "Origin, Access-Control-Request-Headers")
      }
    }

    @Test func idsTracesAndPeers() async throws {
      try await withTransport { fixture in
        let client = try fixture.client()
        let path = "/api/v1/read/mutable/open/x"
        #expect(try client.get(path, "X-Request-Id: abc-1\r\n").headers["x-request-id"] == "abc-1")
        let first = try client.get(path).headers["x-request-id"]
        let second = try client.get(path).headers["x-request-id"]
        #expect(first?.count == 16)
        #expect(first != second)
        let long = String(repeating: "a", count: 129)
        #expect(try client.get(path, "X-Request-Id: \(long)\r\n").headers["x-request-id"]?.count == 16)
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        _ = try client.get(path, "traceparent: \(trace)\r\n")
        let call = try #require(fixture.host.state.withLock { $0.calls.last })
        #expect(call.trace == 0x8448_eb21_1c80_319c)
        #expect(call.deadline > 0)
        #expect(call.peer.hasPrefix("127.0.0.1:"))
      }
    }

    @Test(arguments: [
      (BP_REJECTED, 400), (BP_INVALID_ARGUMENT, 400), (BP_RESOURCE_EXHAUSTED, 503), (BP_UNAVAILABLE, 503),
      (BP_DURABILITY, 503),
      (BP_DEADLINE_EXCEEDED, 504), (BP_INTERNAL, 500), (BP_UNKNOWN, 500), (BP_DATA_LOSS, 500), (99, 500),
    ])
    func codesBecomeStatuses(code: bp_code, status: Int) async throws {
      try await withTransport { fixture in
        fixture.host.state.withLock { $0.failure = (code, "the \"secret\" reason") }
        let client = try fixture.client()
        for answer in [
          try client.get("/api/v1/read/mutable/open/x"), try client.receive(#"{"tx":["mutable://open/x",1]}"#),
        ] {
          #expect(answer.status == status)
          #expect(answer.headers["retry-after"] == (code == BP_UNAVAILABLE ? "2" : status == 503 ? "1" : nil))
          if status == 500 {
            #expect(answer.text == "Internal Server Error")
          } else {
            #expect(answer.text.contains("the \\\"secret\\\" reason"))
          }
        }
      }
    }
  }
}

extension HTTPTests {
  @Suite struct TextTests {
    @Test(arguments: [
      ("1", 1.0), ("1e3", 1000), (" 7 ", 7), ("0x10", 16), ("-1", -1), ("1.5", 1.5), (".5", 0.5), ("5.", 5), ("", 0),
      ("Infinity", .infinity), ("0b11", 3), ("+2", 2),
    ])
    func numbersAsJavaScriptReadsThem(text: String, value: Double) {
      #expect(JavaScriptNumber.parse(text) == value)
    }

    @Test(arguments: ["abc", "1 2", "inf", "nan", "0x", "0xg", "1e", "--1", "0x1p3", "e"])
    func textsThatAreNoNumbers(text: String) {
      #expect(JavaScriptNumber.parse(text).isNaN)
    }

    @Test func queries() {
      func parse(_ text: String) -> ListParameters {
        var text = text
        return text.withUTF8 { ListParameters($0) }
      }
      let all = parse("page=2&limit=1e1&pattern=a%2B+b%zz&sortBy=name&sortOrder=desc&page=9")
      #expect(all.page == 2)
      #expect(all.limit == 10)
      #expect(String(decoding: all.pattern, as: UTF8.self) == "a+ b%zz")
      #expect(all.sort == BP_SORT_NAME)
      #expect(all.flags == BP_LIST_DESCENDING)
      let odd = parse("page=abc&limit=0&sortBy=NAME&sortOrder=DESC&pattern=")
      #expect(odd.page == 1)
      #expect(odd.limit == 50)
      #expect(odd.pattern.isEmpty)
      #expect(odd.sort == BP_SORT_NONE)
      #expect(odd.flags == 0)
      #expect(parse("limit=Infinity").limit == UInt64(ListParameters.numberMax))
    }

    @Test func dates() {
      #expect(HTTPDate.text(secondsSince1970: 784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT")
      #expect(HTTPDate.text(secondsSince1970: 951_782_400) == "Tue, 29 Feb 2000 00:00:00 GMT")
      #expect(HTTPDate.text(secondsSince1970: 0) == "Thu, 01 Jan 1970 00:00:00 GMT")
    }

    @Test func traces() {
      #expect(TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")?.span == 0xb7ad_6b71_6920_3331)
      for bad in [
        "", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
      ] {
        #expect(TraceContext(bad) == nil)
      }
    }

    @Test func digits() {
      for (value, count) in [(0, 1), (9, 1), (10, 2), (999, 3), (1000, 4)] as [(UInt64, Int)] {
        #expect(ByteCursor.digits(value) == count)
      }
      #expect(ByteCursor.digits(.max) == 20)
      #expect(ByteCursor.digits(9_999_999_999_999_999_999) == 19)
      #expect(ByteCursor.digits(10_000_000_000_000_000_000) == 20)
    }

    @Test func everyWrongValueIsNamed() throws {
      var configuration = HTTPConfiguration()
      configuration.loops = 0
      configuration.idleTimeoutMs = -1
      configuration.corsOrigin = "a\r\nb"
      let errors = try #require(throws: ConfigurationErrors.self) { try configuration.limits() }
      #expect(errors.problems.map(\.pointer) == ["/loops", "/idle_timeout_ms", "/cors_origin"])
    }
  }
}
