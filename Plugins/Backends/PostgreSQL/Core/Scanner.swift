import BackendSupport
import CPostgreSQL
import PluginAPI

private final class Answered {
  let result: QueryResult
  let problem: PostgreSQLProblem?

  init(result: consuming QueryResult, problem: PostgreSQLProblem?) {
    self.result = result
    self.problem = problem
  }
}

/// What the threads that list have to do.
enum Listing: Sendable {
  case page(ScanCall)
  case query(QueryCall)

  var deadlineNs: UInt64 {
    switch self {
    case .page(let call): call.deadlineNs
    case .query(let call):
      if let deadlineNs = call.header?.deadline_ns, deadlineNs != 0 { deadlineNs } else { .max }
    }
  }

  func fail(_ failure: Failure) {
    switch self {
    case .page(let call): call.fail(failure)
    case .query(let call): call.fail(failure)
    }
  }
}

/// Pages of records in the order of their keys, which are their URIs but for very long ones. One thread.
final class Scanner: @unchecked Sendable {
  // @unchecked: everything that changes is only touched by the one thread that calls `run`.
  private let shared: Shared
  private let queue: CallQueue<Listing>
  private let keeper: SessionKeeper
  private let parameters = Parameters()
  /// Looks after the server while there is nothing to do.
  private let isWatching: Bool
  /// Items of one page, at most.
  private static let pageItemsMax = 4_096
  private static let attemptsMax = 4
  private static let watchMs: UInt64 = 500

  init(_ shared: Shared, _ queue: CallQueue<Listing>, isWatching: Bool) {
    self.shared = shared
    self.queue = queue
    self.isWatching = isWatching
    keeper = SessionKeeper(.scanner, shared)
  }

  func run() {
    while let calls = isWatching ? queue.take(max: 1, waitMs: Self.watchMs) : queue.take(max: 1) {
      if let call = calls.first {
        serve(call)
        queue.done()
      } else if isWatching {
        keeper.check()
        keeper.attemptIfDue()
      }
    }
    keeper.close()
  }

  private func serve(_ listing: Listing) {
    var attempts = 0
    while true {
      let session = keeper.wait { isExpired in
        guard let reason = isExpired(listing.deadlineNs) else { return listing.deadlineNs }
        listing.fail(reason)
        return nil
      }
      guard let session else { return }
      do throws(PostgreSQLProblem) {
        switch listing {
        case .page(let call): return try page(call, session)
        case .query(let call): return try query(call, session)
        }
      } catch {
        if error.endsConnection { keeper.drop() }
        attempts += 1
        guard error.isWorthRepeating, attempts < Self.attemptsMax else { return listing.fail(error.failure) }
      }
    }
  }

  private static var nothing: BorrowedBytes { BorrowedBytes(start: nil, count: 0) }

  private func page(_ call: ScanCall, _ session: Session) throws(PostgreSQLProblem) {
    guard RecordKey.isText(call.prefix), RecordKey.isText(call.cursor) else {
      // No URI begins with that.
      return call.page(UnsafeBufferPointer(start: nil, count: 0), cursor: Self.nothing)
    }
    let limit = max(1, min(call.limit, Self.pageItemsMax))
    let from = RecordKey.head(call.prefix)
    let isLong = from.count < call.prefix.count
    try Self.upperBound(from).withView { to throws(PostgreSQLProblem) in
      parameters.set(0, from)
      parameters.set(1, call.cursor)
      parameters.set(2, to.bytes)
      parameters.set(3, bigint: UInt64(limit + 1))
      if isLong { parameters.set(4, call.prefix) }
      try session.connection.send(isLong ? session.statements.pageOfLongPrefix : session.statements.page, parameters)
    }
    try session.connection.sync()
    let answered = try answer(session.connection)
    try session.connection.finishSync()
    if let problem = answered.problem { throw problem }
    let count = min(answered.result.rowsCount, limit)
    let hasMore = answered.result.rowsCount > limit
    Self.withItems(answered.result, count) { items in
      call.page(items, cursor: hasMore ? answered.result.bytes(count - 1, 0) : Self.nothing)
    }
  }

  /// A page from the middle, and how many there are in all. Prefixes are not long here: see `Store.submit`.
  private func query(_ call: QueryCall, _ session: Session) throws(PostgreSQLProblem) {
    let connection = session.connection
    guard RecordKey.isText(call.prefix) else { return call.page(UnsafeBufferPointer(start: nil, count: 0), total: 0) }
    try Self.upperBound(call.prefix).withView { to throws(PostgreSQLProblem) in
      parameters.set(0, call.prefix)
      parameters.set(1, to.bytes)
      parameters.set(2, bigint: UInt64(call.limit))
      parameters.set(3, bigint: UInt64(call.offset))
      try connection.send(session.statements.middle, parameters)
      try connection.send(session.statements.total, parameters)
    }
    try connection.sync()
    let page = try answer(connection)
    let total = try answer(connection)
    try connection.finishSync()
    if let problem = page.problem ?? total.problem { throw problem }
    Self.withItems(page.result, page.result.rowsCount) { call.page($0, total: Int(total.result.number(0, 0))) }
  }

  /// The answer to one statement.
  private func answer(_ connection: Connection) throws(PostgreSQLProblem) -> Answered {
    var found: QueryResult?
    var problem: PostgreSQLProblem?
    while let result = try connection.next() {
      if result.isError, problem == nil { problem = connection.problem(result) }
      found = consume result
    }
    guard let result = found else { throw PostgreSQLProblem(.lost, "no answer", place: connection.place) }
    return Answered(result: result, problem: problem)
  }

  private static func withItems(
    _ page: borrowing QueryResult, _ count: Int, _ body: (UnsafeBufferPointer<bp_scan_item>) -> Void
  ) {
    withUnsafeTemporaryAllocation(of: bp_scan_item.self, capacity: count) { items in
      for row in 0..<count {
        items.initializeElement(
          at: row,
          to: bp_scan_item(
            uri: bp_view(page.bytes(row, page.isNull(row, 1) ? 0 : 1)), ts_ms: page.number(row, 2),
            version: page.number(row, 3), size_bytes: page.number(row, 5), content: UInt32(page.number(row, 4)),
            reserved: 0))
      }
      body(UnsafeBufferPointer(items))
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
