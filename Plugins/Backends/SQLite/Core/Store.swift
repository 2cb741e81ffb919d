import BackendSupport
import CSQLite
import Glibc
import PluginAPI

/// The open file: a thread that writes and connections that read.
final class Store: Sendable {
  private let readers: ReaderPool
  private let scanners: ReaderPool
  // Last, so that the connection that may write is the last to close: it then moves the log into the database.
  private let commits: CommitThread

  init(_ settings: SQLiteSettings, health: HealthReporter, metrics: CommitMetrics) throws(Failure) {
    // The writer first: it makes the file and its layout.
    let connection = try Layout.open(settings)
    do throws(SQLiteProblem) {
      readers = try ReaderPool(settings, count: settings.readers)
      scanners = try ReaderPool(settings, count: max(1, settings.readers / 2))
      let writer = try UnitWriter(connection)
      commits = try Self.thread(writer, settings, health, metrics)
    } catch {
      throw error.failure
    }
  }

  private static func thread(
    _ writer: UnitWriter, _ settings: SQLiteSettings, _ health: HealthReporter, _ metrics: CommitMetrics
  ) throws(SQLiteProblem) -> CommitThread {
    do throws(Failure) {
      return try CommitThread(writer, settings: settings, health: health, metrics: metrics)
    } catch {
      throw SQLiteProblem(code: SQLITE_NOMEM, text: error.message, path: settings.path)
    }
  }

  func submit(_ units: UnitBatch) { commits.submit(units) }
  func waitUntilIdle(deadlineNs: UInt64) -> Bool { commits.waitUntilIdle(deadlineNs: deadlineNs) }

  /// Writes what waits and joins the thread. The connections close when the object goes.
  func stop() { commits.stop() }

  func find(_ uri: BorrowedBytes, isWithoutData: Bool) throws(SQLiteProblem) -> FoundRecord? {
    try readers.with { reader throws(SQLiteProblem) in try reader.find(uri, isWithoutData: isWithoutData) }
  }

  func page(prefix: BorrowedBytes, cursor: BorrowedBytes, limit: Int) throws(SQLiteProblem) -> FoundPage {
    try scanners.with { reader throws(SQLiteProblem) in
      try reader.page(prefix: prefix, cursor: cursor, limit: limit)
    }
  }

  func query(
    prefix: BorrowedBytes, offset: Int, limit: Int
  ) throws(SQLiteProblem) -> (page: FoundPage, total: Int) {
    try scanners.with { reader throws(SQLiteProblem) in
      try reader.query(prefix: prefix, offset: offset, limit: limit)
    }
  }
}
