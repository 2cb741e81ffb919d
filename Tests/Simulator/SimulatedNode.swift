#if SIMULATION
import BackplaneABI
import Glibc
import SimulatedSystem

@testable import Kernel

/// A node of the simulation: the kernel's parts wired as `Kernel` wires them, without files, sockets and processes.
final class SimulatedNode: @unchecked Sendable {
  // @unchecked: of the threads of a simulation one runs at a time.

  // nonisolated(unsafe): one for each process; the plugins' C functions find it here.
  nonisolated(unsafe) static var running: SimulatedNode!

  let style: Style
  let shelf: Shelf
  let ledger = Ledger()
  let calls = OpenCalls()
  let kernel: KernelContext
  let reaper: Reaper
  private(set) var reconciler: Reconciler!
  private(set) var invariants: Invariants!
  private var queue: ReloadQueue!

  var plugins: [SimulatedPlugin] = []
  var requests: [Request] = []
  var answers: [String: Int] = [:]
  /// The instances of each generation, by handle.
  private(set) var generations: [UInt64: [bp_instance]] = [:]
  var disk: [String: Int] = [:]
  var diskOwner: SimulatedDisk?
  /// What the last reload has seen of the shelf.
  var cataloguedVersion = 0
  /// An operator said so for the reload that runs.
  private(set) var mayLoseState = false
  /// Behind a fence the rest of a slot's state moves, and nobody has given that up.
  var isMovingRest = false
  private(set) var isReloading = false
  var isEnding = false
  /// Set at the end: until then whoever hangs does.
  let hungRelease = Promise<Bool>()
  /// At the end a generation was held by calls that plugins were slow to complete.
  private(set) var hasOverdue = false
  /// How often a plugin's function did not come back.
  var hangs = 0
  /// Operators that wait for a receipt.
  private(set) var operators = 0
  private(set) var receipts = 0

  init(_ style: Style) {
    self.style = style
    shelf = Shelf(style)
    let configuration = shelf.configuration()
    kernel = KernelContext(
      log: KernelLog(configuration.node.log, journal: nil, descriptor: -1), repairs: RepairRegistry(directory: ""))
    reaper = Reaper(kernel)
  }

  func start() {
    SimulatedNode.running = self
    invariants = Invariants(self)
    let configuration = shelf.configuration()
    reconciler = Reconciler(
      kernel, SimulatedWorld(kernel, reaper, self),
      ReceiptKeeper(kernel, History(stateDirectory: "/dev/null", limit: 10)))
    let receipt = reconciler.reconcile(
      Reconciler.Request(trigger: "start", configuration: .success(configuration), now: ["*"]))
    noteGeneration()
    isUp = receipt.outcome == .applied
    queue = ReloadQueue { [unowned self] job in run(job) }
  }

  private(set) var isUp = false

  func noteGeneration() {
    guard let published = reconciler.published else { return }
    generations[published.number] = published.slots.map(\.handle)
    Report.trace("generation \(published.number) is published")
    for instance in published.slots { (plugin(of: instance) as? SimulatedMemory)?.published() }
  }

  func plugin(of instance: Instance?) -> SimulatedPlugin? { plugins.last { $0.instance === instance } }

  /// A transport that clients are connected to.
  func transport() -> bp_instance? {
    let serving = plugins.filter { ($0 as? SimulatedTransport)?.serves ?? false }
    return serving.isEmpty ? nil : Dice.pick(serving).handle
  }

  // MARK: The reload thread (Kernel.run)

  private func run(_ job: ReloadQueue.Job) -> UInt64 {
    isReloading = true
    defer { isReloading = false }
    let before = reconciler.published?.slots ?? []
    let wasPublished = reconciler.published != nil
    switch job {
    case .reload(let asked):
      Report.trace("reload: \(asked.triggers)")
      mayLoseState = asked.losesState
      Pause.some(self)
      let configuration = shelf.configuration()
      let receipt = reconciler.reconcile(
        Reconciler.Request(
          trigger: asked.triggers.joined(separator: ", "), configuration: .success(configuration), now: asked.now,
          losesState: asked.losesState, retries: asked.retries))
      mayLoseState = false
      invariants.reloaded(receipt, before, wasPublished: wasPublished)
      receipts += 1
      if let recheckMs = reconciler.recheckMs { queue.hint(Reconciler.pluginsTrigger, afterMs: recheckMs) }
      for promise in asked.waiting { promise.set(receipt) }
    case .rollBack(let asked):
      Report.trace("roll back \(asked.slots ?? [])")
      let receipt = reconciler.rollBack(Reconciler.RollbackRequest(trigger: "control", slots: asked.slots))
      invariants.reloaded(receipt, before, wasPublished: wasPublished)
      receipts += 1
      asked.promise.set(receipt)
    case .upgrade: preconditionFailure("nothing in a simulation asks for another process")
    case .propose: preconditionFailure("nothing in a simulation proposes a configuration")
    case .tick:
      if let receipt = reconciler.judgeTrials() {
        invariants.reloaded(receipt, before, wasPublished: wasPublished)
        receipts += 1
      }
    }
    return reconciler.isOnProbation ? Clock.monotonicNs() + 100_000_000 : 0
  }

  // MARK: What operators do

  func hint() {
    if Defect.present == .lostHint, Dice.percent(80) { return }
    Report.trace("hint")
    queue.hint(Dice.percent(50) ? Reconciler.pluginsTrigger : Reconciler.configurationTrigger)
  }

  func hintLater() { queue.hint(Reconciler.pluginsTrigger, afterMs: Dice.below(500)) }

  /// Asks and waits, on a thread of its own.
  func operate(_ body: @escaping @Sendable (ReloadQueue) -> Receipt?) {
    operators += 1
    let thread = Thread.start(name: "operator") { [self] in
      let receipt = body(queue)
      Report.require(receipt != nil || isEnding, "an operator got no receipt from a node that is up")
      operators -= 1
    }
    pthread_detach(thread!)
  }

  func reload(_ trigger: String) -> Receipt? { queue.reload(trigger) }

  // MARK: The end (Kernel.shutDown)

  func shutDown(timeoutMs: Int) -> Bool {
    isEnding = true
    Report.trace("shut down")
    queue.shutDown()
    let deadlineNs = Clock.monotonicNs() + UInt64(timeoutMs) * 1_000_000
    reaper.apply(
      Reaper.Limits(
        drainSoftMs: min(timeoutMs / 2, 1000), drainHardMs: timeoutMs / 2, stopMs: timeoutMs / 2,
        cancelGraceMs: timeoutMs / 4))
    reconciler.shutDown()
    _ = reaper.drain(untilNs: deadlineNs)
    let isClean = reaper.drain(untilNs: Clock.monotonicNs() + 2_000_000_000)
    if !isClean {
      let held = reaper.held()
      hasOverdue = held.contains(where: \.isWedged)
      Report.trace("left: \(held) \(GenerationsReport.leases(kernel).mapValues { $0.map(\.text) })")
    }
    reaper.shutDown()
    kernel.shutDown()
    return isClean
  }
}
#endif
