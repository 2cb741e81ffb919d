import BackplaneABI
import Foundation
import Synchronization
import SystemShims

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
  private let reread: @Sendable ([Proposal]) throws -> LoadedConfiguration
  private let watches = Mutex<Watches>(Watches())
  private let last = Mutex<LoadedConfiguration?>(nil)
  private let notifier: ServiceManager
  private var queue: ReloadQueue!
  /// Hints that came before the queue was there; nil once it is.
  private let earlyHints = Mutex<Set<String>?>([])
  private var control: ControlServer?
  /// Whose place this process has taken.
  private let arrival: Arrival?
  private let repairer: Repairer
  /// Who has taken this one's.
  private let departed = Mutex<Departure.Done?>(nil)

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
  ///   - reread: gives the configuration anew for each reload, with what services have proposed; any thread.
  ///   - probeExecutable: an executable whose main calls `ProbeChild.main` for `ProbeChild.argument`; the running one
  ///     unless a test says otherwise.
  ///   - servesControl: opens the control socket.
  ///   - arrival: a node that runs and whose place this one is to take.
  /// - Throws: `StartFailure` with everything that was refused; nothing is left running.
  public init(
    _ configuration: LoadedConfiguration, reread: @escaping @Sendable ([Proposal]) throws -> LoadedConfiguration,
    probeExecutable: String? = nil, servesControl: Bool = true,
    arrival: Arrival? = nil
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
      log: log, repairs: RepairRegistry(directory: directories.state + "/repair"),
      peers: PeerRegistry(directory: directories.state + "/peers"), quarantine: quarantine)
    repairer = Repairer(context)
    self.reread = reread
    ServiceManager.isSilent.store(arrival != nil, ordering: .releasing)
    notifier = ServiceManager()
    self.arrival = arrival
    history = History(stateDirectory: directories.state, limit: configuration.node.limits.historyReceiptsMax)
    reaper = Reaper(context)
    reloadingNs = BeatTime()
    watchdog = Watchdog(context, notifier, isAlive: Kernel.aliveness(context, reaper, reloadingNs))
    watchdog.apply(configuration.node.watchdog)
    let executable = probeExecutable ?? (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
    let prober = Prober(
      executable: executable ?? CommandLine.arguments[0], stateDirectory: directories.state,
      scratchParent: directories.state + "/scratch")
    let world = KernelWorld(context, reaper, prober)
    reconciler = Reconciler(context, world, ReceiptKeeper(context, history))
    if let arrival {
      try take(arrival, configuration, world)
      return
    }
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
    context.repairs.begin(repairer)
    context.peers.begin(context)
    startQueue()
    if servesControl { control = try ControlServer(path: directories.controlSocket, kernel: self) }
    notifier.ready(status: "generation \(context.ring.currentNumber)")
  }

  private func startQueue() {
    queue = ReloadQueue { [unowned self] job in run(job) }
    let early = earlyHints.withLock { hints -> Set<String>? in
      defer { hints = nil }
      return hints
    }
    for trigger in early ?? [] { queue.hint(trigger) }
    context.proposals.open { [queue = queue!] in queue.propose($0) }
    if let recheckMs = reconciler.recheckMs { queue.hint(Reconciler.pluginsTrigger, afterMs: recheckMs) }
  }

  // MARK: Taking the place of another process

  /// The other process' slots, built here; then everything that was its own.
  private func take(_ arrival: Arrival, _ configuration: LoadedConfiguration, _ world: KernelWorld) throws {
    // What the new transports accept waits until the state is here.
    context.door.shut(context.ring)
    let commit: UpgradeMessage.Commit
    let running: LoadedConfiguration
    do throws(Refusal) {
      let (welcome, descriptors) = try arrival.begin(configuration)
      let read = welcome.proposals.isEmpty ? configuration : (try? reread(welcome.proposals)) ?? configuration
      running = LoadedConfiguration(
        node: welcome.node, values: read.values, warnings: read.warnings, files: read.files,
        watchedDirectories: read.watchedDirectories, proposals: welcome.proposals)
      context.apply(welcome.node)
      context.versions.take(lane: welcome.versionLane)
      commit = try arrival.take(welcome, descriptors, context, world) { instances throws(Refusal) in
        try reconciler.arrive(instances, welcome, running)
      }
    } catch {
      let transaction = ReloadTransaction(nowNs: Clock.monotonicNs(), refusals: [Receipt.Refused(slot: nil, error)])
      shutDownParts()
      throw StartFailure(receipt: reconciler.receipt(Kernel.upgradeTrigger, .refused, from: 0, transaction))
    }
    context.door.open(context.ring, context.workers)
    let generation = reconciler.published!
    commit.counters.add(to: context, generation)
    context.reloadCounts.withLock { $0.upgrades[Receipt.Outcome.applied.rawValue, default: 0] += 1 }
    for instance in generation.slots { for listener in instance.listeners.values { listener.wasTakenOver() } }
    history.reread()
    last.withLock { $0 = running }
    startQueue()
    watch(running)
    if let socket = arrival.control {
      control = try ControlServer(path: running.node.directories.controlSocket, kernel: self, adopting: socket)
    }
    var receipt = commit.receipt
    receipt.id = history.nextID
    receipt.generation = generation.number
    keep(receipt)
    ServiceManager.isSilent.store(false, ordering: .releasing)
    notifier.ready(status: "generation \(generation.number): taken over from the process before")
    ServiceNotice.tellReady(generation.slots, timeoutMs: running.node.reload.startTimeoutMs)
    // Until then the process before writes to its journals, and repairs.
    arrival.committed(receipt, context) { [context, repairer] in
      context.repairs.begin(repairer)
      context.peers.begin(context)
    }
    // What has changed since, or could not be taken there.
    queue.hint(Reconciler.pluginsTrigger, afterMs: commit.isReloadComing ? Kernel.comingReloadMs : 100)
  }

  /// How long a new process waits for the reload that made it necessary before it looks by itself.
  private static let comingReloadMs = 5000

  static let upgradeTrigger = "upgrade"
  static let imageLimitTrigger = "limits.retained_images_max"

  private func keep(_ receipt: Receipt) {
    if let problem = history.add(receipt) {
      context.log.warning("the receipt could not be written", ["reason": problem])
    }
    for refusal in receipt.refusals {
      context.log.warning(
        "upgrade refused", ["code": refusal.code, "reason": refusal.message, "receipt": "\(receipt.id)"])
    }
    context.log.notice(
      "upgrade",
      [
        "receipt": "\(receipt.id)", "trigger": receipt.trigger, "outcome": receipt.outcome.rawValue,
        "generation": "\(receipt.generation)", "duration_ms": "\(receipt.durationMs)",
      ])
  }

  // MARK: Another process takes this one's place

  /// Called once, on a thread of the kernel's, when another process has taken the node over: call `finishDeparture`.
  public let onDeparture = Mutex<(@Sendable () -> Void)?>(nil)

  /// Starts the node anew in another process, which takes everything over, and waits for the receipt; nil when the node
  /// is ending.
  ///
  /// - Parameter executable: what to run there; nil: what runs here, by its path.
  public func upgrade(_ executable: String?) -> Receipt? { queue.upgrade(executable) }

  public var isDeparted: Bool { departed.withLock { $0 != nil } }

  /// Hands a signal on to the process that has taken over.
  public func forward(signal: Int32) { departed.withLock { $0 }?.process.signal(signal) }

  private func upgrade(_ trigger: String, _ executable: String?, isReloadComing: Bool = false) -> Receipt {
    notifier.reloading()
    var transaction = ReloadTransaction(nowNs: Clock.monotonicNs())
    let before = context.ring.currentNumber
    let isDraining = arrival.map { self.isDraining($0, transaction.startNs) } ?? false
    do throws(Refusal) {
      let done = try Departure.run(
        context, reconciler, notifier, trigger: trigger, executable: executable, control: control?.descriptor,
        predecessors: isDraining ? arrival!.predecessors : 0, isReloadComing: isReloadComing, &transaction)
      depart(done)
      return done.receipt
    } catch {
      transaction.refusals = [Receipt.Refused(slot: nil, error)]
      let receipt = reconciler.receipt(trigger, .refused, from: before, transaction)
      context.reloadCounts.withLock { $0.upgrades[receipt.outcome.rawValue, default: 0] += 1 }
      keep(receipt)
      notifier.ready(status: "generation \(receipt.generation): upgrade refused")
      return receipt
    }
  }

  /// Whether processes before this one still drain. So many that there may be no more are waited for.
  private func isDraining(_ arrival: Arrival, _ nowNs: UInt64) -> Bool {
    let timeoutMs = last.withLock { $0?.node.reload.upgradeTimeoutMs } ?? 0
    let isFull = arrival.predecessors >= Departure.predecessorsMax
    return arrival.isAlone.get(untilNs: isFull ? nowNs + UInt64(timeoutMs) * 1_000_000 : 0) == nil
  }

  /// The other process serves: nothing new begins here.
  private func depart(_ done: Departure.Done) {
    for instance in reconciler.published?.slots ?? [] {
      for listener in instance.listeners.values { listener.wasHandedOver() }
    }
    departed.withLock { $0 = done }
    context.feed.close("the node goes on in another process: subscribe again")
    ServiceManager.isSilent.store(true, ordering: .releasing)
    control?.shutDown(isHandedOver: true)
    watches.withLock {
      $0.watch?.stop()
      $0 = Watches()
    }
    let left = queue.handOver()
    for job in left { ask(done, job) }
    // The others go on until what has begun here has ended; what acts by itself acts there now.
    reaper.beginQuiescing(
      (reconciler.published?.slots ?? []).filter { $0.service != nil && !Departure.isHandedOverLate($0) })
    for instance in reconciler.published?.slots ?? [] where Departure.isHandedOverLate(instance) {
      _ = reconciler.world.stop(instance)
      try? done.process.channel.send(.start(slot: instance.slot.name))
    }
    onDeparture.withLock { $0 }?()
  }

  /// What was asked of this process is asked of the one that has taken over.
  private func ask(_ done: Departure.Done, _ job: ReloadQueue.Job) {
    let (request, waiting): ([String: Any], [Promise<Receipt>])
    switch job {
    case .reload(let asked):
      request = [
        "command": "reload", "now": Array(asked.now), "lose_state": asked.losesState, "retry": asked.retries,
      ]
      waiting = asked.waiting
    case .rollBack(let asked):
      request = ["command": "rollback"].merging(asked.slots.map { ["slots": $0] } ?? [:]) { $1 }
      waiting = [asked.promise]
    case .upgrade(let asked): return asked.promise.set(done.receipt)
    case .propose(let pending): return pending.answerElsewhere(.departed)
    case .tick: return
    }
    guard !waiting.isEmpty, let path = last.withLock({ $0?.node.directories.controlSocket }) else { return }
    let line = (try? JSONSerialization.data(withJSONObject: request)) ?? Data()
    let thread = Thread.start(name: "bp-forward") { [context] in
      let answer = ControlForward.ask(line, socket: path)
      let receipt = answer.flatMap { ControlForward.receipt($0) }
      if receipt == nil { context.log.warning("what was asked before the upgrade got no answer after it") }
      for promise in waiting { promise.set(receipt ?? done.receipt) }
    }
    if let thread { pthread_detach(thread) } else { for promise in waiting { promise.set(done.receipt) } }
  }

  /// Answers a line that came over the control socket after the upgrade.
  func forward(_ line: [UInt8]) -> Data? {
    guard isDeparted, let path = last.withLock({ $0?.node.directories.controlSocket }) else { return nil }
    return ControlForward.ask(Data(line), socket: path)
  }

  /// Ends what has begun here, within the limits of a drain, and becomes the shepherd if there is to be one. Returns when
  /// the process is to end with status 0.
  public func finishDeparture() {
    guard let done = departed.withLock({ $0 }) else { return }
    watchSuccessor(done)
    queue.shutDown()
    let reload = last.withLock { $0?.node.reload }
    let hardNs = Clock.monotonicNs() + UInt64(reload?.drainHardMs ?? 300_000) * 1_000_000
    // Whoever came before still uses what is here.
    _ = arrival?.isAlone.get(untilNs: hardNs)
    endSlots(pushingUntilNs: Clock.monotonicNs() + UInt64(Kernel.pushGraceMs) * 1_000_000)
    _ = reaper.drain(untilNs: hardNs + UInt64(Kernel.endGraceMs) * 1_000_000)
    control?.waitUntilAnswered(untilNs: hardNs)
    shutDownParts()
    guard let end = done.line?.firstEnd else { return }
    var current = done.process.pid
    Shepherd.follow(end, &current)
    Shepherd.become(end, current: current, executable: ProcessOrigin.current?.executable ?? "/proc/self/exe")
  }

  /// When the process that has taken over ends, there is nothing left that this one is good for.
  private func watchSuccessor(_ done: Departure.Done) {
    let thread = Thread.start(name: "bp-successor") {
      var (signal, status): (Int32, Int32) = (0, 0)
      guard bp_shim_pidfd_peek(done.process.descriptor, &signal, &status) == 0 else { return }
      var current = done.process.pid
      if let end = done.line?.firstEnd { Shepherd.follow(end, &current) }
      // It waits for this one before it goes: it has crashed, or was told to end.
      _exit(signal == 0 ? status : 128 + signal)
    }
    if let thread { pthread_detach(thread) }
  }

  /// Calls `body` when the shepherd is gone: nobody is left who could end this process. Once at most.
  public func whenAbandoned(_ body: @escaping @Sendable () -> Void) {
    guard arrival != nil, let line = ProcessOrigin.current?.shepherdDescriptor else { return }
    let thread = Thread.start(name: "bp-shepherd") {
      // A first process that dies before it is the shepherd leaves the node to itself.
      guard bp_shim_wait_hang_up(line, true) == 0 else { return }
      if bp_shim_wait_hang_up(line, false) == 1 { body() }
    }
    if let thread { pthread_detach(thread) }
  }

  // MARK: Reloads

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
        directories: node.pluginDirectories, extraPaths: node.slots.compactMap(\.pluginPath),
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
      reconciler.mayWantUpgrade = ProcessOrigin.current != nil
      do {
        var receipt = reload(asked, notes: [])
        if reconciler.isUpgradeWanted {
          let upgraded = upgrade(Kernel.imageLimitTrigger, nil, isReloadComing: !asked.waiting.isEmpty)
          if let done = departed.withLock({ $0 }) {
            ask(done, job)
            return 0
          }
          reconciler.mayWantUpgrade = false
          receipt = reload(asked, notes: upgraded.refusals.map(\.message))
        }
        for promise in asked.waiting { promise.set(receipt) }
      }
    case .rollBack(let asked):
      asked.promise.set(
        reconciler.rollBack(Reconciler.RollbackRequest(trigger: "control", slots: asked.slots)))
    case .upgrade(let asked): asked.promise.set(upgrade(Kernel.upgradeTrigger, asked.executable))
    case .propose(let pending): propose(pending)
    case .tick: _ = reconciler.judgeTrials()
    }
    if isDeparted { return 0 }
    return reconciler.isOnProbation ? Clock.monotonicNs() + Kernel.probationTickNs : 0
  }

  private func reload(_ asked: ReloadQueue.Asked, notes: [String]) -> Receipt {
    let loaded = Result { try reread(reconciler.configuration?.proposals ?? []) }
    return reconcile(
      Reconciler.Request(
        trigger: asked.triggers.joined(separator: ", "), configuration: loaded, now: asked.now,
        losesState: asked.losesState, retries: asked.retries, notes: notes))
  }

  /// What a service has proposed, and its answer.
  private func propose(_ pending: PendingProposal) {
    guard !pending.isAnswered else { return }
    let run = ProposalRun(pending: pending, reconciler: reconciler, reread: reread)
    switch run.begin() {
    case .refused(let answer): pending.answerElsewhere(answer)
    case .stale(let answer):
      queue.hint(Reconciler.configurationTrigger)
      pending.answerElsewhere(answer)
    case .request(var request, let isOwnFault):
      reconciler.mayWantUpgrade = ProcessOrigin.current != nil
      var receipt = reconcile(request)
      if reconciler.isUpgradeWanted {
        let upgraded = upgrade(Kernel.imageLimitTrigger, nil)
        if isDeparted { return pending.answerElsewhere(.departed) }
        reconciler.mayWantUpgrade = false
        request.notes += upgraded.refusals.map(\.message)
        receipt = reconcile(request)
      }
      pending.answerElsewhere(run.answer(receipt, wasTaken: reconciler.wasTaken, isOwnFault: isOwnFault))
    }
  }

  private func reconcile(_ request: Reconciler.Request) -> Receipt {
    notifier.reloading()
    let receipt = reconciler.reconcile(request)
    if reconciler.isUpgradeWanted { return receipt }
    if let recheckMs = reconciler.recheckMs { queue.hint(Reconciler.pluginsTrigger, afterMs: recheckMs) }
    if let configuration = reconciler.configuration {
      last.withLock { $0 = configuration }
      watchdog.apply(configuration.node.watchdog)
      watch(configuration, besides: wantedDirectories(request.configuration))
    }
    notifier.ready(status: "generation \(receipt.generation): \(receipt.outcome.rawValue)")
    return receipt
  }

  private func hinted(_ trigger: String) {
    let isEarly = earlyHints.withLock { $0?.insert(trigger) != nil }
    if !isEarly { queue.hint(trigger) }
  }

  /// What a configuration names that may have been refused: the file that puts it right may come there.
  private func wantedDirectories(_ loaded: Result<LoadedConfiguration, any Error>) -> [String] {
    switch loaded {
    case .success(let configuration): configuration.watchedDirectories
    case .failure(let error): (error as? ConfigurationError)?.watchedDirectories ?? []
    }
  }

  /// Watches what the configuration names; left alone when that has not changed.
  private func watch(_ configuration: LoadedConfiguration, besides wanted: [String] = []) {
    guard configuration.node.reload.watch else {
      return watches.withLock { watches in
        watches.watch?.stop()
        watches = Watches()
      }
    }
    let named = configuration.node.pluginDirectories + configuration.watchedDirectories
    let directories = named + wanted.filter { !named.contains($0) }
    let plugins = Set(configuration.node.pluginDirectories)
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

  /// How long what waits for peers in memory is still sent.
  private static let pushGraceMs = 2000

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
    queue.shutDown()
    guard !isDeparted else {
      // It was being replaced just then: the end is for the process that has taken over.
      forward(signal: SIGTERM)
      finishDeparture()
      return true
    }
    let beginNs = Clock.monotonicNs()
    let deadlineNs = beginNs + UInt64(timeoutMs) * 1_000_000
    // Everything still serves.
    ServiceNotice.tellEnding(
      reconciler.published?.slots ?? [], untilNs: beginNs + UInt64(timeoutMs / 4) * 1_000_000)
    control?.shutDown()
    control = nil
    let timeoutMs = timeoutMs - Int((Clock.monotonicNs() - beginNs) / 1_000_000)
    // No successor serves here: idle connections need not be kept for long.
    reaper.apply(
      Reaper.Limits(
        drainSoftMs: min(timeoutMs / 2, Kernel.idleGraceMs), drainHardMs: timeoutMs / 2, stopMs: timeoutMs / 2,
        cancelGraceMs: timeoutMs / 4))
    endSlots(pushingUntilNs: Clock.monotonicNs() + UInt64(min(timeoutMs / 4, Kernel.pushGraceMs)) * 1_000_000)
    let isClean = reaper.drain(untilNs: deadlineNs)
    shutDownParts()
    return isClean
  }

  /// Everything that is published retires, peers last: what waits for them in memory is sent as long as they take it.
  private func endSlots(pushingUntilNs deadlineNs: UInt64) {
    let last = context.ring.acquireAdmitted()
    reconciler.shutDown()
    context.peers.end(context, last, untilNs: deadlineNs)
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

  /// The operator says that a backend's data is good as it is, or that a peer needs nothing of what waits for it.
  public func acceptBehind(slot: String) -> Bool {
    let isDropped = context.peers.accept(slot)
    if isDropped { context.log.notice("what waited for a peer has been dropped", ["slot": slot]) }
    guard context.repairs.accept(slot) else { return isDropped }
    context.log.notice("a backend that was behind has been accepted as it is", ["slot": slot])
    return true
  }

  /// What `backplane status` shows.
  public func status() -> Status {
    let name = last.withLock { $0?.node.name } ?? ""
    let upgrades = context.reloadCounts.withLock { $0.upgrades }
    var notes = pastNotes
    notes += reaper.held().map {
      "generation \($0.number) is still held by \($0.leases) leases after \($0.ageMs) ms"
        + ($0.isWedged ? "; nobody waits for them any more" : "")
    }
    notes += context.wedged.all.map { "slot \($0.instance.slot.name): \($0.sentence)" }
    notes += OwnDescriptors.shared.alarms
    guard let lease = context.ring.acquireAdmitted() else {
      return Status(
        pid: getpid(), node: name, health: "unhealthy", generation: 0, uptimeMs: Clock.wallMs() - startedMs, slots: [],
        notes: notes,
        upgrades: upgrades)
    }
    defer { context.ring.release(lease) }
    let health = Health.of(lease.generation)
    let proposing = proposing()
    let slots = zip(lease.generation.slots, health.slots).map { instance, health in
      Status.Slot(
        name: instance.slot.name, kind: instance.slot.kind.rawValue, plugin: instance.image.id,
        version: instance.image.version, content: instance.image.contentHash,
        generation: instance.bornGeneration.load(ordering: .relaxed), state: Health.name(health.state),
        message: health.message, inFlight: instance.inFlight.load(ordering: .relaxed),
        ports: instance.listeners.mapValues(\.port), repair: instance.isBehind ? instance.backlog.report : nil,
        proposing: proposing[instance.slot.name], peer: context.peers.report(of: instance.slot))
    }
    notes += context.repairs.reports.filter { lease.generation.instance(slot: $0.slot) == nil }.map {
      "no slot '\($0.slot)' serves, and its repair journal has \($0.report.units) writes for it; "
        + "`backplane backend accept \($0.slot)` drops them"
    }
    notes += context.peers.reports.filter { queue in !lease.generation.pushQueues.contains { $0.slot == queue.slot } }
      .map {
        "no peer '\($0.slot)' is pushed to, and \($0.report.units) messages wait for it; "
          + "`backplane backend accept \($0.slot)` drops them"
      }
    notes += health.slots.filter { !$0.message.isEmpty }.map {
      "slot \($0.name) is \(Health.name($0.state)): \($0.message)"
    }
    return Status(
      pid: getpid(), node: name, health: Health.name(health.state), generation: lease.generation.number,
      uptimeMs: Clock.wallMs() - startedMs, slots: slots, notes: notes, upgrades: upgrades,
      feed: context.feed.isActive ? context.feed.status : nil)
  }

  /// The slots that may propose a configuration, and what is in place of theirs.
  private func proposing() -> [String: Status.Slot.Proposing] {
    guard let loaded = last.withLock({ $0 }) else { return [:] }
    var proposing: [String: Status.Slot.Proposing] = [:]
    for slot in loaded.node.slots where slot.mayPropose {
      let proposal = loaded.proposals.first { $0.slot == slot.name }
      proposing[slot.name] = Status.Slot.Proposing(
        isInPlace: proposal != nil, receipt: proposal?.receipt, at: proposal?.at)
    }
    return proposing
  }

  /// What `backplane config show --running` shows: the values that the node runs with, and where they came from.
  public func values() -> [EffectiveValue] { last.withLock { $0?.values ?? [] } }
}
