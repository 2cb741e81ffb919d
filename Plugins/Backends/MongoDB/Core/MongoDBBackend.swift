import BackendSupport
import PluginAPI
import Synchronization

/// Records in a MongoDB collection.
public final class MongoDBBackend: DirectBackend {
  /// Nothing is direct, because everything is a round trip. Writes and reads wait for threads of the instance's own, where
  /// those that come meanwhile gather; a scan has a thread of the host's to itself.
  public static var modes: BackendModes {
    BackendModes(apply: .async, read: .async, scan: .blocking, durability: .quorum)
  }
  public static var threads: Int { 1 }

  private let context: Context
  private let settings: MongoDBSettings
  private let health: HealthReporter
  // Written by start and stop, before the first and after the last data call; the lock is for the compiler's peace and
  // for calls that a faulty host makes too late. Data calls read the pointer below.
  private let store = Mutex<Store?>(nil)
  // Unsafe: set by start before any data call, cleared by stop after the last one (core.h, states); `store` owns it.
  nonisolated(unsafe) private var opened: Unmanaged<Store>?

  public init(_ configuration: MongoDBConfiguration, _ context: Context) throws {
    self.context = context
    settings = try MongoDBSettings(configuration)
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

  private static let notStarted = Failure.unavailable("the MongoDB backend is not started")

  public func apply(_ units: UnitBatch) {
    guard let opened else {
      for index in 0..<units.count { units[index].fail(Self.notStarted) }
      return
    }
    opened._withUnsafeGuaranteedRef { $0.submit(units) }
  }

  public func read(_ call: ReadCall) {
    guard let opened else { return call.fail(Self.notStarted) }
    opened._withUnsafeGuaranteedRef { $0.submit([call]) }
  }

  public func read(_ batch: ReadBatch) {
    guard let opened else {
      for index in 0..<batch.count { batch[index].fail(Self.notStarted) }
      return
    }
    opened._withUnsafeGuaranteedRef { $0.submit((0..<batch.count).map { batch[$0] }) }
  }

  public func scan(_ call: ScanCall) {
    guard let opened else { return call.fail(Self.notStarted) }
    do throws(MongoProblem) {
      let page = try opened.takeUnretainedValue()
        .page(prefix: call.prefix, cursor: call.cursor, limit: max(1, min(call.limit, FoundPage.itemsMax)))
      call.complete(page)
    } catch {
      health.report(error)
      call.fail(error.failure)
    }
  }

  public func selfTest(scratchDirectory: String) async throws { try SelfTest.run() }
}
