import BackendSupport
import CSQLite
import PluginAPI

/// Applies units on the one connection that writes. One thread.
final class UnitWriter {
  /// A scan's cursor is a URI, and backend.h allows a cursor 4 KiB. SQLite's limit for a row is 1,000,000,000 bytes; the
  /// URI and the numbers have their share of it.
  private static let limits = RecordLimits(
    backend: "the SQLite backend", uriSizeBytesMax: 4_096, dataSizeBytesMax: 999_990_000)
  /// Pages in the write-ahead log from which a checkpoint is made: 16 MiB of 4 KiB pages.
  private static let checkpointPages: Int32 = 4_096

  private let connection: Connection
  private let beginStatement: Statement
  private let commitStatement: Statement
  private let put: Statement
  private let delete: Statement
  private let find: Statement

  init(_ connection: Connection) throws(SQLiteProblem) {
    self.connection = connection
    beginStatement = try connection.prepare("BEGIN IMMEDIATE")
    commitStatement = try connection.prepare("COMMIT")
    put = try connection.prepare(
      """
      INSERT INTO records (uri, content, ts_ms, version, size_bytes, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
      ON CONFLICT (uri) DO UPDATE SET content = ?2, ts_ms = ?3, version = ?4, size_bytes = ?5, data = ?6
      """)
    delete = try connection.prepare("DELETE FROM records WHERE uri = ?1")
    find = try connection.prepare("SELECT version FROM records WHERE uri = ?1")
  }

  // MARK: Transactions

  /// Takes the write lock, so that nothing later in the transaction can find it taken.
  func begin() throws(SQLiteProblem) { try run(beginStatement) }

  func commit() throws(SQLiteProblem) { try run(commitStatement) }

  /// After any failure; SQLite may have rolled back by itself.
  func rollback() {
    if sqlite3_get_autocommit(connection.handle) == 0 { sqlite3_exec(connection.handle, "ROLLBACK", nil, nil, nil) }
  }

  private func run(_ statement: Statement) throws(SQLiteProblem) {
    defer { statement.reset() }
    guard statement.step() == SQLITE_DONE else { throw connection.problem }
  }

  /// Moves the log into the database when it has grown long. Between commits and after their completions, so that no
  /// caller waits for it. A reader may hold it up; the next one then does the rest.
  func checkpointIfDue() {
    guard connection.logPages.pointee >= Self.checkpointPages else { return }
    connection.logPages.pointee = 0
    sqlite3_wal_checkpoint_v2(connection.handle, nil, SQLITE_CHECKPOINT_PASSIVE, nil, nil)
  }

  // MARK: Units

  /// Applies a unit inside the open transaction. A unit that is refused has written nothing: conditions are checked
  /// before its first op is applied. When this throws the whole transaction must be rolled back.
  func apply(_ unit: some OpList) throws(SQLiteProblem) -> UnitOutcome {
    if let refusal = try unit.refusal(Self.limits, version: version(of:)) { return refusal }
    var absentCount = 0
    for index in 0..<unit.count {
      let op = unit[index]
      if op.isDelete {
        delete.bind(1, text: op.uri.bytes)
        try run(delete)
        if sqlite3_changes(connection.handle) == 0 { absentCount += 1 }
      } else {
        put.bind(1, text: op.uri.bytes)
        put.bind(2, UInt64(op.content))
        put.bind(3, unit.timestampMs)
        put.bind(4, unit.version)
        put.bind(5, op.data.size)
        // JSON as TEXT, for people who look with the sqlite3 shell.
        if op.content == BP_CONTENT_JSON {
          put.bind(6, text: op.data.bytes)
        } else {
          put.bind(6, blob: op.data.bytes)
        }
        try run(put)
      }
    }
    return .applied(absentCount: absentCount)
  }

  private func version(of uri: BorrowedBytes) throws(SQLiteProblem) -> UInt64? {
    defer { find.reset() }
    find.bind(1, text: uri)
    switch find.step() {
    case SQLITE_ROW: return find.number(0)
    case SQLITE_DONE: return nil
    default: throw connection.problem
    }
  }
}
