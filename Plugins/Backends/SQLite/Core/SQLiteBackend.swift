import BackendSupport
import Glibc
import PluginAPI
import Synchronization

/// Records in a SQLite file.
public final class SQLiteBackend: DirectBackend {
  /// Reads are direct: a point look-up takes a few microseconds, less than handing it to another thread (the figures are
  /// in docs/sqlite.md). A scan may touch much of the file, and so may a query that has to count, so they get threads.
  public static var modes: BackendModes {
    BackendModes(apply: .async, read: .direct, scan: .blocking, query: .blocking, durability: .disk)
  }
  public static var threads: Int { 1 }

  private let context: Context
  private let settings: SQLiteSettings
  private let health: HealthReporter
  // Written by start and stop, before the first and after the last data call; the lock is for the compiler's peace and
  // for calls that a faulty host makes too late. Data calls read the pointer below.
  private let store = Mutex<Store?>(nil)
  // Unsafe: set by start before any data call, cleared by stop after the last one (core.h, states); `store` owns it.
  nonisolated(unsafe) private var opened: Unmanaged<Store>?

  public init(_ configuration: SQLiteConfiguration, _ context: Context) throws {
    self.context = context
    settings = try SQLiteSettings(configuration, stateDirectory: context.stateDirectory)
    health = HealthReporter(context)
  }

  public func start() async throws {
    let new = try Store(settings, health: health, metrics: CommitMetrics(context.metrics))
    store.withLock { $0 = new }
    opened = .passUnretained(new)
  }

  public func quiesce(_ deadline: Deadline) async {
    _ = store.withLock { $0 }?.waitUntilIdle(deadlineNs: deadline.monotonicNs)
  }

  public func stop() async {
    let old = store.withLock { store in
      defer { store = nil }
      return store
    }
    old?.stop()
    opened = nil
  }

  public func apply(_ units: UnitBatch) {
    guard let opened else {
      for index in 0..<units.count { units[index].fail(.unavailable("the SQLite backend is not started")) }
      return
    }
    opened._withUnsafeGuaranteedRef { $0.submit(units) }
  }

  public func read(_ call: ReadCall) {
    guard let opened else { return call.fail(.unavailable("the SQLite backend is not started")) }
    do throws(SQLiteProblem) {
      call.complete(try opened.takeUnretainedValue().find(call.uri, isWithoutData: call.isWithoutData))
    } catch {
      health.report(error)
      call.fail(error.failure)
    }
  }

  public func scan(_ call: ScanCall) {
    guard let opened else { return call.fail(.unavailable("the SQLite backend is not started")) }
    do throws(SQLiteProblem) {
      call.complete(
        try opened.takeUnretainedValue()
          .page(prefix: call.prefix, cursor: call.cursor, limit: max(1, min(call.limit, FoundPage.itemsMax))))
    } catch {
      health.report(error)
      call.fail(error.failure)
    }
  }

  public func query(_ call: QueryCall) {
    guard let opened else { return call.fail(.unavailable("the SQLite backend is not started")) }
    guard call.limit <= FoundPage.itemsMax else { return call.notCheaper() }
    do throws(SQLiteProblem) {
      let (page, total) = try opened.takeUnretainedValue()
        .query(prefix: call.prefix, offset: call.offset, limit: call.limit)
      call.complete(page, total: total)
    } catch {
      health.report(error)
      call.fail(error.failure)
    }
  }

  public func selfTest(scratchDirectory: String) async throws {
    try SelfTest.run(SQLiteSettings(path: "\(scratchDirectory)/self-test.sqlite3"))
  }
}
