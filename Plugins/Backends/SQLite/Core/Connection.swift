import CSQLite
import PluginAPI

/// One connection, and statements prepared on it. One thread at a time: SQLite's own mutexes are off.
///
/// The file is only ever opened through SQLite: closing any other descriptor of it would drop the POSIX locks of every
/// connection in the process.
final class Connection {
  let path: String
  let handle: OpaquePointer
  /// Pages in the write-ahead log after the last commit of this connection.
  let logPages: UnsafeMutablePointer<Int32>
  private var statements: [OpaquePointer] = []

  init(path: String, settings: SQLiteSettings, isToCreate: Bool) throws(SQLiteProblem) {
    self.path = path
    var opened: OpaquePointer?
    let flags =
      SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | (isToCreate ? SQLITE_OPEN_CREATE : 0)
    guard sqlite3_open_v2(path, &opened, flags, nil) == SQLITE_OK, let opened else {
      let problem = SQLiteProblem(opened, path: path)
      sqlite3_close_v2(opened)
      throw problem
    }
    handle = opened
    logPages = .allocate(capacity: 1)
    logPages.initialize(to: 0)
    sqlite3_busy_timeout(handle, Int32(settings.busyTimeoutMs))
    try execute("PRAGMA cache_size = -\(settings.cacheSizeBytes / 1_024)")
    // Statement journals of large units stay off the disk.
    try execute("PRAGMA temp_store = MEMORY")
  }

  deinit {
    for statement in statements { sqlite3_finalize(statement) }
    sqlite3_close_v2(handle)
    logPages.deallocate()
  }

  var problem: SQLiteProblem { SQLiteProblem(handle, path: path) }

  func execute(_ sql: String) throws(SQLiteProblem) {
    guard sqlite3_exec(handle, sql, nil, nil, nil) == SQLITE_OK else { throw problem }
  }

  /// The statement lives as long as the connection.
  func prepare(_ sql: String) throws(SQLiteProblem) -> Statement {
    var statement: OpaquePointer?
    guard sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil) == SQLITE_OK,
      let statement
    else { throw problem }
    statements.append(statement)
    return Statement(handle: statement)
  }

  /// The first column of the first row.
  func value(_ sql: String) throws(SQLiteProblem) -> String {
    var statement: OpaquePointer?
    guard sqlite3_prepare_v2(handle, sql, -1, &statement, nil) == SQLITE_OK else { throw problem }
    defer { sqlite3_finalize(statement) }
    guard sqlite3_step(statement) == SQLITE_ROW else { throw problem }
    return sqlite3_column_text(statement, 0).map { String(cString: $0) } ?? ""
  }

  func number(_ sql: String) throws(SQLiteProblem) -> Int { Int(try value(sql)) ?? 0 }

  /// Checkpoints are the writer's business, between its commits (see `UnitWriter`).
  func takeOverCheckpoints() {
    sqlite3_wal_hook(
      handle,
      { context, _, _, pages in
        context!.assumingMemoryBound(to: Int32.self).pointee = pages
        return SQLITE_OK
      }, logPages)
  }
}

/// A prepared statement. Bound views are borrowed (SQLITE_STATIC) until `reset`.
struct Statement {
  let handle: OpaquePointer

  @inline(__always)
  func bind(_ index: Int32, _ number: UInt64) { sqlite3_bind_int64(handle, index, Int64(bitPattern: number)) }

  @inline(__always)
  func bind(_ index: Int32, text: BorrowedBytes) {
    // Never NULL for no bytes: a null pointer would bind SQL NULL.
    sqlite3_bind_text64(
      handle, index, UnsafeRawPointer(text.baseAddress ?? nothing).assumingMemoryBound(to: CChar.self),
      UInt64(text.count), nil, UInt8(SQLITE_UTF8))
  }

  @inline(__always)
  func bind(_ index: Int32, blob: BorrowedBytes) {
    sqlite3_bind_blob64(handle, index, blob.baseAddress ?? nothing, UInt64(blob.count), nil)
  }

  @inline(__always)
  func step() -> Int32 { sqlite3_step(handle) }

  @inline(__always)
  func reset() { sqlite3_reset(handle) }

  @inline(__always)
  func number(_ column: Int32) -> UInt64 { UInt64(bitPattern: sqlite3_column_int64(handle, column)) }

  /// Valid until the next step or reset; the bytes of a TEXT are its UTF-8.
  @inline(__always)
  func bytes(_ column: Int32) -> BorrowedBytes {
    let start = sqlite3_column_blob(handle, column)
    return BorrowedBytes(
      start: start?.assumingMemoryBound(to: UInt8.self), count: Int(sqlite3_column_bytes(handle, column)))
  }
}

// An address for the bytes of an empty value. Written by nobody, never freed.
nonisolated(unsafe) private let nothing: UnsafePointer<UInt8> = {
  let byte = UnsafeMutablePointer<UInt8>.allocate(capacity: 1)
  byte.initialize(to: 0)
  return UnsafePointer(byte)
}()
