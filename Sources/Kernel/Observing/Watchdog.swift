import Glibc
import Synchronization
import SystemShims

/// Looks at what plugins do while they serve: threads that are stuck in one of their calls, calls that they never
/// complete or complete twice, and descriptors of the kernel's that somebody closed. It names and counts; it ends nothing.
/// And it tells the service manager that the kernel's own threads are alive.
final class Watchdog: @unchecked Sendable {
  // @unchecked: `seen`, `reported` and what follows them are used by the watch thread alone; `thread` in init and
  // shutDown only.
  private struct Seen {
    let identity: UInt64
    let handle: UInt64
    let sinceNs: UInt64
    var isReported = false
  }

  private let kernel: KernelContext
  private let notifier: ServiceManager
  /// Whether the kernel's own threads are alive.
  private let isAlive: @Sendable () -> Bool
  private let callTimeoutNs = Atomic<UInt64>(10_000_000_000)
  private let stopped = Promise<Bool>()
  private var thread: pthread_t?

  private var seen: [Int: Seen] = [:]
  /// Instances whose ignored completions and lost calls have been told of, up to this number.
  private var reported: [UInt64: (ignored: UInt64, lost: Int)] = [:]
  private var watched: [Instance] = []
  private var pingNs: UInt64 = 0

  private static let tickNs: UInt64 = 250_000_000

  /// - Parameter isAlive: asked for each ping; the watch thread.
  init(_ kernel: KernelContext, _ notifier: ServiceManager, isAlive: @escaping @Sendable () -> Bool) {
    self.kernel = kernel
    self.notifier = notifier
    self.isAlive = isAlive
    thread = Thread.start(name: "bp-watchdog") { [self] in run() }
  }

  func apply(_ settings: NodeConfiguration.Watchdog) {
    callTimeoutNs.store(UInt64(settings.callTimeoutMs) * 1_000_000, ordering: .relaxed)
  }

  private func run() {
    let period = notifier.watchdogPeriodNs
    while stopped.get(untilNs: Clock.monotonicNs() + min(Watchdog.tickNs, period.map { $0 / 2 } ?? .max)) == nil {
      let nowNs = Clock.monotonicNs()
      if let period, nowNs >= pingNs, isAlive() {
        notifier.isAlive()
        pingNs = nowNs + period / 2
      }
      look(nowNs)
    }
  }

  private func look(_ nowNs: UInt64) {
    let limitNs = callTimeoutNs.load(ordering: .relaxed)
    var stuck: [UInt64: Int] = [:]
    let threads = MarkedThread.all()
    for thread in threads {
      guard let instance = thread.instance, instance.kernel === kernel else { continue }
      if isStuck(thread, instance, nowNs, limitNs) { stuck[thread.handle, default: 0] += 1 }
    }
    let present = Dictionary(uniqueKeysWithValues: threads.map { ($0.index, $0.identity) })
    for (index, seen) in seen where present[index] != seen.identity {
      if seen.isReported, let instance = InstanceRegistry.shared.find(seen.handle) {
        kernel.log.notice(
          "a call that was stuck has come back",
          [
            "slot": instance.slot.name, "plugin": instance.image.id,
            "after_ms": "\((nowNs - seen.sinceNs) / 1_000_000)",
          ])
      }
      self.seen[index] = nil
    }
    count(stuck, lost: lost(nowNs, limitNs))
    checkSignals()
    OwnDescriptors.shared.check(kernel, threads)
  }

  /// Life-cycle calls have bounds of their own: those are stuck that were abandoned.
  private func isStuck(_ thread: MarkedThread, _ instance: Instance, _ nowNs: UInt64, _ limitNs: UInt64) -> Bool {
    var seen =
      self.seen[thread.index].flatMap { $0.identity == thread.identity ? $0 : nil }
      ?? Seen(
        identity: thread.identity, handle: thread.handle, sinceNs: thread.startNs == 0 ? nowNs : thread.startNs)
    if self.seen[thread.index]?.isReported != true { self.seen[thread.index] = seen }
    guard nowNs > seen.sinceNs, nowNs - seen.sinceNs > limitNs, !thread.call.isBounded || instance.state == .wedged
    else { return false }
    guard !seen.isReported else { return true }
    seen.isReported = true
    self.seen[thread.index] = seen
    let origin = thread.origin()
    kernel.log.error(
      "a thread is stuck in a plugin",
      [
        "slot": instance.slot.name, "plugin": instance.image.id, "version": instance.image.version,
        "call": thread.call.name, "thread": "\(thread.thread)", "age_ms": "\((nowNs - seen.sinceNs) / 1_000_000)",
        "generation": "\(thread.generation)", "peer": origin?.peer ?? "",
      ])
    return true
  }

  /// Calls that were given up longer ago than the limit and are still not completed, by instance.
  private func lost(_ nowNs: UInt64, _ limitNs: UInt64) -> [UInt64: Int] {
    var lost: [UInt64: Int] = [:]
    for (holding, givenUpNs) in kernel.requests.holdings() {
      guard let givenUpNs, nowNs > givenUpNs, nowNs - givenUpNs > limitNs else { continue }
      for call in holding.waitsFor { lost[call.instance.handle, default: 0] += 1 }
    }
    return lost
  }

  private func count(_ stuck: [UInt64: Int], lost: [UInt64: Int]) {
    for instance in watched where stuck[instance.handle] == nil && lost[instance.handle] == nil {
      instance.stuckThreads.store(0, ordering: .relaxed)
      instance.lostCalls.store(0, ordering: .relaxed)
    }
    watched = Set(stuck.keys).union(lost.keys).compactMap { InstanceRegistry.shared.find($0) }
    for instance in watched {
      instance.stuckThreads.store(stuck[instance.handle] ?? 0, ordering: .relaxed)
      instance.lostCalls.store(lost[instance.handle] ?? 0, ordering: .relaxed)
    }
    var instances = watched
    if let lease = kernel.ring.acquireAdmitted() {
      instances += lease.generation.slots.filter { slot in !instances.contains { $0 === slot } }
      kernel.ring.release(lease)
    }
    for instance in instances { report(instance) }
    let alive = Set(instances.map(\.handle))
    reported = reported.filter { alive.contains($0.key) }
  }

  private func report(_ instance: Instance) {
    let ignored = instance.ignoredCompletions.load(ordering: .relaxed)
    let lost = instance.lostCalls.load(ordering: .relaxed)
    let before = reported[instance.handle] ?? (0, 0)
    reported[instance.handle] = (ignored, lost)
    let fields = ["slot": instance.slot.name, "plugin": instance.image.id, "version": instance.image.version]
    if ignored > before.ignored {
      kernel.log.warning(
        "a plugin completed calls that were not open: twice, or another's",
        fields.merging(["count": "\(ignored - before.ignored)"]) { $1 })
    }
    if lost > before.lost {
      kernel.log.error(
        "a plugin does not complete calls that were given up long ago", fields.merging(["count": "\(lost)"]) { $1 })
    }
  }

  /// A plugin may put handlers of its own in the place of ours; then a crash would not be attributed.
  private func checkSignals() {
    let lost = bp_marks_lost_signal()
    guard lost > 0, bp_marks_is_open() else { return }
    kernel.log.warning(
      "a plugin has put a signal handler in the place of the kernel's; the kernel's goes first again",
      ["signal": CrashReport.name(ofSignal: lost)])
    bp_marks_watch_signals()
  }

  func shutDown() {
    stopped.set(true)
    if let thread { pthread_join(thread, nil) }
    thread = nil
  }
}

extension MarkedThread {
  /// Tells this call from the next one on its thread. By its beginning where that is known, because calls that nest in it
  /// count on.
  fileprivate var identity: UInt64 { startNs == 0 ? sequence : startNs }
}

extension MarkedCall {
  /// Whoever calls it waits for it with a limit of its own.
  fileprivate var isBounded: Bool {
    switch self {
    case .open, .create, .configure, .start, .quiesce, .stop, .destroy, .exportState, .importState, .programs: true
    default: false
    }
  }
}
