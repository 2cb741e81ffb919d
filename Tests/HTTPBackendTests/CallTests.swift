import BackendSupport
import BackendTesting
import Glibc
import HTTPBackend
import PluginAPI
import Testing

/// What comes with a call: its deadline, its trace, and the name it was given on its way through nodes.
@Suite struct CallTests {
  private static let accepted = #"{"accepted":true}"#

  /// Valid as long as the object.
  private final class Header {
    let pointer = UnsafeMutablePointer<bp_call>.allocate(capacity: 1)

    init(_ fill: (inout bp_call) -> Void) {
      var call = bp_call()
      call.size = .size(of: bp_call.self)
      fill(&call)
      pointer.initialize(to: call)
    }

    deinit { pointer.deallocate() }
  }

  private func unit(_ uri: String, _ text: String = "1") -> LocalUnit {
    LocalUnit([.put(uri, Array(text.utf8))], timestampMs: 1, version: 1)
  }

  private var nowNs: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  @Test func traceAndNameGoOn() throws {
    let node = try FakeNode { _ in .answer(200, Self.accepted) }
    let backend = try TestBackend.http(node.url)
    let header = Header { call in
      (call.trace_id_high, call.trace_id_low, call.span_id) = (0xab, 0xcd, 0xef)
      (call.idempotency_key_high, call.idempotency_key_low) = (1, 0xfedc)
    }
    backend.header = UnsafePointer(header.pointer)
    #expect(backend.apply([.put("mutable://open/a", [0x31])]).code == BP_OK)
    let asked = try #require(node.asked.first)
    #expect(asked.headers["traceparent"] == "00-00000000000000ab00000000000000cd-00000000000000ef-01")
    #expect(asked.headers["x-backplane-request"] == "0000000000000001000000000000fedc")
    withExtendedLifetime(header) {}
  }

  /// What comes back while it is on its way is not sent on again.
  @Test func aRequestThatComesBackIsCut() throws {
    let node = try FakeNode { _ in .held(200, Self.accepted) }
    let backend = try TestBackend.http(node.url)
    let header = Header { $0.idempotency_key_low = 7 }
    backend.header = UnsafePointer(header.pointer)
    let first = backend.submit([unit("mutable://open/a")])[0]
    eventually("the write is sent") { node.heldCount == 1 }
    let again = backend.submit([unit("mutable://open/a")])[0].wait()
    #expect(again.code == BP_OK && again.durability == Durability.memory.rawValue)
    // Only that one: neither another record nor another request.
    let other = backend.submit([unit("mutable://open/b")])[0]
    let stranger = Header { $0.idempotency_key_low = 8 }
    backend.header = UnsafePointer(stranger.pointer)
    let third = backend.submit([unit("mutable://open/a")])[0]
    eventually("both are sent") { node.heldCount == 3 }
    node.release()
    for call in [first, other, third] { #expect(call.wait().code == BP_OK) }
    // It has an end: the same may be written again later.
    backend.header = UnsafePointer(header.pointer)
    let later = backend.submit([unit("mutable://open/a")])[0]
    eventually("it is sent again") { node.heldCount == 1 }
    node.release()
    #expect(later.wait().code == BP_OK && node.asked.count == 4)
    withExtendedLifetime((header, stranger)) {}
  }

  @Test func theCallersDeadlineHolds() throws {
    let node = try FakeNode { _ in .silence }
    let backend = try TestBackend.http(node.url)
    let header = Header { $0.deadline_ns = nowNs + 300_000_000 }
    backend.header = UnsafePointer(header.pointer)
    let calls = backend.submit([unit("mutable://open/a", "1"), unit("mutable://open/a", "2")])
    let read = backend.read("mutable://open/a")
    for answer in [calls[0].wait(), read] {
      #expect(answer.code == BP_DEADLINE_EXCEEDED && answer.isRetryable, "\(answer)")
      #expect(answer.message.contains("before the caller's deadline"), "\(answer.message)")
    }
    // The one behind it is not sent when nobody waits any more.
    let second = calls[1].wait()
    #expect(second.code == BP_DEADLINE_EXCEEDED && second.message.contains("before its request could be sent"))
    #expect(node.asked.filter { $0.method == "POST" }.map(\.text) == [#"{"tx":["mutable://open/a",1]}"#])
    withExtendedLifetime(header) {}
  }

  @Test func aCallThatIsGivenUpEnds() throws {
    let node = try FakeNode { _ in .silence }
    let backend = try TestBackend.http(node.url, #""connections_max":1"#)
    let calls = backend.submit([unit("mutable://open/a"), unit("mutable://open/b"), unit("mutable://open/c")])
    eventually("the first is sent") { !node.asked.isEmpty }
    for call in [calls[1], calls[0]] {
      backend.cancel(call)
      let answer = call.wait()
      #expect(answer.code == BP_CANCELLED, "\(answer)")
    }
    eventually("the last has its turn") { node.asked.count == 2 }
    #expect(node.asked.last?.text.contains("open/c") == true)
    backend.cancel(calls[2])
    #expect(calls[2].wait().code == BP_CANCELLED)
  }
}
