import NIOCore
import NIOHTTP1
import PluginAPI

/// What the plugin makes of URLs, URIs and answers, and a request to nobody: no other node is asked.
enum SelfTest {
  static func run(in scratchDirectory: String) async throws {
    func check(_ condition: Bool, _ step: String) throws {
      guard condition else { throw Failure.internal("the self-test failed: \(step)") }
    }
    let url = try RemoteURL("http://user:p%40ss@[::1]:9942/below/")
    try check(url.text == "http://[::1]:9942/below" && url.port == 9_942, "a url was not understood")
    let target = Array("mutable://a%20b/c%20d|e".utf8).withUnsafeBufferPointer {
      RecordPath.target("read", $0, base: url.base)
    }
    try check(target == "/below/api/v1/read/mutable/a%2520b/c%20d|e", "the path of a record was not built as it should")
    let text = #"{"ts":7,"data": {"b":1,"a":[2.50]} }"#
    let record = Array(text.utf8).withUnsafeBytes { bytes in
      JSONRecord(bytes).map { ($0.timestampMs, String(decoding: $0.data.bytes, as: UTF8.self)) }
    }
    try check(record?.0 == 7 && record?.1 == #"{"b":1,"a":[2.50]}"#, "an answer was not understood")
    let answer = RemoteAnswer(
      status: 503, headers: ["retry-after": "2", "content-type": "application/json"],
      body: ByteBuffer(string: #"{"error":"later"}"#))
    let failure = AnswerFailure.of(answer, Settings())
    try check(failure.retryAfterMs == 2_000 && failure.isRetryable, "an error was not understood")
  }
}
