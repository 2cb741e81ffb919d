import ListQuery
import Synchronization

/// What instances and requests need of the kernel: one for each kernel, made before the first instance.
final class KernelContext: Sendable {
  let ring = GenerationRing()
  let requests: RequestTable
  let log: KernelLog
  let repairs: RepairRegistry
  let peers: PeerRegistry
  /// Of writes to several backends.
  let writeOrder: WriteOrder
  /// Accepted messages, for whoever subscribes.
  let feed = Feed()
  let quarantine: Quarantine
  let wedged = WedgedInstances()
  let versions = VersionClock()
  /// Threads for what must not run on a caller's: long scans, deep nesting, direct operations that were demoted.
  let workers: WorkerPool
  /// Messages that are being judged, by the token of the judgement, so that a validator's reads see them.
  let judgements = Judgements()
  /// Configurations that services propose, on their way to the reload thread.
  let proposals = ProposalDesk()

  let timers = Timers()
  /// The node's own operations, counted.
  let operations = NodeOperations()

  /// What is parked while a slot is handed over, and where requests wait that begin meanwhile.
  let lot: ParkingLot
  let door: Door

  /// Most calls open in one instance: what a new instance admits.
  let inFlightMax = Atomic<Int>(4096)
  /// The longest a request waits while a slot is handed over.
  let parkTimeoutNs = Atomic<UInt64>(10_000_000_000)
  /// The longest a request may take; the deadline of one that brings none.
  let requestTimeoutNs = Atomic<UInt64>(30_000_000_000)
  let uriSizeBytesMax = Atomic<Int>(8192)
  /// Bytes of one record's data, whatever transport brings it.
  let bodySizeBytesMax = Atomic<Int>(16 << 20)
  let listPageRecordsMax = Atomic<Int>(10_000)
  let readMultiMax = Atomic<Int>(50)
  /// What one list may use, and how often lists needed more, by the setting's key.
  let listBounds = Mutex(ListBounds())
  let listRefusals = Mutex<[String: UInt64]>([:])
  /// How isolated plugins are kept alive: for those that are made from now on.
  let isolation = Mutex(IsolationSettings(hostExecutable: IsolationSettings.besideThisExecutable))
  /// Slots that are compared with their predecessor.
  let slotsOnProbation = Atomic<Int>(0)
  /// What the reloads came to.
  let reloadCounts = Mutex(ReloadCounts())
  /// Writes that a backend missed though they were acknowledged.
  let missedWrites = Atomic<UInt64>(0)

  init(
    log: KernelLog, repairs: RepairRegistry, peers: PeerRegistry = PeerRegistry(directory: ""),
    quarantine: Quarantine = Quarantine(directory: "")
  ) {
    self.peers = peers
    self.quarantine = quarantine
    self.log = log
    self.repairs = repairs
    requests = RequestTable(timers)
    lot = ParkingLot()
    door = Door(lot)
    workers = WorkerPool(name: "bp-workers", threads: 2, queueMax: 65_536)
    writeOrder = WriteOrder(workers)
  }

  func apply(_ node: NodeConfiguration) {
    let limits = node.limits
    log.apply(node.log)
    parkTimeoutNs.store(UInt64(node.reload.parkTimeoutMs) * 1_000_000, ordering: .relaxed)
    inFlightMax.store(limits.inFlightPerSlotMax, ordering: .relaxed)
    lot.max.store(limits.parkedRequestsMax, ordering: .relaxed)
    requestTimeoutNs.store(UInt64(limits.requestTimeoutMs) * 1_000_000, ordering: .relaxed)
    uriSizeBytesMax.store(limits.uriSizeBytesMax, ordering: .relaxed)
    bodySizeBytesMax.store(limits.bodySizeBytesMax, ordering: .relaxed)
    listPageRecordsMax.store(limits.listPageRecordsMax, ordering: .relaxed)
    readMultiMax.store(limits.batchMessagesMax, ordering: .relaxed)
    listBounds.withLock {
      $0 = ListBounds(
        sortRecordsMax: limits.listSortRecordsMax, sortBytesMax: limits.listSortSizeBytesMax,
        patternTime_ms: limits.listPatternTimeMs)
    }
    repairs.journalSizeBytesMax.store(node.repair.journalSizeBytesMax, ordering: .relaxed)
    repairs.batchUnitsMax.store(node.repair.batchUnitsMax, ordering: .relaxed)
    peers.apply(node.slots, log)
    feed.apply(FeedSettings(node.feed))
  }

  func apply(_ new: NodeConfiguration.Isolation, startTimeoutMs: Int) {
    isolation.withLock { settings in
      settings = IsolationSettings(hostExecutable: settings.hostExecutable, new, startTimeoutMs: startTimeoutMs)
    }
  }

  func shutDown() {
    let deadlineNs = Clock.monotonicNs() + KernelContext.shutDownNs
    requests.shutDown(untilNs: deadlineNs)
    if !feed.shutDown(untilNs: deadlineNs) {
      log.error("the feed's thread is left behind: a plugin's call on it did not come back")
    }
    if !peers.shutDown(untilNs: deadlineNs) {
      log.error("a thread that sends to a peer is left behind: a plugin's call on it did not come back")
    }
    if !repairs.shutDown(untilNs: deadlineNs) {
      log.error("a repair is left behind: a plugin's call on its thread did not come back")
    }
    if !workers.shutDown(untilNs: deadlineNs) {
      log.error("a thread of the kernel's is left behind: a plugin's call on it did not come back")
    }
  }

  /// How long a thread of the kernel's may take to end: plugins' code runs on it.
  private static let shutDownNs: UInt64 = 2_000_000_000
}

/// A time that one thread writes and another reads; CLOCK_MONOTONIC, 0 for none.
final class BeatTime: Sendable {
  let value = Atomic<UInt64>(0)
}

/// Numbers for writes, unique and rising within a node, also over a restart as long as the clock does not jump back: the
/// wall clock in milliseconds, shifted, with a counter in the low bits.
///
/// A kernel and the one that takes its place both give numbers for a while: the lowest bits tell them apart.
final class VersionClock: Sendable {
  private static let lanes: UInt64 = 16
  private let last = Atomic<UInt64>(0)
  private let lane = Atomic<UInt64>(0)

  /// The lane of the kernel that comes after this one.
  var nextLane: UInt64 { (lane.load(ordering: .relaxed) + 1) % VersionClock.lanes }

  /// Before the first number is given.
  func take(lane: UInt64) { self.lane.store(lane % VersionClock.lanes, ordering: .relaxed) }

  func next(nowMs: UInt64) -> UInt64 {
    var seen = last.load(ordering: .relaxed)
    while true {
      let next = max(nowMs << 20 | lane.load(ordering: .relaxed), seen + (seen == 0 ? 0 : VersionClock.lanes))
      let (exchanged, now) = last.compareExchange(expected: seen, desired: next, ordering: .relaxed)
      if exchanged { return next }
      seen = now
    }
  }
}

/// What the reloads came to, for metrics and status.
struct ReloadCounts: Sendable {
  var outcomes: [String: UInt64] = [:]
  var lastSuccessMs: UInt64 = 0
  var retainedImages = 0
  var retainedImageBytes = 0
  var heldGenerations = 0
  var wedgedInstances: UInt64 = 0
  /// Upgrades of the kernel, by outcome.
  var upgrades: [String: UInt64] = [:]
}
