import BackendTesting
import Foundation
import HTTPBackend
import PluginAPI
import Testing

/// What goes out, and what is made of what comes back.
@Suite struct RequestTests {
  static let accepted = FakeNode.Reply.answer(200, #"{"accepted":true}"#)

  @Test func dataGoesOutAsItIs() throws {
    let node = try FakeNode { _ in Self.accepted }
    let backend = try TestBackend.http(node.url)
    let text = #"{"b" : 1.50,"a":"\u0000é","b":[1e400]}"#
    #expect(backend.apply([.put("mutable://open/a\"b".replacing("\"", with: "%22"), Array(text.utf8))]).code == BP_OK)
    #expect(backend.apply([.put("mutable://open/bytes", [0, 255, 16], .bytes)]).code == BP_OK)
    #expect(backend.apply([.put("mutable://open/none", [], .bytes)]).code == BP_OK)
    let asked = node.asked
    #expect(asked.map(\.method) == ["POST", "POST", "POST"])
    #expect(asked.allSatisfy { $0.target == "/api/v1/receive" && $0.headers["content-type"] == "application/json" })
    #expect(asked[0].text == #"{"tx":["mutable://open/a%22b",\#(text)]}"#)
    #expect(
      asked[1].text
        == #"{"tx":["mutable://open/bytes",{"__b3nd_binary__":true,"encoding":"base64","data":"AP8Q"}]}"#)
    #expect(asked[2].text.contains(#""data":""}"#))
    #expect(asked.allSatisfy { $0.headers["x-backplane-node"] == "1" && $0.headers["x-backplane-exchange"] == nil })
    #expect(Set(asked.compactMap { $0.headers["x-backplane-request"] }).count == 3)
    #expect(asked.allSatisfy { $0.headers["host"] == "127.0.0.1:\(node.port)" })
  }

  /// The rest of a URI goes out byte for byte, whatever a URL parser would make of it.
  @Test(arguments: [
    ("mutable://open/a/b", "/api/v1/read/mutable/open/a/b"), ("mutable://open", "/api/v1/read/mutable/open"),
    ("mutable://open/a%20b%zz%", "/api/v1/read/mutable/open/a%20b%zz%"),
    ("mutable://open/a|b^[c]'~;,", "/api/v1/read/mutable/open/a|b^[c]'~;,"),
    ("mutable://a%20b/c", "/api/v1/read/mutable/a%2520b/c"),
    ("hash://sha256/%2F/%2f", "/api/v1/read/hash/sha256/%2F/%2f"),
  ])
  func paths(_ uri: String, _ target: String) throws {
    let node = try FakeNode { _ in .answer(404, #"{"error":"Not found"}"#) }
    let backend = try TestBackend.http("\(node.url)/below/")
    #expect(backend.read(uri).code == BP_NOT_FOUND)
    #expect(backend.apply([.delete(uri)]).absentCount == 1)
    #expect(node.asked.map(\.target) == ["/below\(target)", "/below\(target)".replacing("/read/", with: "/delete/")])
    #expect(node.asked.map(\.method) == ["GET", "DELETE"])
  }

  @Test func whatNoPathLeadsToIsRefused() throws {
    let node = try FakeNode { _ in Self.accepted }
    let backend = try TestBackend.http(node.url)
    for uri in ["mutable:///a", "mutable://open/a\\b"] {
      let answer = backend.apply([.put(uri, [0x31])])
      #expect(answer.code == BP_INVALID_ARGUMENT && answer.message.contains("no request path"))
      #expect(backend.read(uri).code == BP_NOT_FOUND)
    }
    #expect(node.asked.isEmpty)
  }

  @Test func records() throws {
    let node = try FakeNode { asked in
      switch asked.path {
      case "/api/v1/read/mutable/open/json": .answer(200, #" { "ts" : 17 , "data" : {"b":1.50, "a":[]} } "#)
      case "/api/v1/read/mutable/open/twice": .answer(200, #"{"data":1,"ts":1,"data":null,"ts":1.7e12,"x":{}}"#)
      case "/api/v1/read/mutable/open/ours":
        .bytes(
          200, Array(#"{"ts":1,"data":2}"#.utf8),
          headers: [
            ("content-type", "application/json"), ("x-backplane-content", "bytes"), ("x-backplane-ts-ms", "1234"),
          ])
      case "/api/v1/read/mutable/open/a.json": .bytes(200, [1, 2, 3], headers: [("content-type", "application/json")])
      case "/api/v1/read/mutable/open/a.html":
        .bytes(
          200, Array("<p>".utf8), headers: [("content-type", "text/html; charset=utf-8")])
      case "/api/v1/read/mutable/open/empty": .bytes(200, [], headers: [("content-type", "application/octet-stream")])
      default: .answer(404, #"{"error":"Not found"}"#)
      }
    }
    let backend = try TestBackend.http(node.url)
    func record(_ name: String) -> Record? { backend.read("mutable://open/\(name)").record }
    #expect(
      record("json")
        == Record(data: Array(#"{"b":1.50, "a":[]}"#.utf8), content: .json, timestampMs: 17, version: 0))
    #expect(
      record("twice")
        == Record(data: Array("null".utf8), content: .json, timestampMs: 1_700_000_000_000, version: 0))
    #expect(
      record("ours")
        == Record(data: Array(#"{"ts":1,"data":2}"#.utf8), content: .bytes, timestampMs: 1_234, version: 0))
    #expect(record("a.json")?.data == [1, 2, 3] && record("a.json")?.content == .bytes)
    #expect(record("a.html")?.data == Array("<p>".utf8) && record("a.html")?.content == .bytes)
    #expect(record("empty")?.data == [])
    #expect(record("none") == nil)
    // A peer does not say when bytes were stored: now.
    let now = UInt64(Date().timeIntervalSince1970 * 1_000)
    #expect(abs(Int64(record("a.html")!.timestampMs) - Int64(now)) < 600_000)
  }

  @Test(
    arguments: [("memory", 1), ("os", 2), ("disk", 3), ("quorum", 4), ("eternal", 1), (nil, 1)] as [(String?, UInt32)])
  func durabilityIsWhatTheRemoteSays(_ said: String?, _ reached: UInt32) throws {
    let node = try FakeNode { asked in
      .answer(
        200, asked.method == "DELETE" ? #"{"success":true}"# : #"{"accepted":true}"#,
        headers: said.map { [("X-Backplane-Durability", $0)] } ?? [])
    }
    let backend = try TestBackend.http(node.url)
    #expect(backend.apply([.put("mutable://open/a", [0x31])]).durability == reached)
    let deleted = backend.apply([.delete("mutable://open/a")])
    #expect(deleted.durability == reached && deleted.absentCount == 0)
  }

  @Test func whatTheRemoteRefusesIsSaidInItsWords() throws {
    let node = try FakeNode { _ in .answer(400, #"{"accepted":false,"error":"Unknown program: x://y"}"#) }
    let backend = try TestBackend.http(node.url)
    let answer = backend.apply([.put("mutable://open/a", [0x31])])
    #expect(answer.code == BP_REJECTED && answer.message == "Unknown program: x://y" && !answer.isRetryable)
  }

  @Test func conditionsAndSeveralRecordsAreRefused() throws {
    let node = try FakeNode { _ in Self.accepted }
    let backend = try TestBackend.http(node.url)
    for condition in [Condition.absent, .present, .version(7)] {
      let answer = backend.apply([.put("mutable://open/a", [0x31], if: condition)])
      #expect(answer.code == BP_UNIMPLEMENTED && answer.message.contains("condition"))
    }
    let several = backend.apply([.put("mutable://open/a", [0x31]), .put("mutable://open/b", [0x31])])
    #expect(several.code == BP_UNIMPLEMENTED && several.message.contains("several records"))
    #expect(node.asked.isEmpty)
  }

  /// A unit that is what an envelope comes to is sent as that envelope, once.
  @Test func envelopes() throws {
    let node = try FakeNode { _ in Self.accepted }
    let backend = try TestBackend.http(node.url)
    let inner = #"{"payload":{"inputs":[],"outputs":[["mutable://open/c",[3]]]}}"#
    let marker = #"{"__b3nd_binary__":true,"encoding":"base64","data":"AAE="}"#
    let outputs = [
      #"["mutable://open/a", 1.0]"#, #"["MUTABLE://open/./b",\#(marker)]"#, #"["mutable:\/\/open/d",\#(inner)]"#,
    ]
    let outer = #"{"auth":[],"payload":{"inputs":[1],"outputs":[\#(outputs.joined(separator: ","))]}}"#
    let ops: [Op] = [
      .put("mutable://open/envelope", Array(outer.utf8)), .put("mutable://open/a", Array("1.0".utf8)),
      .put("mutable://open/b", [0, 1], .bytes), .put("mutable://open/d", Array(inner.utf8)),
      .put("mutable://open/c", Array("[3]".utf8)),
    ]
    #expect(backend.apply(ops).code == BP_OK)
    #expect(node.asked.map(\.text) == [#"{"tx":["mutable://open/envelope",\#(outer)]}"#])
    // Anything else is not.
    var changed = ops
    changed[1] = .put("mutable://open/a", Array("2.0".utf8))
    for wrong in [
      Array(ops.dropLast()), ops + [.put("mutable://open/x", [0x31])], ops.reversed(), changed,
      Array(ops[..<4]) + [.delete("mutable://open/c")],
    ] {
      #expect(backend.apply(wrong).code == BP_UNIMPLEMENTED)
    }
    #expect(node.asked.count == 1)
  }

  @Test func credentialsGoIntoAHeaderAndNowhereElse() throws {
    let node = try FakeNode { _ in .answer(403, "{}") }
    let url = "http://m%61ry:pw%3As3cr%20et@127.0.0.1:\(node.port)"
    let backend = try TestBackend.http(url)
    let answer = backend.read("mutable://open/a")
    let wanted = "Basic " + Data("mary:pw:s3cr et".utf8).base64EncodedString()
    #expect(node.asked.map { $0.headers["authorization"] } == [wanted])
    #expect(answer.code == BP_UNAVAILABLE && answer.message.contains("credentials"))
    node.stop()
    let gone = backend.read("mutable://open/a")
    for text in [answer.message, gone.message] + backend.health.map(\.message) {
      #expect(!text.contains("mary") && !text.contains("s3cr") && !text.contains("%3A"), "\(text)")
    }
  }
}
