import BackendTesting
import Foundation
import HTTPBackend
import PluginAPI
import Synchronization
import Testing

/// A remote that is not there, not well, or no node at all.
@Suite struct FaultTests {
  private static let uri = "mutable://open/a"

  /// What a read and a write come to when the remote answers so.
  private func answers(_ reply: FakeNode.Reply, _ more: String = "") throws -> (read: Answer, write: Answer) {
    let node = try FakeNode { _ in reply }
    let backend = try TestBackend.http(node.url, more)
    return (backend.read(Self.uri), backend.apply([.put(Self.uri, [0x31])]))
  }

  @Test(arguments: [
    (500, BP_UNAVAILABLE, true), (501, BP_UNAVAILABLE, true), (502, BP_UNAVAILABLE, true),
    (503, BP_UNAVAILABLE, true), (504, BP_UNAVAILABLE, true), (408, BP_UNAVAILABLE, true),
    (429, BP_RESOURCE_EXHAUSTED, true), (413, BP_INVALID_ARGUMENT, false), (414, BP_INVALID_ARGUMENT, false),
    (418, BP_INVALID_ARGUMENT, false), (301, BP_UNAVAILABLE, false), (401, BP_UNAVAILABLE, false),
    (403, BP_UNAVAILABLE, false), (405, BP_UNAVAILABLE, false),
  ])
  func statuses(_ status: Int, _ code: bp_code, _ isRetryable: Bool) throws {
    let (read, write) = try answers(
      .answer(status, #"{"error":"in its own words"}"#, headers: [("retry-after", "7"), ("location", "http://x/")]))
    for answer in [read, write] {
      #expect(answer.code == code && answer.isRetryable == isRetryable, "\(answer)")
      #expect(answer.message.contains("127.0.0.1"), "\(answer.message)")
      if status >= 405, status != 405 { #expect(answer.message.contains("in its own words"), "\(answer.message)") }
      let isLater = [500, 501, 502, 503, 504, 408, 429].contains(status)
      #expect(answer.retryAfterMs == (isLater ? 7_000 : 0))
    }
  }

  /// Not everything that says 404 is a node without the record.
  @Test func aServerThatIsNoNode() throws {
    let (read, write) = try answers(.answer(404, "404 Not Found", headers: [("content-type", "text/plain")]))
    for answer in [read, write] { #expect(answer.code == BP_UNAVAILABLE && answer.message.contains("no node answers")) }
    let (_, page) = try answers(.answer(200, "<p>hello", headers: [("content-type", "text/html")]))
    #expect(page.code == BP_UNAVAILABLE && page.message.contains("no node's"))
  }

  @Test func garbageIsNoAnswer() throws {
    for bytes in ["SSH-2.0-OpenSSH_9.2\r\n", "\0\0\0\0\0\0\0\0", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
      let (read, write) = try answers(.rawThenClose(Array(bytes.utf8)))
      for answer in [read, write] {
        #expect(answer.code == BP_UNAVAILABLE && answer.message.contains("127.0.0.1"), "\(answer.message)")
      }
    }
    // JSON, but no record: bytes, as far as anybody can tell. With our own node's word for it: no answer.
    let (read, _) = try answers(.answer(200, #"{"ts":1}"#, headers: [("x-backplane-content", "json")]))
    #expect(read.code == BP_UNAVAILABLE && read.message.contains("no node's"))
  }

  @Test func anAnswerCutOffIsNone() throws {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"ts\":1,"
    let (read, write) = try answers(.rawThenClose(Array(head.utf8)))
    for answer in [read, write] { #expect(answer.code == BP_UNAVAILABLE && answer.isRetryable, "\(answer)") }
  }

  @Test func anAnswerTooLongIsRefused() throws {
    let body = #"{"ts":1,"data":"\#(String(repeating: "a", count: 5_000))"}"#
    let limit = #""response_size_bytes_max":4096"#
    let (read, _) = try answers(.answer(200, body), limit)
    #expect(read.code == BP_RESOURCE_EXHAUSTED && read.message.contains("response_size_bytes_max"), "\(read)")
    // Also without a word about its length beforehand.
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1388\r\n\(body.prefix(5_000))\r\n0\r\n\r\n"
    let (second, _) = try answers(.raw(Array(chunked.utf8)), limit)
    #expect(second.code == BP_RESOURCE_EXHAUSTED, "\(second)")
  }

  @Test func aRemoteThatDoesNotAnswerTimesOut() throws {
    let node = try FakeNode { _ in .silence }
    let backend = try TestBackend.started(HTTPBackend.self, #"{"url":"\#(node.url)","timeout_ms":300}"#)
    for answer in [backend.read(Self.uri), backend.apply([.put(Self.uri, [0x31])]), backend.page("mutable://open/")] {
      #expect(answer.code == BP_UNAVAILABLE && answer.isRetryable, "\(answer)")
      #expect(answer.message.contains("timeout_ms (300)"), "\(answer.message)")
    }
  }

  @Test func aRemoteThatIsDownIsNoReasonNotToStart() throws {
    let port = try deadPort()
    let backend = try TestBackend.http("http://127.0.0.1:\(port)", #""health_interval_ms":50"#)
    #expect(backend.health.last?.state == BP_HEALTH_UNHEALTHY)
    #expect(backend.health.last?.message.contains("cannot be reached (Connection refused)") == true)
    for answer in [backend.read(Self.uri), backend.apply([.put(Self.uri, [0x31])]), backend.page("mutable://open/")] {
      #expect(answer.code == BP_UNAVAILABLE && answer.isRetryable && answer.message.contains("Connection refused"))
    }
    let records = FakeRecords()
    let node = try FakeNode(port: port) { records.reply($0) }
    // At once, not when somebody looks next.
    #expect(backend.apply([.put(Self.uri, [0x31])]).code == BP_OK)
    #expect(backend.read(Self.uri).record?.data == [0x31])
    #expect(backend.health.last?.state == BP_HEALTH_HEALTHY)
    node.stop()
    #expect(backend.read(Self.uri).code == BP_UNAVAILABLE)
    // An answer to a health check from before may still be on its way.
    eventually("nobody noticed that the remote is gone") { backend.health.last?.state == BP_HEALTH_UNHEALTHY }
    let again = try FakeNode(port: port) { records.reply($0) }
    eventually("nobody noticed that the remote is back") { backend.health.last?.state == BP_HEALTH_HEALTHY }
    #expect(backend.read(Self.uri).record?.data == [0x31])
    withExtendedLifetime(again) {}
  }

  @Test func whatOnlyTheOperatorCanMendRefusesTheStart() throws {
    let unknown = TestBackend.startRefusal("http://no-such-host.invalid")
    #expect(unknown?.contains("no-such-host.invalid") == true && unknown?.contains("url") == true, "\(unknown ?? "")")
    let node = try FakeNode { _ in .close }
    for (reply, sentence) in [
      (FakeNode.Reply.answer(404, "no"), "no node answers there"), (.answer(401, "no"), "credentials"),
      (.answer(302, "", headers: [("location", "http://x/")]), "redirect"),
      (.rawThenClose(Array("SSH-2.0-OpenSSH_9.2\r\n".utf8)), "not HTTP"),
    ] {
      node.setHealth(reply)
      let refusal = TestBackend.startRefusal(node.url)
      #expect(refusal?.contains(sentence) == true, "\(refusal ?? "started")")
    }
  }

  /// The words of the remote, and not UNHEALTHY: two nodes could keep each other so for ever.
  @Test func theHealthOfTheRemoteIsPassedOn() throws {
    let node = try FakeNode { _ in .answer(404, #"{"error":"Not found"}"#) }
    node.setHealth(.answer(503, #"{"status":"unhealthy","message":"disk full"}"#))
    let backend = try TestBackend.http(node.url, #""health_interval_ms":50"#)
    #expect(backend.health.last?.state == BP_HEALTH_DEGRADED)
    let message = backend.health.last?.message ?? ""
    #expect(message.contains("Health check failed") && message.contains("disk full"), "\(message)")
    node.setHealth(.answer(200, #"{"status":"degraded"}"#))
    eventually("the remote is well again") { backend.health.last?.state == BP_HEALTH_HEALTHY }
  }

  /// A connection that the remote closed while it was idle: the request is sent again on a new one.
  @Test func aStaleConnectionIsNoFailure() throws {
    let isToClose = Mutex(false)
    let records = FakeRecords()
    let node = try FakeNode { asked in
      if isToClose.withLock({ flag in
        defer { flag = false }
        return flag
      }) {
        return .close
      }
      return records.reply(asked)
    }
    let backend = try TestBackend.http(node.url, #""health_interval_ms":3600000"#)
    #expect(backend.apply([.put(Self.uri, [0x31])]).code == BP_OK)
    isToClose.withLock { $0 = true }
    #expect(backend.read(Self.uri).record?.data == [0x31])
    // Both were seen by the remote: the first found its connection closing.
    #expect(node.asked.count == 3)
    isToClose.withLock { $0 = true }
    #expect(backend.apply([.put(Self.uri, [0x32])]).code == BP_OK)
    #expect(backend.read(Self.uri).record?.data == [0x32])
    // Closed while nobody looks.
    node.closeConnections()
    #expect(backend.apply([.delete(Self.uri)]).code == BP_OK)
  }

  /// A new connection that is closed without an answer may have died of the request: it is not sent twice.
  @Test func aFreshConnectionIsNotTriedTwice() throws {
    let node = try FakeNode { _ in .close }
    node.setHealth(.rawThenClose(FakeNode.closing(200, #"{"status":"healthy"}"#)))
    let backend = try TestBackend.http(node.url, #""health_interval_ms":3600000"#)
    let answer = backend.apply([.put(Self.uri, [0x31])])
    #expect(answer.code == BP_UNAVAILABLE && answer.isRetryable && answer.message.contains("closed the connection"))
    #expect(node.asked.count == 1)
  }
}
