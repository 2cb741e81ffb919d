import BackendSupport
import CSQLite
import Glibc
import PluginAPI

/// The open file: a thread that writes and connections that read.
final class Store: Sendable {
  private let readers: ReaderPool
  private let scanners: ReaderPool
  // Last, so that the connection that may write is the last to close: it then moves the log into the database.
  private let queue: UnitQueue

  init(_ settings: SQLiteSettings, health: HealthReporter, metrics: CommitMetrics) throws(Failure) {
    // The writer first: it makes the file and its layout.
    let connection = try Layout.open(settings)
    let writer: UnitWriter
    do throws(SQLiteProblem) {
      readers = try ReaderPool(settings, count: settings.readers)
      scanners = try ReaderPool(settings, count: max(1, settings.readers / 2))
      writer = try UnitWriter(connection)
    } catch {
      throw error.failure
    }
    queue = try UnitQueue(
      Committer(writer, durability: settings.durability, health: health, metrics: metrics),
      backend: "the SQLite backend", place: settings.path,
      limits: .init(batchUnitsMax: settings.batchUnitsMax, queueUnitsMax: settings.queueUnitsMax))
  }

  func submit(_ units: UnitBatch) { queue.submit(units) }
  func waitUntilIdle(deadlineNs: UInt64) -> Bool { queue.waitUntilIdle(deadlineNs: deadlineNs) }

  /// Writes what waits and joins the thread. The connections close when the object goes.
  func stop() { queue.stop() }

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
