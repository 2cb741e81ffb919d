import Foundation
import NodeTesting
import Testing

/// What clients should not send: each gets a clear answer or a closed connection, and nobody else notices.
@Suite struct BadInputTests {
  @Test func badBodies() throws {
    let node = try NodeProcess()
    let client = try HTTPConnection(port: node.port)
    let wrongShape = "Invalid message format: expected { tx: [uri, data] }"
    let cases: [(String, String)] = [
      ("", wrongShape), ("{", wrongShape), ("nonsense", wrongShape), (#"{"tx":["mutable://open/a",1]"#, wrongShape),
      (#"{"tx":["mutable://open/a",1]}x"#, wrongShape), (#"{"tx":["mutable://open/a",01]}"#, wrongShape),
      (#"{"tx":["mutable://open/a",{a:1}]}"#, wrongShape), (#"{"tx":["mutable://open/a",'x']}"#, wrongShape),
      (#"{"tx":["mutable://open/a",[1,]]}"#, wrongShape), (#"{"tx":["mutable://open/a",NaN]}"#, wrongShape),
      ("{\"tx\":[\"mutable://open/a\",\"\u{1}\"]}", wrongShape), (#"{"tx":["mutable://open/a","\x"]}"#, wrongShape),
      (#"{"tx":null}"#, wrongShape), (#"{"tx":["mutable://open/a"]}"#, wrongShape), (#"{"TX":["a",1]}"#, wrongShape),
      (#"{"tx":[7,1]}"#, "Message URI is required"), (#"{"tx":["",1]}"#, "Message URI is required"),
      (#"{"tx":["nonsense",1]}"#, "Invalid URI format"), (#"{"tx":["mutable://a b/x",1]}"#, "Invalid URI format"),
    ]
    for (body, error) in cases {
      let answer = try client.post("/api/v1/receive", body)
      #expect(answer.status == 400, "\(body)")
      #expect(JSONValue(answer.body) == JSONValue(#"{"accepted":false,"error":"\#(error)"}"#), "\(body)")
      #expect(!answer.closes, "the body was read to its end: \(body)")
    }
    let deep = String(repeating: "[", count: 100_000)
    let tooDeep = try client.post("/api/v1/receive", #"{"tx":["mutable://open/a",\#(deep)"#)
    #expect(tooDeep.status == 400)
    #expect(try client.get("/api/v1/read/mutable/open/a").status == 404, "nothing was written")
  }

  @Test func invalidUTF8IsA400() throws {
    let node = try NodeProcess()
    let client = try HTTPConnection(port: node.port)
    for bytes: [UInt8] in [
      [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82], [0x80],
    ] {
      for place in ["data", "uri", "name"] {
        var body = Array(
          #"{"tx":["mutable://open/\#(place == "uri" ? "@" : "a")",{"\#(place == "name" ? "@" : "b")":"#.utf8)
        body += Array(#""\#(place == "data" ? "@" : "c")"}]}"#.utf8)
        let at = try #require(body.firstIndex(of: UInt8(ascii: "@")))
        body.replaceSubrange(at...at, with: bytes)
        let answer = try client.request("POST", "/api/v1/receive", body: body)
        #expect(answer.status == 400, "\(bytes) in \(place): \(answer.text)")
        #expect(JSONValue(answer.body)?["accepted"] == .bool(false))
      }
    }
    #expect(try client.get("/api/v1/list/mutable/open").text.contains(#""total":0"#))
  }

  @Test func badPercentEncoding() throws {
    let node = try NodeProcess()
    let client = try HTTPConnection(port: node.port)
    for path in [
      "mutable/%zz/a", "mutable/%/a", "mutable/%ff/a", "mutable/op%00en/a", "mutable/open/%zz", "%ff/open/a",
    ] {
      let read = try client.get("/api/v1/read/\(path)")
      #expect(read.status == 404, "\(path)")
      #expect(JSONValue(read.body)?.names == ["error"], "\(path): \(read.text)")
      let removed = try client.request("DELETE", "/api/v1/delete/\(path)")
      #expect(removed.status == 404, "\(path)")
      #expect(JSONValue(removed.body)?["success"] == .bool(false), "\(path): \(removed.text)")
      let list = try client.get("/api/v1/list/\(path)")
      #expect(list.status == 200, "\(path)")
      #expect(JSONValue(list.body)?["data"] == .array([]), "\(path): \(list.text)")
    }
    // A percent sign that escapes nothing is text after the domain, as in every WHATWG URL.
    #expect(try client.post("/api/v1/receive", #"{"tx":["mutable://open/%zz",1]}"#).status == 200)
    #expect(try client.get("/api/v1/read/mutable/open/%zz").text.hasSuffix(#""data":1}"#))
  }

  @Test(arguments: ["memory://", "sqlite://"])
  func longURIs(backend: String) throws {
    let node = try NodeProcess(environment: ["BACKEND_URL": backend])
    let target = try HTTPConnection(port: node.port).get("/api/v1/read/mutable/open/" + pattern(9_000))
    #expect(target.status == 414)
    #expect(target.closes)
    #expect(target.text.contains("8192"))
    let client = try HTTPConnection(port: node.port)
    let long = "mutable://open/" + pattern(9_000)
    let written = try client.post("/api/v1/receive", #"{"tx":["\#(long)",1]}"#)
    #expect(written.status == 400)
    #expect(JSONValue(written.body)?["error"]?.string?.contains("long") == true, "\(written.text)")
    let multi = try client.post("/api/v1/read-multi", #"{"uris":["\#(long)"]}"#)
    #expect(multi.status == 200)
    #expect(JSONValue(multi.body)?["success"] == .bool(false))
    // Between what SQLite's keys hold (4,095 bytes) and what the node takes (8,192).
    let middle = try client.post("/api/v1/receive", #"{"tx":["mutable://open/\#(pattern(5_000))",1]}"#)
    let read = try client.get("/api/v1/read/mutable/open/" + pattern(5_000))
    if middle.status == 200 {
      #expect(read.status == 200)
    } else {
      #expect(middle.status == 400, "\(middle.text)")
      #expect(JSONValue(middle.body)?["error"]?.string?.contains("bytes") == true, "\(middle.text)")
      #expect(read.status == 404, "\(read.text)")
    }
    #expect(try node.isServing())
  }

  @Test func bodiesAboveTheBound() throws {
    let node = try NodeProcess()
    let other = try HTTPConnection(port: node.port)
    let announced = try HTTPConnection(port: node.port)
    try announced.send("POST /api/v1/receive HTTP/1.1\r\nHost: t\r\nContent-Length: 16777217\r\n\r\n")
    let early = try announced.readAnswer()
    #expect(early.status == 413, "answered before the body comes")
    #expect(early.closes)
    #expect(try announced.waitForClose())
    #expect(try other.get("/health/live").status == 200)

    let chunked = try HTTPConnection(port: node.port)
    try chunked.send("POST /api/v1/receive HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    let piece = Array("100000\r\n".utf8) + [UInt8](repeating: 0x20, count: 1 << 20) + Array("\r\n".utf8)
    // The seventeenth mebibyte is one too many; a client that goes on sending is listened to for a while.
    for _ in 0..<17 { try chunked.send(piece) }
    let late = try chunked.readAnswer()
    #expect(late.status == 413)
    #expect(late.text == "The request's body is longer than 16777216 bytes.")
    #expect(late.closes)
    #expect(try other.get("/health/live").status == 200)

    // As much as is allowed is taken, whichever way it comes.
    let filler = [UInt8](repeating: 0x20, count: (16 << 20) - 32)
    let whole = filler + Array(#"{"tx":["mutable://open/full",1]}"#.utf8)
    #expect(whole.count == 16 << 20)
    #expect(try HTTPConnection(port: node.port).request("POST", "/api/v1/receive", body: whole).status == 200)
    let small = try HTTPConnection(port: node.port)
    try small.send("POST /api/v1/receive HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    for byte in #"{"tx":["mutable://open/chunks",[1]]}"#.utf8 { try small.send([0x31, 13, 10, byte, 13, 10]) }
    try small.send("0\r\nTrailer: ignored\r\n\r\n")
    #expect(try small.readAnswer().status == 200)
    #expect(try small.get("/api/v1/read/mutable/open/chunks").text.hasSuffix(#""data":[1]}"#))
  }

  /// The node's own bound holds below the transport's, for JSON and for what a marker decodes to.
  @Test func theNodeBoundsData() throws {
    let node = try NodeProcess.memory(http: ["loops: 1"], more: "limits:\n  body_size_bytes_max: 1000\n")
    let client = try HTTPConnection(port: node.port)
    for (count, status) in [(998, 200), (999, 400), (100_000, 400)] {
      let answer = try client.post("/api/v1/receive", #"{"tx":["mutable://open/a","\#(pattern(count))"]}"#)
      #expect(answer.status == status, "\(count): \(answer.text)")
      #expect(answer.status == 200 || answer.text.contains("limits.body_size_bytes_max"))
    }
    for (count, status) in [(1000, 200), (1001, 400)] {
      let base64 = Data(count: count).base64EncodedString()
      let marker = #"{"__b3nd_binary__":true,"encoding":"base64","data":"\#(base64)"}"#
      #expect(try client.post("/api/v1/receive", #"{"tx":["mutable://open/a",\#(marker)]}"#).status == status)
    }
    #expect(try client.get("/api/v1/read/mutable/open/a").body.count == 1000)
  }

  @Test func heads() throws {
    let node = try NodeProcess()
    func answer(_ text: String) throws -> HTTPConnection.Answer {
      let client = try HTTPConnection(port: node.port)
      try client.send(text)
      let answer = try client.readAnswer()
      if answer.status != 200 { #expect(try answer.closes && client.waitForClose()) }
      return answer
    }
    let start = "GET /health/live HTTP/1.1\r\nHost: t\r\n"
    #expect(try answer(start + "A: \(pattern(40_000))\r\n\r\n").status == 431, "one huge header")
    #expect(try answer(start + "A: \(pattern(10_000_000))\r\n\r\n").status == 431, "one endless header")
    #expect(try answer(start + headers(200) + "\r\n").status == 431, "many headers")
    #expect(try answer(start + headers(200_000) + "\r\n").status == 431, "a flood of headers")
    #expect(try answer(start + headers(100) + "\r\n").status == 200)
    #expect(try answer(start + "\(pattern(40_000)): a\r\n\r\n").status == 431, "one huge name")
    #expect(try answer("\(pattern(100_000)) / HTTP/1.1\r\n\r\n").status == 400, "a huge method")
    #expect(try node.isServing())
  }

  private func headers(_ count: Int) -> String { (0..<count).map { "X-\($0): \($0)\r\n" }.joined() }

  private func pattern(_ count: Int) -> String { String(repeating: "a", count: count) }

  @Test func garbageEndsOnlyItsOwnConnection() throws {
    let node = try NodeProcess.memory(http: ["linger_timeout_ms: 50"])
    let steady = try HTTPConnection(port: node.port)
    var random = SeededRandom(state: 20_26)
    for round in 0..<200 {
      let client = try HTTPConnection(port: node.port)
      var bytes = (0..<Int.random(in: 1...3_000, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
      if round % 4 == 0 {
        bytes = Array("GET /api/v1/read/mutable/open/".utf8) + bytes + Array(" HTTP/1.1\r\n\r\n".utf8)
      }
      if round % 4 == 1 { bytes = Array("POST /api/v1/receive HTTP/1.1\r\n".utf8) + bytes + Array("\r\n\r\n".utf8) }
      if round % 4 == 2 { bytes = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00] + bytes }
      try client.send(bytes)
      client.endSending()
      do {
        let answer = try client.readAnswer()
        #expect([400, 404, 414, 431, 505].contains(answer.status), "round \(round)")
      } catch HTTPConnection.Trouble.closed {}
      if round % 20 == 0 { #expect(try steady.get("/health/live").status == 200) }
    }
    #expect(try steady.get("/health/live").status == 200)
  }
}

/// SplitMix64.
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
