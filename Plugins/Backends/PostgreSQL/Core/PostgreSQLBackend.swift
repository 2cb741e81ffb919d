import BackendSupport
import CPostgreSQL
import PluginAPI
import Synchronization

/// Records in a PostgreSQL table that the peer can share.
public final class PostgreSQLBackend: DirectBackend {
  public static var modes: BackendModes {
    BackendModes(apply: .async, read: .async, scan: .async, query: .async, durability: .quorum)
  }
  public static var threads: Int { 1 }

  private let context: Context
  private let settings: PostgreSQLSettings
  // Written by start and stop, before the first and after the last data call; the lock is for the compiler's peace and
  // for calls that a faulty host makes too late. Data calls read the pointer below.
  private let store = Mutex<Store?>(nil)
  // Unsafe: set by start before any data call, cleared by stop after the last one (core.h, states); `store` owns it.
  nonisolated(unsafe) private var opened: Unmanaged<Store>?
  /// A start that was given up; its thread is joined when the instance goes.
  private let abandoned = Mutex<FirstConnection?>(nil)

  public init(_ configuration: PostgreSQLConfiguration, _ context: Context) throws {
    self.context = context
    settings = try PostgreSQLSettings(configuration)
  }

  deinit { abandoned.withLock { $0 }?.join() }

  public func start() async throws { try await start(Deadline(monotonicNs: .max)) }

  public func start(_ deadline: Deadline) async throws {
    let shared = Shared(
      settings: settings, layout: LayoutMemory(settings), stop: try StopSignal(), outage: Outage(settings),
      health: PostgreSQLHealth(context), metrics: PostgreSQLMetrics(context.metrics))
    let first = try FirstConnection(shared, deadline: deadline)
    switch first.wait() {
    case .ready(let session):
      first.join()
      let new = try Store(session, shared)
      store.withLock { $0 = new }
      opened = .passUnretained(new)
    case .failed(let problem):
      first.join()
      throw problem.failure
    case .late:
      abandoned.withLock { $0 = first }
      throw Failure.unavailable(
        "PostgreSQL at \(settings.url.place) did not answer in time; check host and port in url, and the resolver of "
          + "this machine")
    }
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

  private static let notStarted = Failure.unavailable("the PostgreSQL backend is not started")

  public func apply(_ units: UnitBatch) {
    guard let opened else {
      for index in 0..<units.count { units[index].fail(Self.notStarted) }
      return
    }
    opened._withUnsafeGuaranteedRef { $0.submit(units) }
  }

  public func read(_ call: ReadCall) {
    guard let opened else { return call.fail(Self.notStarted) }
    opened._withUnsafeGuaranteedRef { $0.submit(call) }
  }

  public func read(_ batch: ReadBatch) {
    guard let opened else {
      for index in 0..<batch.count { batch[index].fail(Self.notStarted) }
      return
    }
    opened._withUnsafeGuaranteedRef { $0.submit(batch) }
  }

  public func scan(_ call: ScanCall) {
    guard let opened else { return call.fail(Self.notStarted) }
    opened._withUnsafeGuaranteedRef { $0.submit(.page(call)) }
  }

  public func query(_ call: QueryCall) {
    guard let opened else { return call.fail(Self.notStarted) }
    // Keys and URIs share no more than that.
    if call.prefix.count > RecordKey.headSizeBytesMax { return call.notCheaper() }
    opened._withUnsafeGuaranteedRef { $0.submit(.query(call)) }
  }

  /// What can be proven without a server: the library is there and fit, and what is decided on this side is right.
  public func selfTest(scratchDirectory: String) async throws { try SelfTest.run() }
}
