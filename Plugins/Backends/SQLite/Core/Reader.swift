import BackendSupport
import CSQLite
import Glibc
import PluginAPI

/// A connection that only reads. One thread at a time.
final class Reader: @unchecked Sendable {
  // @unchecked: a pool hands it to one thread at a time, under a lock.
  private let connection: Connection
  private let get: Statement
  private let head: Statement
  private let range: Statement
  private let pageFromMiddle: Statement
  private let count: Statement
  private let dataVersion: Statement
  private var counted = CountedPrefixes()

  init(_ settings: SQLiteSettings) throws(SQLiteProblem) {
    connection = try Connection(path: settings.path, settings: settings, isToCreate: false)
    try connection.execute("PRAGMA query_only = 1")
    get = try connection.prepare("SELECT content, ts_ms, version, data FROM records WHERE uri = ?1")
    head = try connection.prepare("SELECT content, ts_ms, version FROM records WHERE uri = ?1")
    range = try connection.prepare(
      "SELECT uri, content, ts_ms, version, size_bytes FROM records WHERE uri >= ?1 AND uri < ?2 ORDER BY uri LIMIT ?3")
    pageFromMiddle = try connection.prepare(
      """
      SELECT uri, content, ts_ms, version, size_bytes FROM records WHERE uri >= ?1 AND uri < ?2 ORDER BY uri
      LIMIT ?3 OFFSET ?4
      """)
    count = try connection.prepare("SELECT count(*) FROM records WHERE uri >= ?1 AND uri < ?2")
    // Another number whenever another connection, of this process or not, has written.
    dataVersion = try connection.prepare("PRAGMA data_version")
  }

  func find(_ uri: BorrowedBytes, isWithoutData: Bool) throws(SQLiteProblem) -> FoundRecord? {
    let statement = isWithoutData ? head : get
    defer { statement.reset() }
    statement.bind(1, text: uri)
    switch statement.step() {
    case SQLITE_ROW:
      var found = FoundRecord(
        timestampMs: statement.number(1), version: statement.number(2),
        content: UInt32(truncatingIfNeeded: statement.number(0)), data: nil)
      if !isWithoutData {
        let bytes = statement.bytes(3)
        if let start = bytes.baseAddress, !bytes.isEmpty {
          let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count)
          memcpy(copy.baseAddress!, start, bytes.count)
          found.data = copy
        }
      }
      return found
    case SQLITE_DONE: return nil
    default: throw connection.problem
    }
  }

  /// Up to `limit` records in the order of their bytes, after `cursor` (the last URI of the page before).
  func page(prefix: BorrowedBytes, cursor: BorrowedBytes, limit: Int) throws(SQLiteProblem) -> FoundPage {
    // Just after the cursor in the order of bytes is the cursor with a zero byte.
    let first = cursor.isEmpty ? Array(prefix) : Array(cursor) + [0]
    // One more than is wanted: it says that there is a next page.
    var page = try rows(range, from: first, prefix: prefix, limit: limit + 1, offset: nil)
    if page.items.count > limit {
      page.hasMore = true
      page.items.removeLast()
      page.text.removeLast(page.text.count - (page.items.last?.uriEnd ?? 0))
    }
    return page
  }

  /// The records number `offset` and on, up to `limit`, and how many there are: of one moment.
  func query(
    prefix: BorrowedBytes, offset: Int, limit: Int
  ) throws(SQLiteProblem) -> (page: FoundPage, total: Int) {
    try connection.execute("BEGIN")
    do throws(SQLiteProblem) {
      // Of the snapshot that the transaction reads, which begins with this.
      counted.begin(fileVersion: try single(dataVersion))
      let key = Array(prefix)
      let total = try total(key)
      var page = FoundPage()
      if limit > 0, offset < total {
        let place = counted.place(key, before: offset)
        page = try rows(
          pageFromMiddle, from: place?.bound ?? key, prefix: prefix, limit: limit,
          offset: offset - (place?.number ?? 0))
        if let first = page.items.first {
          counted.add(key, offset, page.text[..<first.uriEnd])
          // Just after the last one in the order of bytes.
          let last = page.items.dropLast().last?.uriEnd ?? 0
          counted.add(key, offset + page.items.count, page.text[last...] + [0])
        }
      }
      try connection.execute("COMMIT")
      return (page, total)
    } catch {
      sqlite3_exec(connection.handle, "ROLLBACK", nil, nil, nil)
      throw error
    }
  }

  /// Counting goes over every row.
  private func total(_ prefix: [UInt8]) throws(SQLiteProblem) -> Int {
    if let known = counted.total(prefix) { return known }
    let bound = prefix.withUnsafeBufferPointer { Self.upperBound($0) }
    var found: Result<UInt64, SQLiteProblem>!
    prefix.withUnsafeBufferPointer { first in
      (bound ?? []).withUnsafeBufferPointer { upper in
        count.bind(1, text: first)
        if bound == nil { count.bind(2, blob: upper) } else { count.bind(2, text: upper) }
        found = Result { () throws(SQLiteProblem) in try single(count) }
      }
    }
    let total = Int(clamping: try found.get())
    counted.set(prefix, total: total)
    return total
  }

  private func single(_ statement: Statement) throws(SQLiteProblem) -> UInt64 {
    defer { statement.reset() }
    guard statement.step() == SQLITE_ROW else { throw connection.problem }
    return statement.number(0)
  }

  private func rows(
    _ statement: Statement, from first: [UInt8], prefix: BorrowedBytes, limit: Int, offset: Int?
  ) throws(SQLiteProblem) -> FoundPage {
    let bound = Self.upperBound(prefix)
    var page = FoundPage()
    var result = SQLITE_OK
    first.withUnsafeBufferPointer { first in
      (bound ?? []).withUnsafeBufferPointer { upper in
        statement.bind(1, text: first)
        // Every TEXT is below every BLOB: an empty one is no bound at all.
        if bound == nil { statement.bind(2, blob: upper) } else { statement.bind(2, text: upper) }
        statement.bind(3, UInt64(limit))
        if let offset { statement.bind(4, UInt64(offset)) }
        while true {
          result = statement.step()
          guard result == SQLITE_ROW else { break }
          page.text.append(contentsOf: statement.bytes(0))
          page.items.append(
            FoundPage.Item(
              uriEnd: page.text.count, timestampMs: statement.number(2), version: statement.number(3),
              sizeBytes: statement.number(4), content: UInt32(truncatingIfNeeded: statement.number(1))))
        }
        // The problem is asked for before reset, which may hide it.
      }
    }
    let problem = result == SQLITE_DONE ? nil : connection.problem
    statement.reset()
    if let problem { throw problem }
    return page
  }

  /// The first text after all that begin with `prefix`, or nil when there is none.
  private static func upperBound(_ prefix: BorrowedBytes) -> [UInt8]? {
    var bytes = Array(prefix)
    while let last = bytes.popLast() {
      if last < 0xff { return bytes + [last + 1] }
    }
    return nil
  }
}
