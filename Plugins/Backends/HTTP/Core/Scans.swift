import NIOCore
import PluginAPI
import Synchronization

/// Scans: the HTTP API lists below a path, page by page, and gives no more than URIs.
struct Scans: Sendable {
  let remote: Remote
  let loops: LoopGuard
  let calls: OpenCalls
  let metrics: RemoteMetrics
  // A class, because a Mutex cannot be copied.
  private let cache = Cache()

  private final class Cache: Sendable { let snapshots = Mutex(SnapshotCache()) }

  init(_ remote: Remote, _ loops: LoopGuard, _ calls: OpenCalls, _ metrics: RemoteMetrics) {
    self.remote = remote
    self.loops = loops
    self.calls = calls
    self.metrics = metrics
  }

  /// Blocks until it has completed the call.
  func run(_ call: ScanCall) {
    guard let parts = RecordPath.Parts(call.prefix), !parts.domain.isEmpty, !parts.rest.isEmpty else {
      return call.fail(
        .unimplemented(
          "the HTTP API lists below one program at a time: a scan needs a prefix like mutable://open/, and got "
            + "'\(String(decoding: call.prefix.prefix(200), as: UTF8.self))'"))
    }
    // The prefix may end inside a name: list what its last slash closes, and pick.
    let slash = call.prefix.lastIndex(of: UInt8(ascii: "/"))!
    let directory = BorrowedBytes(rebasing: call.prefix[..<slash])
    do throws(Failure) {
      guard let snapshot = try snapshot(directory, call) else { return complete(call, URISnapshot([])) }
      complete(call, snapshot)
    } catch {
      call.fail(error)
    }
  }

  /// Nil when this scan is on its way already: a loop.
  private func snapshot(_ directory: BorrowedBytes, _ call: ScanCall) throws(Failure) -> URISnapshot? {
    let name = String(decoding: directory, as: UTF8.self)
    let sinceNs = NIODeadline.now().uptimeNanoseconds
    if !call.cursor.isEmpty, let kept = cache.snapshots.withLock({ $0.find(name, nowNs: sinceNs) }) { return kept }
    guard let target = RecordPath.target("list", directory, base: remote.settings.remote.base) else {
      return URISnapshot([])
    }
    let key = RequestKey(call.header)
    guard let entry = loops.enter(key, .scan, name) else {
      metrics.loopsCut.increment()
      return nil
    }
    defer { loops.leave(entry) }
    let pages = ListPages(
      ask: { page, limit throws(Failure) in
        try ask("\(target)?page=\(page)&limit=\(limit)&sortBy=name", key, call)
      }, urisMax: remote.settings.scanURIsMax, name: name)
    let made = URISnapshot(try pages.collect())
    cache.snapshots.withLock {
      $0.keep(name, made, sinceNs: sinceNs, nowNs: NIODeadline.now().uptimeNanoseconds)
    }
    return made
  }

  private func ask(_ target: String, _ key: RequestKey, _ call: ScanCall) throws(Failure) -> ListAnswer {
    var request = RemoteRequest(method: .get, target: target, key: key)
    request.trace = Trace.text(call.header)
    request.deadlineNs = call.header?.deadline_ns ?? 0
    let waiting = Awaited<Result<RemoteAnswer, Failure>>()
    calls.begin(call.token, remote.send(request) { waiting.put($0) })
    let result = waiting.take()
    calls.end(call.token)
    let answer = try result.get()
    guard answer.status == 200 else { throw AnswerFailure.of(answer, remote.settings) }
    guard let list = ListAnswer(answer) else { throw AnswerFailure.strange(answer, remote.settings) }
    return list
  }

  private func complete(_ call: ScanCall, _ snapshot: URISnapshot) {
    snapshot.page(prefix: call.prefix, after: call.cursor, limit: max(1, min(call.limit, 65_536))) { uris, hasMore in
      // The list of the HTTP API has no times, sizes or kinds.
      let items = uris.map {
        bp_scan_item(uri: $0, ts_ms: 0, version: 0, size_bytes: 0, content: BP_CONTENT_JSON, reserved: 0)
      }
      items.withUnsafeBufferPointer { items in
        call.page(items, cursor: hasMore ? uris.last!.bytes : BorrowedBytes(start: nil, count: 0))
      }
    }
  }
}
