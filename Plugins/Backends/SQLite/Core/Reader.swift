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

  init(_ settings: SQLiteSettings) throws(SQLiteProblem) {
    connection = try Connection(path: settings.path, settings: settings, isToCreate: false)
    try connection.execute("PRAGMA query_only = 1")
    get = try connection.prepare("SELECT content, ts_ms, version, data FROM records WHERE uri = ?1")
    head = try connection.prepare("SELECT content, ts_ms, version FROM records WHERE uri = ?1")
    range = try connection.prepare(
      "SELECT uri, content, ts_ms, version, size_bytes FROM records WHERE uri >= ?1 AND uri < ?2 ORDER BY uri LIMIT ?3")
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
    let bound = Self.upperBound(prefix)
    var page = FoundPage()
    var result = SQLITE_OK
    first.withUnsafeBufferPointer { first in
      (bound ?? []).withUnsafeBufferPointer { upper in
        range.bind(1, text: first)
        // Every TEXT is below every BLOB: an empty one is no bound at all.
        if bound == nil { range.bind(2, blob: upper) } else { range.bind(2, text: upper) }
        range.bind(3, UInt64(limit + 1))
        while true {
          result = range.step()
          guard result == SQLITE_ROW else { break }
          if page.items.count == limit {
            page.hasMore = true
            result = SQLITE_DONE
            break
          }
          page.text.append(contentsOf: range.bytes(0))
          page.items.append(
            FoundPage.Item(
              uriEnd: page.text.count, timestampMs: range.number(2), version: range.number(3),
              sizeBytes: range.number(4), content: UInt32(truncatingIfNeeded: range.number(1))))
        }
        // The problem is asked for before reset, which may hide it.
      }
    }
    let problem = result == SQLITE_DONE ? nil : connection.problem
    range.reset()
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
