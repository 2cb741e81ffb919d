import NodeTesting
import Testing

/// Requests whose end two servers could see in different places: refused, and what stands behind them never runs.
@Suite struct FramingTests {
  @Test func ambiguousFramingIsRefused() throws {
    let node = try NodeProcess.memory(http: ["linger_timeout_ms: 50", "header_timeout_ms: 500", "body_timeout_ms: 500"])
    let steady = try HTTPConnection(port: node.port)
    let smuggledBody = #"{"tx":["mutable://smuggled/a",1]}"#
    let smuggled =
      "POST /api/v1/receive HTTP/1.1\r\nHost: t\r\nContent-Length: \(smuggledBody.utf8.count)\r\n\r\n\(smuggledBody)"
    let forms: [(String, String, Int)] = [
      ("two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
      ("two lengths in one", "Content-Length: 5, 6\r\n\r\nhello", 400),
      ("length and chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
      ("chunked and length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
      ("space before the colon", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
      ("tab before the colon", "Content-Length\t: 5\r\n\r\nhello", 400),
      ("folded", "Content-Length:\r\n 5\r\n\r\nhello", 400),
      ("signed", "Content-Length: +5\r\n\r\nhello", 400), ("negative", "Content-Length: -5\r\n\r\nhello", 400),
      ("hex", "Content-Length: 0x5\r\n\r\nhello", 400), ("empty", "Content-Length: \r\n\r\n", 400),
      ("overflow", "Content-Length: 18446744073709551621\r\n\r\nhello", 400),
      ("another coding", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
      ("identity", "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
      ("chunked not last", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
      ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
      ("no name", ": 5\r\n\r\n", 400), ("no colon", "Content-Length 5\r\n\r\nhello", 400),
      ("zero byte", "A: \u{0}\r\n\r\n", 400), ("bare CR", "A: b\rContent-Length: 5\r\n\r\nhello", 400),
      ("chunk size overflow", "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", 400),
      ("chunk size hex mark", "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
      ("chunk size negative", "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", 400),
      ("chunk longer than it says", "Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", 400),
    ]
    for (name, form, status) in forms {
      let client = try HTTPConnection(port: node.port, timeoutSeconds: 5)
      try client.send("POST /api/v1/receive HTTP/1.1\r\nHost: t\r\n\(form)\(smuggled)")
      let answer = try client.readAnswer()
      #expect(answer.status == status, "\(name)")
      #expect(answer.closes, "\(name)")
      #expect(try client.waitForClose(), "\(name): one answer only")
      #expect(try steady.get("/api/v1/read/mutable/smuggled/a").status == 404, "\(name)")
    }
    #expect(try steady.get("/health/live").status == 200)
  }

  @Test func aHundredPipelinedRequestsAreAnsweredInOrder() throws {
    let node = try NodeProcess()
    let client = try HTTPConnection(port: node.port)
    var requests = ""
    for index in 0..<100 {
      let body = #"{"tx":["mutable://pipe/\#(index)",\#(index)]}"#
      requests += "POST /api/v1/receive HTTP/1.1\r\nHost: t\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
      requests += "GET /api/v1/read/mutable/pipe/\(index) HTTP/1.1\r\nHost: t\r\nX-Request-Id: r\(index)\r\n\r\n"
    }
    try client.send(requests)
    for index in 0..<100 {
      #expect(try client.readAnswer().text == #"{"accepted":true}"#)
      let read = try client.readAnswer()
      #expect(read.text.hasSuffix(#","data":\#(index)}"#))
      #expect(read.headers["x-request-id"] == "r\(index)")
    }
  }

  @Test func aHundredPipelinedRequestsAreAnsweredInOrderByAnAsynchronousBackend() throws {
    let node = try NodeProcess(environment: ["BACKEND_URL": "sqlite://"])
    let client = try HTTPConnection(port: node.port)
    var requests = ""
    for index in 0..<50 {
      let body = #"{"tx":["mutable://pipe/one",\#(index)]}"#
      requests += "POST /api/v1/receive HTTP/1.1\r\nHost: t\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
      requests += "GET /api/v1/read/mutable/pipe/one HTTP/1.1\r\nHost: t\r\n\r\n"
    }
    try client.send(requests)
    for index in 0..<50 {
      #expect(try client.readAnswer().text == #"{"accepted":true}"#)
      #expect(try client.readAnswer().text.hasSuffix(#","data":\#(index)}"#), "a read sees the write before it")
    }
  }

  @Test func aHalfClosedClientGetsItsAnswers() throws {
    let node = try NodeProcess(environment: ["BACKEND_URL": "sqlite://"])
    let client = try HTTPConnection(port: node.port)
    let body = #"{"tx":["mutable://half/a",1]}"#
    try client.send(
      "POST /api/v1/receive HTTP/1.1\r\nHost: t\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        + "GET /api/v1/read/mutable/half/a HTTP/1.1\r\nHost: t\r\n\r\n")
    client.endSending()
    #expect(try client.readAnswer().status == 200)
    #expect(try client.readAnswer().text.hasSuffix(#","data":1}"#))
    #expect(try client.waitForClose())
    // Cut off in the middle: nothing is written.
    let cut = try HTTPConnection(port: node.port)
    try cut.send(
      "POST /api/v1/receive HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n" + #"{"tx":["mutable://half/b",1]}"#)
    cut.endSending()
    _ = try? cut.readAnswer()
    #expect(try HTTPConnection(port: node.port).get("/api/v1/read/mutable/half/b").status == 404)
  }
}
