import BackendSupport
import BackendTesting
import Foundation
import HTTPBackend
import PluginAPI
import Synchronization
import Testing

/// Which request goes out when.
@Suite struct OrderTests {
  private static let accepted = #"{"accepted":true}"#

  private func unit(_ uri: String, _ text: String) -> LocalUnit {
    LocalUnit([.put(uri, Array(text.utf8))], timestampMs: 1, version: 1)
  }

  /// Writes to one URI go out one after the other, those to others do not wait for them.
  @Test func unitsToOneURIKeepTheirOrder() throws {
    let node = try FakeNode { asked in
      asked.text.contains("open/slow") ? .held(200, Self.accepted) : .answer(200, Self.accepted)
    }
    let backend = try TestBackend.http(node.url)
    let slow = backend.submit((1...3).map { unit("mutable://open/slow", "\($0)") })
    let fast = backend.submit((1...20).map { unit("mutable://open/\($0)", "\($0)") })
    for call in fast { #expect(call.wait().code == BP_OK) }
    for sent in 1...3 {
      eventually("the next write to the URI is sent") { node.heldCount == 1 }
      let bodies = node.asked.map(\.text).filter { $0.contains("slow") }
      #expect(bodies == (1...sent).map { #"{"tx":["mutable://open/slow",\#($0)]}"# })
      #expect(slow.filter { $0.completionsCount > 0 }.count == sent - 1)
      node.release()
      #expect(slow[sent - 1].wait().code == BP_OK)
    }
  }

  /// An envelope waits for everything that it writes, and what comes after waits for it.
  @Test func envelopesKeepTheirOrderToo() throws {
    let node = try FakeNode { _ in .held(200, Self.accepted) }
    let backend = try TestBackend.http(node.url)
    let envelope = #"{"payload":{"inputs":[],"outputs":[["mutable://open/a",1],["mutable://open/b",2]]}}"#
    let calls = backend.submit([
      unit("mutable://open/a", "0"), unit("mutable://open/b", "0"),
      LocalUnit(
        [
          .put("mutable://open/e", Array(envelope.utf8)), .put("mutable://open/a", [0x31]),
          .put("mutable://open/b", [0x32]),
        ], timestampMs: 1, version: 1),
      unit("mutable://open/b", "3"),
    ])
    eventually("both plain writes are sent") { node.heldCount == 2 }
    #expect(node.asked.count == 2)
    node.release()
    eventually("the envelope is sent") { node.heldCount == 1 }
    #expect(node.asked.count == 3 && node.asked[2].text.contains("payload"))
    node.release()
    eventually("the last write is sent") { node.heldCount == 1 }
    node.release()
    for call in calls { #expect(call.wait().code == BP_OK) }
  }

  @Test func connectionsAndQueuesAreBounded() throws {
    let node = try FakeNode { _ in .held(200, Self.accepted) }
    let backend = try TestBackend.http(node.url, #""connections_max":2,"queue_units_max":3"#)
    let before = node.connectionsCount
    let calls = backend.submit((1...9).map { unit("mutable://open/\($0)", "\($0)") })
    let refused = calls.filter { $0.completionsCount > 0 }.map { $0.wait() }
    #expect(!refused.isEmpty)
    for answer in refused {
      #expect(answer.code == BP_RESOURCE_EXHAUSTED && answer.isRetryable && answer.retryAfterMs > 0)
      #expect(answer.message.contains("queue_units_max"), "\(answer.message)")
    }
    var done = 0
    while done < calls.count - refused.count {
      eventually("a request is sent") { node.heldCount > 0 }
      #expect(node.heldCount <= 2)
      done += node.heldCount
      node.release()
    }
    let answers = calls.map { $0.wait().code }
    #expect(answers.filter { $0 == BP_OK }.count == calls.count - refused.count)
    #expect(node.connectionsCount - before <= 2)
  }

  @Test func everythingOpenEndsWithTheInstance() throws {
    let node = try FakeNode { _ in .silence }
    let backend = try TestBackend.http(node.url, #""connections_max":2"#)
    let calls = backend.submit((1...6).map { unit("mutable://open/\($0 / 2)", "\($0)") })
    eventually("a request is sent") { !node.asked.isEmpty }
    try backend.stopNow()
    for call in calls {
      let answer = call.wait()
      #expect([BP_CANCELLED, BP_UNAVAILABLE].contains(answer.code), "\(answer)")
      #expect(call.completionsCount == 1)
    }
  }

  /// Nothing is left behind, whether the remote is there, gone, or silent.
  @Test func threadsAndDescriptorsComeBack() throws {
    let node = try FakeNode { _ in .answer(200, Self.accepted) }
    let dead = try deadPort()
    func round(_ index: Int) throws {
      let isAlive = index % 3 != 0
      let backend = try TestBackend.http(isAlive ? node.url : "http://127.0.0.1:\(dead)")
      #expect(backend.apply([.put("mutable://open/a", [0x31])]).code == (isAlive ? BP_OK : BP_UNAVAILABLE))
      try backend.stop()
    }
    for index in 0..<3 { try round(index) }
    func counts() -> [Int] { [ProcessCounts.threads, ProcessCounts.descriptors] }
    eventually("the first rounds have ended") { node.openConnectionsCount == 0 }
    let before = counts()
    for index in 0..<100 { try round(index) }
    eventually("the remote has seen every connection close") { node.openConnectionsCount == 0 }
    eventually("threads and descriptors: \(before) before, \(counts()) after") {
      zip(counts(), before).allSatisfy { $0 <= $1 }
    }
  }
}
