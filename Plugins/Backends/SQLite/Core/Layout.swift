import CSQLite
import Glibc
import PluginAPI

/// The layout of the file, documented in docs/sqlite.md.
enum Layout {
  /// "Bpln": says whose file it is (`PRAGMA application_id`).
  static let applicationID = 0x4270_6c6e
  /// `PRAGMA user_version`.
  static let version = 1

  static let table = """
    CREATE TABLE records (
      uri TEXT NOT NULL PRIMARY KEY,
      content INTEGER NOT NULL,
      ts_ms INTEGER NOT NULL,
      version INTEGER NOT NULL,
      size_bytes INTEGER NOT NULL,
      data BLOB NOT NULL
    ) WITHOUT ROWID
    """

  /// Opens the file for writing and makes sure it is ours, of this layout and in WAL mode; makes it when it is not there.
  static func open(_ settings: SQLiteSettings) throws(Failure) -> Connection {
    do throws(SQLiteProblem) {
      let connection = try Connection(path: settings.path, settings: settings, isToCreate: true)
      if try isFresh(connection) { try create(connection) }
      if let refusal = try refusal(connection)?.problem { throw refusal }
      try enterWAL(connection, settings)
      // With a write-ahead log, FULL syncs the log at every commit; NORMAL leaves that to the system, so that a commit
      // survives the process but not the machine.
      try connection.execute("PRAGMA synchronous = \(settings.durability == .disk ? "FULL" : "NORMAL")")
      try connection.execute("PRAGMA journal_size_limit = 67108864")
      connection.takeOverCheckpoints()
      return connection
    } catch {
      throw error.code == Refusal.code ? Failure(code: BP_FAILED_PRECONDITION, error.text) : error.failure
    }
  }

  /// A file that is a sound database and yet not for us.
  private struct Refusal {
    static let code: Int32 = -1
    var problem: SQLiteProblem
    init(_ text: String, _ path: String) { problem = SQLiteProblem(code: Self.code, text: text, path: path) }
  }

  private static func isFresh(_ connection: Connection) throws(SQLiteProblem) -> Bool {
    // One after the other: the right side of && would lose the type of what it throws.
    let identity = try connection.number("PRAGMA application_id") | connection.number("PRAGMA user_version")
    let tablesCount = try connection.number("SELECT count(*) FROM sqlite_schema")
    return identity == 0 && tablesCount == 0
  }

  private static func create(_ connection: Connection) throws(SQLiteProblem) {
    try connection.execute("BEGIN IMMEDIATE")
    do throws(SQLiteProblem) {
      // Another generation or process may have been first.
      if try isFresh(connection) {
        try connection.execute(table)
        try connection.execute("PRAGMA application_id = \(applicationID)")
        try connection.execute("PRAGMA user_version = \(version)")
      }
      try connection.execute("COMMIT")
    } catch {
      sqlite3_exec(connection.handle, "ROLLBACK", nil, nil, nil)
      throw error
    }
  }

  private static func refusal(_ connection: Connection) throws(SQLiteProblem) -> Refusal? {
    guard try connection.number("PRAGMA application_id") == applicationID else {
      return Refusal(
        "\(connection.path) is a SQLite database of another program; give another url, or move the file out of the way",
        connection.path)
    }
    let found = try connection.number("PRAGMA user_version")
    if found > version {
      return Refusal(
        "\(connection.path) has layout \(found) and this plugin knows up to \(version); use the newer plugin that wrote "
          + "it, or give another url", connection.path)
    }
    return nil
  }

  private static func enterWAL(_ connection: Connection, _ settings: SQLiteSettings) throws(SQLiteProblem) {
    // Changing the mode needs the file alone for a moment, and SQLite does not wait for that by itself.
    var waitedMs = 0
    while true {
      do throws(SQLiteProblem) {
        let mode = try connection.value("PRAGMA journal_mode = WAL")
        if mode == "wal" { return }
        throw SQLiteProblem(
          code: Refusal.code,
          text: "\(connection.path) cannot have a write-ahead log (the journal mode stays \(mode)); put it on a local "
            + "filesystem", path: connection.path)
      } catch {
        guard error.primaryCode == SQLITE_BUSY, waitedMs < settings.busyTimeoutMs else { throw error }
        usleep(5_000)
        waitedMs += 5
      }
    }
  }
}
