import BackplaneABI
import Foundation
import Synchronization

/// A node: plugins from directories, wired by a configuration, swapped while requests keep flowing.
public final class Kernel: @unchecked Sendable {
  // @unchecked: `reconciler` is used by the reload thread alone; the watches are replaced under a lock.
  let context: KernelContext
  let history: History
  private let marks: MarksFile?
  /// What is worth saying of how the run before ended.
  private let pastNotes: [String]
  private let reaper: Reaper
  private let watchdog: Watchdog
  /// When the job that the reload thread is at began, CLOCK_MONOTONIC; 0 while it has none.
  private let reloadingNs: BeatTime
  private let reconciler: Reconciler
  private let startedMs = Clock.wallMs()
  private let reread: @Sendable () throws -> LoadedConfiguration
  private let watches = Mutex<Watches>(Watches())
  private let last = Mutex<LoadedConfiguration?>(nil)
  private let notifier: ServiceManager
  private var queue: ReloadQueue!
  /// Hints that came before the queue was there; nil once it is.
  private let earlyHints = Mutex<Set<String>?>([])
  private var control: ControlServer?

  private struct Watches: @unchecked Sendable {
    // @unchecked: only touched under the lock.
    var directories: [String] = []
    var watch: DirectoryWatch?
  }

  /// What could not be done at the start: the receipt of the first reload.
  public struct StartFailure: Error, Sendable {
    public let receipt: Receipt
  }

  /// Brings the node up: state directories, the first generation, the control socket, the watches.
  ///
  /// - Parameters:
  ///   - configuration: what to run.
  ///   - reread: gives the configuration anew for each reload; any thread.
  ///   - probeExecutable: an executable whose main calls `ProbeChild.main` for `ProbeChild.argument`; the running one
  ///     unless a test says otherwise.
  ///   - servesControl: opens the control socket.
  /// - Throws: `StartFailure` with everything that was refused; nothing is left running.
  public init(
    _ configuration: LoadedConfiguration, reread: @escaping @Sendable () throws -> LoadedConfiguration,
    probeExecutable: String? = nil, servesControl: Bool = true
  ) throws {
    let directories = configuration.node.directories
    for directory in [directories.state, directories.staging, directories.runtime] {
      try? FileManager.default.createDirectory(
        atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }
    let log = KernelLog(configuration.node.log)
    let quarantine = Quarantine(stateDirectory: directories.state)
    // Before anything else: a plugin that crashed the node is known before its file is loaded again.
    (marks, pastNotes) = Kernel.lookBack(directories.state, quarantine, configuration.node.quarantinePolicy, log)
    context = KernelContext(
      log: log, behind: BehindRegistry(directory: directories.state + "/behind"), quarantine: quarantine)
    self.reread = reread
    notifier = ServiceManager()
    history = History(stateDirectory: directories.state, limit: configuration.node.limits.historyReceiptsMax)
    reaper = Reaper(context)
    reloadingNs = BeatTime()
    watchdog = Watchdog(context, notifier, isAlive: Kernel.aliveness(context, reaper, reloadingNs))
    watchdog.apply(configuration.node.watchdog)
    let executable = probeExecutable ?? (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
    let prober = Prober(
      executable: executable ?? CommandLine.arguments[0], stateDirectory: directories.state,
      scratchParent: directories.state + "/scratch")
    reconciler = Reconciler(context, KernelWorld(context, reaper, prober), ReceiptKeeper(context, history))
    // Watched before the first look, so that nothing dropped in between is missed.
    watch(configuration)
    let receipt = reconciler.reconcile(
      Reconciler.Request(trigger: "start", configuration: .success(configuration), now: ["*"], notes: pastNotes))
    guard context.ring.currentNumber != 0, receipt.outcome == .applied else {
      watches.withLock { $0.watch?.stop() }
      shutDownParts()
      throw StartFailure(receipt: receipt)
    }
    last.withLock { $0 = configuration }
    queue = ReloadQueue { [unowned self] job in run(job) }
    let early = earlyHints.withLock { hints -> Set<String>? in
      defer { hints = nil }
      return hints
    }
    for trigger in early ?? [] { queue.hint(trigger) }
    if servesControl { control = try ControlServer(path: directories.controlSocket, kernel: self) }
    notifier.ready(status: "generation \(context.ring.currentNumber)")
  }

  /// Tells the node that something may have changed; coalesced, never lost. Any thread, signal-safe it is not.
  public func hint(_ trigger: String) { queue.hint(trigger) }

  /// Reloads and waits for the receipt; nil when the node is ending.
  ///
  /// Waits on its own thread until files that are being written have come to rest, unless `now` names what is wanted: a
  /// reload that somebody else asks for meanwhile is not held up.
  ///
  /// - Parameters:
  ///   - now: files to take without waiting until they have settled; `*` means all.
  ///   - losesState: no state is handed over, and backends that keep their records in memory only may be replaced.
  ///   - retries: what was refused or rolled back is tried again though nothing about it has changed.
  public func reload(
    _ trigger: String, now: Set<String> = [], losesState: Bool = false, retries: Bool = false
  ) -> Receipt? {
    if now.isEmpty, let node = last.withLock({ $0?.node }) {
      PluginCataloguer.awaitSettled(
        directories: node.directories.plugins, extraPaths: node.slots.compactMap(\.pluginPath),
        settleMs: node.reload.settleMs)
    }
    return queue.reload(trigger, now: now, losesState: losesState, retries: retries)
  }

  /// Puts slots back to what served before their last replacement, and waits for the receipt; nil when the node is
  /// ending. Without names: everything that the last reload replaced.
  public func rollBack(_ slots: [String]?) -> Receipt? { queue.rollBack(slots) }

  /// How often a slot that is on probation is looked at.
  private static let probationTickNs: UInt64 = 100_000_000

  /// On the reload thread. Answers when it wants to look at probations.
  private func run(_ job: ReloadQueue.Job) -> UInt64 {
    reloadingNs.value.store(Clock.monotonicNs(), ordering: .relaxed)
    defer { reloadingNs.value.store(0, ordering: .relaxed) }
    switch job {
    case .reload(let asked):
      let receipt = reload(asked)
      for promise in asked.waiting { promise.set(receipt) }
    case .rollBack(let asked):
      asked.promise.set(
        reconciler.rollBack(Reconciler.RollbackRequest(trigger: "control", slots: asked.slots)))
    case .tick: _ = reconciler.judgeTrials()
    }
    return reconciler.isOnProbation ? Clock.monotonicNs() + Kernel.probationTickNs : 0
  }

  private func reload(_ asked: ReloadQueue.Asked) -> Receipt {
    notifier.reloading()
    let loaded = Result { try reread() }
    let receipt = reconciler.reconcile(
      Reconciler.Request(
        trigger: asked.triggers.joined(separator: ", "), configuration: loaded, now: asked.now,
        losesState: asked.losesState, retries: asked.retries))
    if let recheckMs = reconciler.recheckMs { queue.hint(Reconciler.pluginsTrigger, afterMs: recheckMs) }
    if let configuration = reconciler.configuration {
      last.withLock { $0 = configuration }
      watchdog.apply(configuration.node.watchdog)
      watch(configuration)
    }
    notifier.ready(status: "generation \(receipt.generation): \(receipt.outcome.rawValue)")
    return receipt
  }

  private func hinted(_ trigger: String) {
    let isEarly = earlyHints.withLock { $0?.insert(trigger) != nil }
    if !isEarly { queue.hint(trigger) }
  }

  /// Watches what the configuration names; left alone when that has not changed.
  private func watch(_ configuration: LoadedConfiguration) {
    guard configuration.node.reload.watch else {
      return watches.withLock { watches in
        watches.watch?.stop()
        watches = Watches()
      }
    }
    let directories = configuration.node.directories.plugins + configuration.watchedDirectories
    let plugins = Set(configuration.node.directories.plugins)
    watches.withLock { watches in
      guard watches.directories != directories else { return }
      watches.watch?.stop()
      watches.directories = directories
      do {
        watches.watch = try DirectoryWatch(directories) { [weak self] hint in
          for problem in hint.problems { self?.context.log.warning("watch", ["reason": problem.sentence]) }
          let isPlugins = hint.isRescan || hint.directories.contains { plugins.contains($0) }
          self?.hinted(isPlugins ? Reconciler.pluginsTrigger : Reconciler.configurationTrigger)
        }
      } catch {
        watches.watch = nil
        context.log.warning("directories are not watched; use SIGHUP or `backplane reload`", ["reason": "\(error)"])
      }
    }
  }

  /// How long an idle connection is kept when the node ends, so that a request on its way is answered.
  private static let idleGraceMs = 1000

  /// How much longer than its drain the end of a node may take; half of it is for what the drain left running.
  private static let endGraceMs = 4000

  /// Drains and ends: transports stop accepting, requests finish, instances stop. At most `timeoutMs`; true when
  /// everything came to its end.
  @discardableResult
  public func shutDown(timeoutMs: Int) -> Bool {
    notifier.stopping(timeoutMs: timeoutMs + Kernel.endGraceMs)
    watches.withLock {
      $0.watch?.stop()
      $0.watch = nil
    }
    control?.shutDown()
    control = nil
    queue.shutDown()
    let deadlineNs = Clock.monotonicNs() + UInt64(timeoutMs) * 1_000_000
    // No successor serves here: idle connections need not be kept for long.
    reaper.apply(
      Reaper.Limits(
        drainSoftMs: min(timeoutMs / 2, Kernel.idleGraceMs), drainHardMs: timeoutMs / 2, stopMs: timeoutMs / 2,
        cancelGraceMs: timeoutMs / 4))
    reconciler.shutDown()
    let isClean = reaper.drain(untilNs: deadlineNs)
    shutDownParts()
    return isClean
  }

  private func shutDownParts() {
    _ = reaper.drain(untilNs: Clock.monotonicNs() + UInt64(Kernel.endGraceMs) * 1_000_000 / 2)
    watchdog.shutDown()
    reaper.shutDown()
    context.shutDown()
    marks?.end()
  }

  /// A reload may take so long before the service manager is not told any more that the node is alive: far more than the
  /// bounds of its steps come to.
  private static let reloadNsMax: UInt64 = 900_000_000_000

  /// Says whether the deadline thread and the reaper have gone round since it was last asked, and whether the reload
  /// thread gets on.
  private static func aliveness(
    _ context: KernelContext, _ reaper: Reaper, _ reloadingNs: BeatTime
  ) -> @Sendable () -> Bool {
    let last = Mutex<(deadlines: UInt64, reaper: UInt64)>((.max, .max))
    return {
      let now = (
        deadlines: context.requests.rounds.load(ordering: .relaxed), reaper: reaper.rounds.load(ordering: .relaxed)
      )
      let haveTurned = last.withLock { last in
        defer { last = now }
        return last.deadlines != now.deadlines && last.reaper != now.reaper
      }
      let since = reloadingNs.value.load(ordering: .relaxed)
      return haveTurned && (since == 0 || Clock.monotonicNs() - since < reloadNsMax)
    }
  }

  /// Reads how the runs before this one ended, puts the culprits into quarantine and begins this run's marks.
  private static func lookBack(
    _ stateDirectory: String, _ quarantine: Quarantine, _ policy: Quarantine.Policy, _ log: KernelLog
  ) -> (MarksFile?, [String]) {
    var notes: [String] = []
    let (file, previous, problem) = MarksFile.begin(stateDirectory: stateDirectory)
    for run in previous {
      switch run {
      case .orderly: break
      case .killed: log.notice("the run before this one was killed, or the machine went down; no plugin is to blame")
      case .unreadable(let sentence):
        log.warning("the marks of a run before this one are left aside", ["reason": sentence])
      case .crashed(let crash):
        log.error(
          "the run before this one crashed",
          [
            "signal": crash.signal, "plugin": crash.plugin, "version": crash.version, "slot": crash.slot,
            "generation": "\(crash.generation)", "call": crash.call, "thread": crash.thread,
            "at": crash.place,
          ])
        var note = "in the run before this one \(crash.sentence)"
        if !crash.plugin.isEmpty {
          note += "; \(quarantine.consequence(of: policy, for: crash.plugin))"
          if let reason = quarantine.add(crash) {
            log.error("the quarantine could not be written", ["reason": reason])
            note += "; it could not be written: \(reason)"
          }
        }
        notes.append(note)
      }
    }
    if let problem {
      log.warning("crashes will not be attributed", ["reason": problem])
      notes.append(problem)
    }
    return (file, notes)
  }

  /// Plugin files that have crashed the node, in the order in which they did.
  public func quarantined() -> [Quarantine.Entry] { context.quarantine.all }

  /// Lets a plugin out of quarantine, by its id or the hash of one file; takes effect at the next reload.
  public func clearQuarantine(_ name: String) -> [Quarantine.Entry] {
    let cleared = context.quarantine.clear(name)
    for entry in cleared {
      context.log.notice("let out of quarantine", ["plugin": entry.plugin, "version": entry.version])
    }
    return cleared
  }

  /// Who holds which generation.
  public func generations() -> GenerationsReport {
    let nowNs = Clock.monotonicNs()
    let leases = GenerationsReport.leases(context)
    var room = GenerationsReport.leasesMax
    func generation(_ number: UInt64, _ state: GenerationsReport.State, _ madeNs: UInt64, _ count: Int)
      -> GenerationsReport.Generation
    {
      let all = leases[number] ?? []
      let shown = Array(all.prefix(room))
      room -= shown.count
      return GenerationsReport.Generation(
        number: number, state: state, ageMs: GenerationsReport.milliseconds(since: madeNs, nowNs), leases: count,
        held: shown, notShown: all.count - shown.count)
    }
    var generations: [GenerationsReport.Generation] = []
    let held = reaper.held().sorted { $0.number > $1.number }
    if let lease = context.ring.acquireAdmitted() {
      // Less ours.
      let count = context.ring.leases(lease.number) - 1
      generations.append(generation(lease.number, .published, lease.generation.madeNs, max(0, count)))
      context.ring.release(lease)
    }
    for held in held {
      generations.append(generation(held.number, held.isWedged ? .wedged : .draining, held.madeNs, held.leases))
    }
    let wedged = context.wedged.all.map {
      GenerationsReport.Wedged(
        slot: $0.instance.slot.name, plugin: $0.instance.image.id, version: $0.instance.image.version, call: $0.call,
        ageMs: GenerationsReport.milliseconds(since: $0.sinceNs, nowNs))
    }
    return GenerationsReport(generations: generations, wedged: wedged)
  }

  /// The bound port of a transport's listener; nil when there is none.
  public func port(slot: String, listener: String = "http") -> Int? {
    guard let lease = context.ring.acquireAdmitted() else { return nil }
    defer { context.ring.release(lease) }
    return lease.generation.instance(slot: slot)?.listeners[listener]?.port
  }

  public func receipts(last count: Int) -> [Receipt] { history.receipts(last: count) }

  /// The operator says that a backend's data is good as it is.
  public func acceptBehind(slot: String) -> Bool {
    guard context.behind.accept(slot) else { return false }
    if let lease = context.ring.acquireAdmitted() {
      lease.generation.instance(slot: slot)?.isBehind.store(false, ordering: .releasing)
      context.ring.release(lease)
    }
    context.log.notice("a backend that was behind has been accepted as it is", ["slot": slot])
    return true
  }

  /// What `backplane status` shows.
  public func status() -> Status {
    let name = last.withLock { $0?.node.name } ?? ""
    var notes = pastNotes
    notes += reaper.held().map {
      "generation \($0.number) is still held by \($0.leases) leases after \($0.ageMs) ms"
        + ($0.isWedged ? "; nobody waits for them any more" : "")
    }
    notes += context.wedged.all.map { "slot \($0.instance.slot.name): \($0.sentence)" }
    notes += OwnDescriptors.shared.alarms
    guard let lease = context.ring.acquireAdmitted() else {
      return Status(
        node: name, health: "unhealthy", generation: 0, uptimeMs: Clock.wallMs() - startedMs, slots: [], notes: notes)
    }
    defer { context.ring.release(lease) }
    let health = Health.of(lease.generation)
    let slots = zip(lease.generation.slots, health.slots).map { instance, health in
      Status.Slot(
        name: instance.slot.name, kind: instance.slot.kind.rawValue, plugin: instance.image.id,
        version: instance.image.version, content: instance.image.contentHash,
        generation: instance.bornGeneration.load(ordering: .relaxed), state: Health.name(health.state),
        message: health.message, inFlight: instance.inFlight.load(ordering: .relaxed),
        ports: instance.listeners.mapValues(\.port))
    }
    notes += health.slots.filter { !$0.message.isEmpty }.map {
      "slot \($0.name) is \(Health.name($0.state)): \($0.message)"
    }
    return Status(
      node: name, health: Health.name(health.state), generation: lease.generation.number,
      uptimeMs: Clock.wallMs() - startedMs, slots: slots, notes: notes)
  }

  /// Writes to the log what `status` shows, for when nobody can ask over the control socket. Any thread.
  public func logStatus() {
    let status = status()
    let log = context.log
    log.notice(
      "status",
      [
        "health": status.health, "generation": "\(status.generation)", "uptime_ms": "\(status.uptimeMs)",
        "slots": "\(status.slots.count)",
      ])
    for slot in status.slots {
      log.notice(
        "status of a slot",
        [
          "slot": slot.name, "plugin": slot.plugin, "version": slot.version, "generation": "\(slot.generation)",
          "state": slot.state, "in_flight": "\(slot.inFlight)", "reason": slot.message,
        ])
    }
    for note in status.notes { log.notice("status", ["note": note]) }
  }

  public struct Status: Codable, Sendable {
    public struct Slot: Codable, Sendable {
      public var name: String
      public var kind: String
      public var plugin: String
      public var version: String
      /// SHA-256 of the file that serves.
      public var content: String
      /// The generation that first published it.
      public var generation: UInt64
      public var state: String
      public var message: String
      public var inFlight: Int
      public var ports: [String: Int]

      enum CodingKeys: String, CodingKey {
        case name, kind, plugin, version, content, generation, state, message, ports
        case inFlight = "in_flight"
      }
    }

    public var node: String
    public var health: String
    public var generation: UInt64
    public var uptimeMs: UInt64
    public var slots: [Slot]
    public var notes: [String]

    enum CodingKeys: String, CodingKey {
      case node, health, generation, slots, notes
      case uptimeMs = "uptime_ms"
    }
  }
}
