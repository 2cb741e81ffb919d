import Glibc
import Synchronization

/// What has been asked of the reload thread and when it is due. Hints only set a flag here, so that any number of them
/// make one reload, and one that comes while a reload runs makes another: none is lost.
struct ReloadQueueState {
  struct Asked {
    var triggers: [String] = []
    var now: Set<String> = []
    var losesState = false
    var retries = false
    var waiting: [Promise<Receipt>] = []
  }

  struct AskedRollback {
    /// Nil: what the last publication replaced.
    var slots: [String]?
    var promise: Promise<Receipt>
  }

  struct AskedUpgrade {
    /// Nil: the executable that runs now.
    var executable: String?
    var promise: Promise<Receipt>
  }

  enum Job {
    case reload(Asked)
    case rollBack(AskedRollback)
    case upgrade(AskedUpgrade)
    /// What a service has proposed.
    case propose(PendingProposal)
    /// Nothing was asked: the time has come to look at what is on probation.
    case tick
  }

  private var asked: Asked?
  private var rollbacks: [AskedRollback] = []
  private var upgrades: [AskedUpgrade] = []
  private var proposals: [PendingProposal] = []
  /// The last job was a proposal: of those that wait, a reload comes next, so that neither keeps the other out.
  private var wasProposal = false
  /// Hints for later.
  private var timers: [(dueNs: UInt64, trigger: String)] = []
  private(set) var isClosed = false
  /// Another process has taken the node over: what was asked is asked there.
  private(set) var isHandedOver = false

  /// False when the queue is closed.
  mutating func ask(_ new: Asked) -> Bool {
    guard !isClosed else { return false }
    var asked = asked ?? Asked()
    for trigger in new.triggers where !asked.triggers.contains(trigger) { asked.triggers.append(trigger) }
    asked.now.formUnion(new.now)
    asked.losesState = asked.losesState || new.losesState
    asked.retries = asked.retries || new.retries
    asked.waiting += new.waiting
    self.asked = asked
    return true
  }

  mutating func ask(_ rollback: AskedRollback) -> Bool {
    guard !isClosed else { return false }
    rollbacks.append(rollback)
    return true
  }

  mutating func ask(_ upgrade: AskedUpgrade) -> Bool {
    guard !isClosed else { return false }
    upgrades.append(upgrade)
    return true
  }

  mutating func ask(_ proposal: PendingProposal) -> Bool {
    guard !isClosed else { return false }
    proposals.append(proposal)
    return true
  }

  /// A hint that is due later. Of several with one trigger the earliest counts.
  mutating func hint(_ trigger: String, dueNs: UInt64) {
    guard !isClosed else { return }
    if let index = timers.firstIndex(where: { $0.trigger == trigger }) {
      timers[index].dueNs = min(timers[index].dueNs, dueNs)
    } else {
      timers.append((dueNs, trigger))
    }
  }

  /// What is to be done now, or nil. `tickNs`: when to look at probations, 0 when there are none.
  mutating func take(nowNs: UInt64, tickNs: UInt64) -> Job? {
    if isClosed { return nil }
    for timer in timers where timer.dueNs <= nowNs { _ = ask(Asked(triggers: [timer.trigger])) }
    timers.removeAll { $0.dueNs <= nowNs }
    if !rollbacks.isEmpty { return .rollBack(rollbacks.removeFirst()) }
    if !upgrades.isEmpty { return .upgrade(upgrades.removeFirst()) }
    if !proposals.isEmpty, asked == nil || !wasProposal {
      wasProposal = true
      return .propose(proposals.removeFirst())
    }
    if let asked {
      self.asked = nil
      wasProposal = false
      return .reload(asked)
    }
    return tickNs != 0 && tickNs <= nowNs ? .tick : nil
  }

  /// When `take` has something to say without being asked; nil when never.
  func nextDueNs(tickNs: UInt64) -> UInt64? {
    let due = timers.map(\.dueNs) + (tickNs == 0 ? [] : [tickNs])
    return due.min()
  }

  /// Answers the proposals that nothing comes of any more.
  mutating func close() -> [PendingProposal] {
    isClosed = true
    defer { proposals = [] }
    return proposals
  }

  /// Closes it. Answers what has been asked and not been done.
  mutating func handOver() -> [Job] {
    isClosed = true
    isHandedOver = true
    let jobs =
      rollbacks.map { Job.rollBack($0) } + upgrades.map { .upgrade($0) } + proposals.map { .propose($0) }
      + (asked.map { [.reload($0)] } ?? [])
    (rollbacks, upgrades, proposals, asked, timers) = ([], [], [], nil, [])
    return jobs
  }
}

/// The reload thread: one job at a time.
final class ReloadQueue: @unchecked Sendable {
  // @unchecked: what is shared is under the lock; `thread` in init and shutDown only.
  typealias Job = ReloadQueueState.Job
  typealias Asked = ReloadQueueState.Asked

  private let state = Mutex(ReloadQueueState())
  private let wake = Mutex<Promise<Bool>>(Promise())
  private var thread: pthread_t?

  /// `run` runs on the queue's own thread, one at a time; it answers when it wants to be called with `tick`
  /// (CLOCK_MONOTONIC), or 0.
  init(_ run: @escaping @Sendable (Job) -> UInt64) {
    thread = Thread.start(name: "bp-reload") { [self] in
      var tickNs: UInt64 = 0
      while let job = next(tickNs) { tickNs = run(job) }
    }
  }

  /// Something may have changed. Returns at once; any thread.
  func hint(_ trigger: String) { _ = ask { $0.ask(Asked(triggers: [trigger])) } }

  /// A hint that is due later.
  func hint(_ trigger: String, afterMs: Int) {
    let dueNs = Clock.monotonicNs() + UInt64(afterMs) * 1_000_000
    _ = ask { state in
      state.hint(trigger, dueNs: dueNs)
      return true
    }
  }

  /// Reloads and waits for the receipt of a reload that began after this call; nil when the node is ending.
  func reload(_ trigger: String, now: Set<String> = [], losesState: Bool = false, retries: Bool = false) -> Receipt? {
    let promise = Promise<Receipt>()
    return wait(promise) {
      $0.ask(Asked(triggers: [trigger], now: now, losesState: losesState, retries: retries, waiting: [promise]))
    }
  }

  /// Rolls back and waits for the receipt; nil when the node is ending.
  func rollBack(_ slots: [String]?) -> Receipt? {
    let promise = Promise<Receipt>()
    return wait(promise) { $0.ask(ReloadQueueState.AskedRollback(slots: slots, promise: promise)) }
  }

  /// Takes a proposal, which is answered in its time; false when the node is ending. Returns at once; any thread.
  func propose(_ proposal: PendingProposal) -> Bool { ask { $0.ask(proposal) } }

  /// Replaces the process and waits for the receipt; nil when the node is ending.
  func upgrade(_ executable: String?) -> Receipt? {
    let promise = Promise<Receipt>()
    return wait(promise) { $0.ask(ReloadQueueState.AskedUpgrade(executable: executable, promise: promise)) }
  }

  /// Nothing more is done here. On the reload thread; answers what is left to be asked of the new process.
  func handOver() -> [Job] { state.withLock { $0.handOver() } }

  private func wait(_ promise: Promise<Receipt>, _ body: (inout ReloadQueueState) -> Bool) -> Receipt? {
    guard ask(body) else { return nil }
    while true {
      if let receipt = promise.get(untilNs: Clock.monotonicNs() + 100_000_000) { return receipt }
      // What was handed over is answered by the one who did.
      if state.withLock({ $0.isClosed && !$0.isHandedOver }) { return promise.get(untilNs: Clock.monotonicNs()) }
    }
  }

  private func ask(_ body: (inout ReloadQueueState) -> Bool) -> Bool {
    let accepted = state.withLock { body(&$0) }
    wake.withLock { $0.set(true) }
    return accepted
  }

  private func next(_ tickNs: UInt64) -> Job? {
    while true {
      let promise = wake.withLock { wake -> Promise<Bool> in
        wake = Promise()
        return wake
      }
      let (job, dueNs, isClosed) = state.withLock { state in
        (state.take(nowNs: Clock.monotonicNs(), tickNs: tickNs), state.nextDueNs(tickNs: tickNs), state.isClosed)
      }
      if let job { return job }
      if isClosed { return nil }
      if let dueNs { _ = promise.get(untilNs: dueNs) } else { _ = promise.get() }
    }
  }

  /// Waits for a reload that runs; nothing that is asked for later runs.
  func shutDown() {
    let left = state.withLock { $0.close() }
    for proposal in left { proposal.answerElsewhere(.ending) }
    wake.withLock { $0.set(true) }
    if let thread { pthread_join(thread, nil) }
    thread = nil
  }
}
