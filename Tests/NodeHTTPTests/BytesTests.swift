import Foundation
import NodeTesting
import Testing

/// What is stored comes back: byte for byte, on every backend.
@Suite struct BytesTests {
  private static let texts: [String] = [
    "0", "-0", "1.0", "1e2", "1E+2", "1e400", "-1e-400", "12345678901234567890", "0.10000000000000000000000000001",
    "null", "true", "false", #""""#, "[]", "{}", "[ ]", "{ }", "[ 1 ,\t2\n,\r\n3 ]",
    #"{"b":1,"a":2,"10":3,"2":4}"#, #"{"a":1,"b":2,"a":3}"#, #"{"a":{"z":1,"z":2},"":0}"#,
    #""\/\b\f\n\r\t\"\\""#, #""\u0000""#, #"{"\u0000":"\u0000"}"#, #""\ud800x""#, #""\udc00\ud800""#,
    #""\uD83D\uDE00""#, #""\u00e9\u2028\u2029\u007f""#, "\"\u{e9}\u{2028}\u{7f}\u{1F600}\u{FFFE}\"",
    #"{"__b3nd_binary__":true,"data":"AA=="}"#, #"{"__b3nd_binary__":true,"encoding":"hex","data":"00"}"#,
    #"{"\u005f_b3nd_binary__":1}"#, "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]", "\"\(String(repeating: "x", count: 100_000))\"",
  ]

  @Test(arguments: ["memory://", "sqlite://"])
  func jsonIsKeptByteForByte(backend: String) throws {
    let node = try NodeProcess(environment: ["BACKEND_URL": backend])
    let client = try HTTPConnection(port: node.port)
    for (index, text) in Self.texts.enumerated() {
      // Whitespace around the value is the body's, not the value's.
      let written = try client.post("/api/v1/receive", " {\"tx\" : [\"mutable://bytes/\(index)\" , \(text) ] }\n")
      #expect(written.status == 200, "\(text.prefix(80)): \(written.text)")
      let read = try client.get("/api/v1/read/mutable/bytes/\(index)")
      let isKept = read.text.hasSuffix(#","data":\#(text)}"#)
      #expect(isKept, "\(text.prefix(80)): \(read.text.prefix(200))")
      #expect(read.text.wholeMatch(of: #/{"ts":[0-9]{13},"data":(?s:.*)}/#) != nil)
    }
    let uris = Self.texts.indices.map { #""mutable://bytes/\#($0)""# }.joined(separator: ",")
    let multi = try client.post("/api/v1/read-multi", #"{"uris":[\#(uris)]}"#)
    for text in Self.texts {
      let isKept = multi.text.contains(#","data":\#(text)}}"#)
      #expect(isKept, "\(text.prefix(80))")
    }
  }

  @Test(arguments: ["memory://", "sqlite://"])
  func bytesAreKeptByteForByte(backend: String) throws {
    let node = try NodeProcess(environment: ["BACKEND_URL": backend])
    let client = try HTTPConnection(port: node.port)
    // 10 MiB of noise: 13.3 MiB of base64, below the body's bound of 16 MiB.
    var noise = SystemRandomNumberGenerator()
    var bytes = [UInt8](repeating: 0, count: 10 << 20)
    bytes.withUnsafeMutableBytes { memory in
      let words = memory.assumingMemoryBound(to: UInt64.self)
      for index in words.indices { words[index] = noise.next() }
    }
    #expect(try write(client, "mutable://files/large.bin", bytes).status == 200)
    let large = try client.get("/api/v1/read/mutable/files/large.bin")
    #expect(large.status == 200)
    #expect(large.headers["content-type"] == "application/octet-stream")
    #expect(large.body == bytes)
    let head = try client.request("HEAD", "/api/v1/read/mutable/files/large.bin")
    #expect(head.headers["content-length"] == "\(bytes.count)")
    #expect(head.body.isEmpty)

    for (name, type, content) in [
      ("all.wasm", "application/wasm", Array(UInt8.min...UInt8.max)), ("empty.png", "image/png", []),
      ("text.json", "application/json", Array(#"{"a":1}"#.utf8)),
    ] {
      #expect(try write(client, "mutable://files/\(name)", content).status == 200)
      let read = try client.get("/api/v1/read/mutable/files/\(name)")
      #expect(read.status == 200)
      #expect(read.body == content)
      #expect(read.headers["content-type"] == type)
    }
  }

  /// One answer to one request, whatever its size: around the buffer's bounds and the watermarks of writing.
  @Test(arguments: ["memory://", "sqlite://"])
  func answersOfEverySize(backend: String) throws {
    let node = try NodeProcess(environment: ["BACKEND_URL": backend])
    let client = try HTTPConnection(port: node.port)
    let sizes = [
      1, 1_000, 16_000, 32_000, 65_000, 66_000, 100_000, 131_000, 200_000, 262_000, 263_000, 1_000_000, 5_000_000,
    ]
    for size in sizes {
      let text = String(repeating: "x", count: size)
      #expect(try client.post("/api/v1/receive", #"{"tx":["mutable://size/\#(size)","\#(text)"]}"#).status == 200)
    }
    // One after the other, then all at once.
    func check(_ size: Int, _ answer: HTTPConnection.Answer) {
      #expect(answer.status == 200)
      #expect(answer.body.count == size + #"{"ts":1700000000000,"data":""}"#.utf8.count, "\(size)")
    }
    for size in sizes {
      check(size, try client.get("/api/v1/read/mutable/size/\(size)"))
      #expect(try client.get("/health/live").text == #"{"status":"live"}"#, "after \(size)")
    }
    let request = { (size: Int) in "GET /api/v1/read/mutable/size/\(size) HTTP/1.1\r\nHost: t\r\n\r\n" }
    for _ in 0..<3 {
      try client.send((sizes + sizes.reversed()).map(request).joined())
      for size in sizes + sizes.reversed() { check(size, try client.readAnswer()) }
    }
    #expect(try client.get("/health/live").text == #"{"status":"live"}"#)
    #expect(try !client.hasInput(withinMs: 20), "nothing is left over")
  }

  @Test func readMultiHasTheContractsShape() throws {
    let node = try NodeProcess()
    let client = try HTTPConnection(port: node.port)
    _ = try client.post("/api/v1/receive", #"{"tx":["mutable://m/json",{"a":1.0}]}"#)
    #expect(try write(client, "mutable://m/b.png", [0, 255, 104, 105]).status == 200)

    let mixed = try client.post(
      "/api/v1/read-multi",
      #"{"uris":["mutable://m/b.png","mutable://m/none","mutable://m/json","nonsense","mutable://m/x/../json"]}"#)
    #expect(mixed.status == 200)
    let value = try #require(JSONValue(mixed.body))
    #expect(value.names == ["success", "results", "summary"])
    #expect(value["success"] == .bool(true))
    #expect(value["summary"] == JSONValue(#"{"total":5,"succeeded":3,"failed":2}"#))
    let results = try #require(value["results"]?.items)
    #expect(
      results.map { $0["uri"]?.string } == [
        "mutable://m/b.png", "mutable://m/none", "mutable://m/json", "nonsense", "mutable://m/x/../json",
      ], "in the order and words of the request")
    #expect(results.map { $0["success"] } == [true, false, true, false, true].map { .bool($0) })
    #expect(
      results[0]["record"]?["data"] == JSONValue(#"{"__b3nd_binary__":true,"encoding":"base64","data":"AP9oaQ=="}"#))
    #expect(results[0]["record"]?["ts"]?.double ?? 0 > 1e12)
    #expect(results[0].names == ["uri", "success", "record"])
    #expect(results[1].names == ["uri", "success", "error"])
    #expect(results[1]["error"]?.string == "Not found: mutable://m/none")
    #expect(mixed.text.contains(#""data":{"a":1.0}"#))
    #expect(results[4]["record"] == results[2]["record"])

    let none = try client.post("/api/v1/read-multi", #"{"uris":["mutable://m/none"]}"#)
    #expect(none.status == 200)
    #expect(JSONValue(none.body)?["success"] == .bool(false))
    #expect(JSONValue(none.body)?["summary"] == JSONValue(#"{"total":1,"succeeded":0,"failed":1}"#))

    for count in [0, 51, 10_000] {
      let uris = Array(repeating: #""mutable://m/json""#, count: count).joined(separator: ",")
      let answer = try client.post("/api/v1/read-multi", #"{"uris":[\#(uris)]}"#)
      #expect(answer.status == 200)
      #expect(
        JSONValue(answer.body)
          == JSONValue(
            #"{"success":false,"results":[],"summary":{"total":\#(count),"succeeded":0,"failed":\#(count)}}"#))
    }
    let fifty = Array(repeating: #""mutable://m/json""#, count: 50).joined(separator: ",")
    let answer = try client.post("/api/v1/read-multi", #"{"uris":[\#(fifty)]}"#)
    #expect(JSONValue(answer.body)?["summary"] == JSONValue(#"{"total":50,"succeeded":50,"failed":0}"#))
    #expect(JSONValue(answer.body)?["results"]?.items?.count == 50)

    for body in ["", "{", "[]", #"{"uris":"mutable://m/json"}"#, #"{"uris":[1]}"#, #"{"uri":[]}"#] {
      #expect(try client.post("/api/v1/read-multi", body).status == 400, "\(body)")
    }
  }

  @Test func writesSayHowSafeTheyAre() throws {
    func durability(_ node: NodeProcess) throws -> [String?] {
      let client = try HTTPConnection(port: node.port)
      let written = try client.post("/api/v1/receive", #"{"tx":["mutable://open/a",1]}"#)
      let deleted = try client.request("DELETE", "/api/v1/delete/mutable/open/a")
      let missing = try client.request("DELETE", "/api/v1/delete/mutable/open/a")
      #expect(missing.status == 404)
      #expect(missing.headers["x-backplane-durability"] == nil)
      #expect(try client.get("/api/v1/read/mutable/open/a").headers["x-backplane-durability"] == nil)
      return [written, deleted].map { $0.headers["x-backplane-durability"] }
    }
    #expect(try durability(NodeProcess()) == ["memory", "memory"])
    #expect(try durability(NodeProcess(environment: ["BACKEND_URL": "sqlite://"])) == ["disk", "disk"])
    let os = """
      slots:
        main:
          kind: backend
          url: "sqlite://"
          durability: os
      """
    #expect(try durability(NodeProcess(configuration: os)) == ["os", "os"])
  }

  private func write(_ client: HTTPConnection, _ uri: String, _ bytes: [UInt8]) throws -> HTTPConnection.Answer {
    let base64 = Data(bytes).base64EncodedString()
    return try client.post(
      "/api/v1/receive", #"{"tx":["\#(uri)",{"__b3nd_binary__":true,"encoding":"base64","data":"\#(base64)"}]}"#)
  }
}
