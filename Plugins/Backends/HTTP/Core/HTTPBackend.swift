import PluginAPI
import Synchronization

/// Records in another node, over the B3nd HTTP API.
public final class HTTPBackend: DirectBackend {
  public static var modes: BackendModes {
    BackendModes(
      apply: .async, read: .async, scan: .blocking, query: .blocking, durability: .quorum, isAtomic: false,
      keepsVersions: false, isRemote: true)
  }
  /// The executor starts and stops; the first look at the remote blocks one of its threads.
  public static var threads: Int { 1 }

  private struct Running: Sendable {
    let remote: Remote
    let monitor: Monitor
    let calls: OpenCalls
    let writes: Writes
    let reads: Reads
    let scans: Scans
  }

  private let context: Context
  private let settings: Settings
  private let health: HealthReporter
  private let running = Mutex<Running?>(nil)

  public init(_ configuration: HTTPBackendConfiguration, _ context: Context) throws {
    self.context = context
    // A self-test is given no configuration, and asks nobody.
    settings = context.purpose == .test && configuration.url == nil ? Settings() : try Settings(configuration)
    health = HealthReporter(context)
  }

  public func start() async throws {
    let metrics = RemoteMetrics(context.metrics)
    let remote = Remote(settings, health: health, metrics: metrics)
    let monitor = Monitor(settings, remote, health)
    do throws(Failure) { try monitor.start() } catch {
      await remote.stop()
      throw error
    }
    health.whenFailing { [weak monitor] in monitor?.nudge() }
    let (loops, calls) = (LoopGuard(), OpenCalls())
    let made = Running(
      remote: remote, monitor: monitor, calls: calls, writes: Writes(remote, loops, calls, metrics),
      reads: Reads(remote, loops, calls, metrics),
      scans: Scans(remote, loops, calls, metrics))
    running.withLock { $0 = made }
  }

  public func quiesce(_ deadline: Deadline) async {
    await running.withLock { $0 }?.remote.waitUntilIdle(deadlineNs: deadline.monotonicNs)
  }

  public func stop() async {
    let old = running.withLock { running in
      defer { running = nil }
      return running
    }
    guard let old else { return }
    health.whenFailing(nil)
    old.monitor.stop { old.remote.cancelAll() }
    await old.remote.stop()
  }

  private static let notStarted = Failure.unavailable("the HTTP backend is not started")

  public func apply(_ units: UnitBatch) {
    let running = running.withLock { $0 }
    for index in 0..<units.count {
      guard let running else {
        units[index].fail(Self.notStarted)
        continue
      }
      running.writes.submit(units[index])
    }
  }

  public func read(_ call: ReadCall) {
    guard let running = running.withLock({ $0 }) else { return call.fail(Self.notStarted) }
    running.reads.submit(call)
  }

  public func read(_ batch: ReadBatch) {
    guard let running = running.withLock({ $0 }) else {
      for index in 0..<batch.count { batch[index].fail(Self.notStarted) }
      return
    }
    running.reads.submit(batch)
  }

  public func scan(_ call: ScanCall) {
    guard let running = running.withLock({ $0 }) else { return call.fail(Self.notStarted) }
    running.scans.run(call)
  }

  public func query(_ call: QueryCall) {
    guard let running = running.withLock({ $0 }) else { return call.fail(Self.notStarted) }
    running.scans.run(call)
  }

  public func cancel(_ token: bp_token) {
    guard let running = running.withLock({ $0 }), let sending = running.calls.find(token) else { return }
    running.remote.cancel(sending)
  }

  public func selfTest(scratchDirectory: String) async throws { try await SelfTest.run(in: scratchDirectory) }
}
