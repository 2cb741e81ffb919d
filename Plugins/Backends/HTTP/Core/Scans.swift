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
      try complete(call, try snapshot(directory, call))
    } catch {
      call.fail(error)
    }
  }

  /// One page from the middle: the order of a scan is that of `sortBy=name`, so one request has it.
  func run(_ call: QueryCall) {
    guard let parts = RecordPath.Parts(call.prefix), !parts.domain.isEmpty, call.prefix.last == UInt8(ascii: "/"),
      // The API counts pages, not records; what does not begin with one is scanned.
      call.limit == 0 || call.offset % call.limit == 0,
      let target = RecordPath.target(
        "list", BorrowedBytes(rebasing: call.prefix.dropLast()), base: remote.settings.remote.base)
    else { return call.notCheaper() }
    let key = RequestKey(call.header)
    guard let entry = loops.enter(key, .scan, String(decoding: call.prefix, as: UTF8.self)) else {
      metrics.loopsCut.increment()
      return call.page(UnsafeBufferPointer(start: nil, count: 0), total: 0)
    }
    defer { loops.leave(entry) }
    let limit = max(1, call.limit)
    let page = call.limit == 0 ? 1 : call.offset / call.limit + 1
    do throws(Failure) {
      let answer = try ask("\(target)?page=\(page)&limit=\(limit)&sortBy=name", key, call.header, call.token)
      // A remote that allows fewer a page means another page by that number.
      guard answer.limit == limit || call.limit == 0 else { return call.notCheaper() }
      let text = call.limit == 0 ? [] : answer.uris
      Self.withItems(text) { call.page($0, total: answer.total) }
    } catch {
      call.fail(error)
    }
  }

  private static func withItems(_ uris: [String], _ body: (UnsafeBufferPointer<bp_scan_item>) -> Void) {
    let text = uris.flatMap(\.utf8)
    text.withUnsafeBufferPointer { bytes in
      var start = 0
      let items = uris.map { uri in
        defer { start += uri.utf8.count }
        return item(bp_view(BorrowedBytes(rebasing: bytes[start..<(start + uri.utf8.count)])))
      }
      items.withUnsafeBufferPointer(body)
    }
  }

  /// The list of the HTTP API has no times, sizes or kinds.
  private static func item(_ uri: bp_view) -> bp_scan_item {
    bp_scan_item(uri: uri, ts_ms: 0, version: 0, size_bytes: 0, content: BP_CONTENT_JSON, reserved: 0)
  }

  private func snapshot(_ directory: BorrowedBytes, _ call: ScanCall) throws(Failure) -> URISnapshot {
    let name = String(decoding: directory, as: UTF8.self)
    let sinceNs = NIODeadline.now().uptimeNanoseconds
    if !call.cursor.isEmpty, let kept = cache.snapshots.withLock({ $0.find(name, nowNs: sinceNs) }) { return kept }
    guard let target = RecordPath.target("list", directory, base: remote.settings.remote.base) else {
      return try URISnapshot([])
    }
    let key = RequestKey(call.header)
    guard let entry = loops.enter(key, .scan, name) else {
      metrics.loopsCut.increment()
      return try URISnapshot([])
    }
    defer { loops.leave(entry) }
    let pages = ListPages(
      ask: { page, limit throws(Failure) in
        try ask("\(target)?page=\(page)&limit=\(limit)&sortBy=name", key, call.header, call.token)
      }, urisMax: remote.settings.scanURIsMax, name: name)
    let made = try URISnapshot(pages.collect())
    cache.snapshots.withLock {
      $0.keep(name, made, sinceNs: sinceNs, nowNs: NIODeadline.now().uptimeNanoseconds)
    }
    return made
  }

  private func ask(
    _ target: String, _ key: RequestKey, _ header: bp_call?, _ token: bp_token
  ) throws(Failure) -> ListAnswer {
    var request = RemoteRequest(method: .get, target: target, key: key)
    request.take(header)
    let waiting = Awaited<Result<RemoteAnswer, Failure>>()
    calls.begin(token, remote.send(request) { waiting.put($0) })
    let result = waiting.take()
    calls.end(token)
    let answer = try result.get()
    guard answer.status == 200 else { throw AnswerFailure.of(answer, remote.settings) }
    guard let list = ListAnswer(answer) else { throw AnswerFailure.strange(answer, remote.settings) }
    return list
  }

  private func complete(_ call: ScanCall, _ snapshot: URISnapshot) throws(Failure) {
    let limit = max(1, min(call.limit, 65_536))
    try snapshot.page(prefix: call.prefix, after: call.cursor, limit: limit) { uris, hasMore in
      uris.map(Self.item).withUnsafeBufferPointer { items in
        call.page(items, cursor: hasMore ? uris.last!.bytes : BorrowedBytes(start: nil, count: 0))
      }
    }
  }
}
