import BackendTesting
import Foundation
import HTTPBackend
import PluginAPI
import Testing

/// Reads that are asked for together.
@Suite struct ReadTests {
  private static let uris = ["mutable://open/a", "mutable://open/b", "mutable://open/a", "mutable://open/none"]

  @Test func oneRequestForAll() throws {
    let node = try FakeNode { asked in
      guard asked.path == "/api/v1/read-multi" else { return .answer(500, "{}") }
      return .answer(
        200,
        #"{"success":true,"results":[{"uri":"mutable://open/a","success":true,"record":{"ts":5,"data":[1.50]}},"#
          + #"{"uri":"mutable://open/b","success":true,"record":{"ts":6,"data":"#
          + #"{"__b3nd_binary__":true,"encoding":"base64","data":"AP8="}}},"#
          + #"{"uri":"mutable://open/none","success":false,"error":"Not found: mutable://open/none"}],"summary":{}}"#)
    }
    let backend = try TestBackend.http(node.url)
    let answers = backend.read(together: Self.uris)
    #expect(answers.map(\.code) == [BP_OK, BP_OK, BP_OK, BP_NOT_FOUND])
    #expect(answers[0].record == Record(data: Array("[1.50]".utf8), content: .json, timestampMs: 5, version: 0))
    #expect(answers[1].record == Record(data: [0, 255], content: .bytes, timestampMs: 6, version: 0))
    #expect(answers[2].record == answers[0].record)
    #expect(node.asked.map(\.text) == [#"{"uris":["mutable://open/a","mutable://open/b","mutable://open/none"]}"#])
  }

  /// The peer's own node has no read-multi: its client falls back, and so does this.
  @Test func aRemoteWithoutReadMultiIsAskedOneByOne() throws {
    let records = FakeRecords()
    let node = try FakeNode { asked in
      asked.path == "/api/v1/read-multi"
        ? .answer(404, "404 Not Found", headers: [("content-type", "text/plain; charset=UTF-8")]) : records.reply(asked)
    }
    let backend = try TestBackend.http(node.url)
    for (index, uri) in ["mutable://open/a", "mutable://open/b"].enumerated() {
      #expect(backend.apply([.put(uri, Array("\(index)".utf8))]).code == BP_OK)
    }
    for round in 1...2 {
      let answers = backend.read(together: Self.uris)
      #expect(answers.map { $0.record?.data } == [[0x30], [0x31], [0x30], nil])
      #expect(answers.map(\.code) == [BP_OK, BP_OK, BP_OK, BP_NOT_FOUND])
      // It is asked for once, not each time.
      #expect(node.asked.filter { $0.path == "/api/v1/read-multi" }.count == 1, "round \(round)")
    }
  }

  /// What the answer leaves open is asked for by itself.
  @Test func leftOutRecordsAreReadSingly() throws {
    let node = try FakeNode { asked in
      asked.path == "/api/v1/read-multi"
        ? .answer(
          200,
          #"{"success":true,"results":[{"uri":"mutable://open/a","success":false,"error":"Left out: too large"},"#
            + #"{"uri":"mutable://open/other","success":true,"record":{"ts":6,"data":1}}]}"#)
        : .answer(200, #"{"ts":9,"data":"\#(asked.path.suffix(1))"}"#)
    }
    let backend = try TestBackend.http(node.url)
    let answers = backend.read(together: ["mutable://open/a", "mutable://open/b"])
    #expect(answers.map { $0.record.map { String(decoding: $0.data, as: UTF8.self) } } == [#""a""#, #""b""#])
  }

  @Test func manyGoInSeveralRequests() throws {
    let node = try FakeNode { asked in
      let body = (try? JSONSerialization.jsonObject(with: Data(asked.body))) as? [String: [String]]
      let results = (body?["uris"] ?? []).map {
        #"{"uri":"\#($0)","success":true,"record":{"ts":1,"data":"\#($0)"}}"#
      }
      return .answer(200, #"{"success":true,"results":[\#(results.joined(separator: ","))]}"#)
    }
    let backend = try TestBackend.http(node.url)
    let uris = (0..<120).map { "mutable://open/\($0)" }
    let answers = backend.read(together: uris)
    #expect(answers.map { $0.record.map { String(decoding: $0.data, as: UTF8.self) } } == uris.map { "\"\($0)\"" })
    #expect(node.asked.count == 3)
  }

  @Test func oneFailureFailsAll() throws {
    let node = try FakeNode { _ in .answer(503, #"{"error":"not now"}"#, headers: [("retry-after", "3")]) }
    let backend = try TestBackend.http(node.url)
    for answer in backend.read(together: Self.uris) {
      #expect(answer.code == BP_UNAVAILABLE && answer.retryAfterMs == 3_000 && answer.message.contains("not now"))
    }
  }
}
