import BackendSupport
import CPostgreSQL
import PluginAPI

/// Pages of records in the order of their keys, which are their URIs but for very long ones. One thread.
final class Scanner: @unchecked Sendable {
  // @unchecked: everything that changes is only touched by the one thread that calls `run`.
  private let shared: Shared
  private let queue: CallQueue<ScanCall>
  private let keeper: SessionKeeper
  private let parameters = Parameters()
  /// Looks after the server while there is nothing to do.
  private let isWatching: Bool
  /// Items of one page, at most.
  private static let pageItemsMax = 4_096
  private static let attemptsMax = 4
  private static let watchMs: UInt64 = 500

  init(_ shared: Shared, _ queue: CallQueue<ScanCall>, isWatching: Bool) {
    self.shared = shared
    self.queue = queue
    self.isWatching = isWatching
    keeper = SessionKeeper(.scanner, shared)
  }

  func run() {
    while let calls = isWatching ? queue.take(max: 1, waitMs: Self.watchMs) : queue.take(max: 1) {
      if let call = calls.first {
        serve(call)
      } else if isWatching {
        keeper.check()
        keeper.attemptIfDue()
      }
    }
    keeper.close()
  }

  private func serve(_ call: ScanCall) {
    guard RecordKey.isText(call.prefix), RecordKey.isText(call.cursor) else {
      // No URI begins with that.
      return call.page(UnsafeBufferPointer(start: nil, count: 0), cursor: BorrowedBytes(start: nil, count: 0))
    }
    var attempts = 0
    while true {
      let session = keeper.wait { isExpired in
        guard let reason = isExpired(call.deadlineNs) else { return call.deadlineNs }
        call.fail(reason)
        return nil
      }
      guard let session else { return }
      do throws(PostgreSQLProblem) {
        return try page(call, session)
      } catch {
        if error.endsConnection { keeper.drop() }
        attempts += 1
        guard error.isWorthRepeating, attempts < Self.attemptsMax else { return call.fail(error.failure) }
      }
    }
  }

  private func page(_ call: ScanCall, _ session: Session) throws(PostgreSQLProblem) {
    let connection = session.connection
    let limit = max(1, min(call.limit, Self.pageItemsMax))
    let from = RecordKey.head(call.prefix)
    let isLong = from.count < call.prefix.count
    let to = Self.upperBound(from)
    try to.withView { to throws(PostgreSQLProblem) in
      parameters.set(0, from)
      parameters.set(1, call.cursor)
      parameters.set(2, to.bytes)
      parameters.set(3, bigint: UInt64(limit + 1))
      if isLong { parameters.set(4, call.prefix) }
      try connection.send(isLong ? session.statements.pageOfLongPrefix : session.statements.page, parameters)
    }
    try connection.sync()
    var page: QueryResult?
    var problem: PostgreSQLProblem?
    while let result = try connection.next() {
      if result.isError { problem = connection.problem(result) } else { page = consume result }
    }
    try connection.finishSync()
    if let problem { throw problem }
    guard let page else { throw PostgreSQLProblem(.lost, "no answer", place: connection.place) }
    complete(call, page, limit)
  }

  private func complete(_ call: ScanCall, _ page: borrowing QueryResult, _ limit: Int) {
    let count = min(page.rowsCount, limit)
    withUnsafeTemporaryAllocation(of: bp_scan_item.self, capacity: count) { items in
      for row in 0..<count {
        items.initializeElement(
          at: row,
          to: bp_scan_item(
            uri: bp_view(page.bytes(row, page.isNull(row, 1) ? 0 : 1)), ts_ms: page.number(row, 2),
            version: page.number(row, 3), size_bytes: page.number(row, 5), content: UInt32(page.number(row, 4)),
            reserved: 0))
      }
      let hasMore = page.rowsCount > limit
      call.page(
        UnsafeBufferPointer(items), cursor: hasMore ? page.bytes(count - 1, 0) : BorrowedBytes(start: nil, count: 0))
    }
  }

  /// The first text after all that begin with `prefix`.
  private static func upperBound(_ prefix: BorrowedBytes) -> [UInt8] {
    var scalars = Array(String(decoding: prefix, as: UTF8.self).unicodeScalars)
    while let last = scalars.popLast() {
      // Between U+D7FF and U+E000 there is no character.
      if let next = UnicodeScalar(last.value == 0xd7ff ? 0xe000 : last.value + 1) {
        scalars.append(next)
        var text = ""
        text.unicodeScalars.append(contentsOf: scalars)
        return Array(text.utf8)
      }
    }
    // Behind everything that a URI can begin with.
    return Array("\u{10ffff}".utf8)
  }
}
