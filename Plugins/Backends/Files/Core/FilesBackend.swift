import BackendSupport
import Glibc
import PluginAPI
import Synchronization

/// Records as files that people can read.
public final class FilesBackend: DirectBackend {
  /// Reads and scans get threads: a page cache answers in microseconds, but a file may be on a disk that has to be waited
  /// for, and a transport's event loop must not.
  public static var modes: BackendModes {
    BackendModes(apply: .async, read: .blocking, scan: .blocking, durability: .disk)
  }
  public static var threads: Int { 1 }

  private let context: Context
  private let settings: FilesSettings
  private let health: HealthReporter
  // Written by start and stop, before the first and after the last data call; the lock is for the compiler's peace and
  // for calls that a faulty host makes too late. Data calls read the pointer below.
  private let store = Mutex<Store?>(nil)
  // Unsafe: set by start before any data call, cleared by stop after the last one (core.h, states); `store` owns it.
  nonisolated(unsafe) private var opened: Unmanaged<Store>?

  public init(_ configuration: FilesConfiguration, _ context: Context) throws {
    self.context = context
    settings = try FilesSettings(configuration, stateDirectory: context.stateDirectory)
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
    if let problem = old?.stop() {
      context.log.warning("the log stays for the next start", ["reason": problem.failure.message])
    }
    opened = nil
  }

  public func apply(_ units: UnitBatch) {
    guard let opened else {
      for index in 0..<units.count { units[index].fail(.unavailable("the files backend is not started")) }
      return
    }
    opened._withUnsafeGuaranteedRef { $0.submit(units) }
  }

  public func read(_ call: ReadCall) {
    guard let opened else { return call.fail(.unavailable("the files backend is not started")) }
    do throws(FilesProblem) {
      call.complete(try opened.takeUnretainedValue().find(call.uri, isWithoutData: call.isWithoutData))
    } catch {
      health.report(error)
      call.fail(error.failure)
    }
  }

  public func scan(_ call: ScanCall) {
    guard let opened else { return call.fail(.unavailable("the files backend is not started")) }
    do throws(FilesProblem) {
      call.complete(
        try opened.takeUnretainedValue()
          .page(prefix: call.prefix, cursor: call.cursor, limit: max(1, min(call.limit, FoundPage.itemsMax))))
    } catch {
      health.report(error)
      call.fail(error.failure)
    }
  }

  public func selfTest(scratchDirectory: String) async throws {
    try SelfTest.run(FilesSettings(path: "\(scratchDirectory)/self-test"))
  }
}
