import BackplaneABI
import Synchronization

/// A plugin's instance, as the kernel holds it: its tables, its counters, its state.
final class Instance: @unchecked Sendable {
  // @unchecked: `plugin` and the kind tables are written by the control thread before the instance is published and
  // only read afterwards; everything else is atomic or under a lock.

  /// core.h, "Life cycle".
  enum State: Int, Sendable {
    case created, configured, serving, quiesced
    /// It makes no call any more; those that it has made are being ended.
    case stopping
    case stopped, destroyed
    /// A life-cycle function did not come back: never called again, its memory and threads are written off.
    case wedged
  }

  let handle: bp_instance
  let slot: SlotConfiguration
  let image: Image
  let kernel: KernelContext
  /// The generation that first published it; 0 before.
  let bornGeneration = Atomic<UInt64>(0)

  /// Set when it runs in a process of its own, before `create`.
  var proxy: ProxyPlugin?
  private(set) var plugin: UnsafePointer<bp_plugin>?
  private(set) var backend: UnsafePointer<bp_backend>?
  /// backplane.backend.query/1, when it has that.
  private(set) var queries: UnsafePointer<bp_backend_query>?
  private(set) var schema: UnsafePointer<bp_schema>?
  private(set) var transport: UnsafePointer<bp_transport>?
  private(set) var service: UnsafePointer<bp_service>?
  /// backplane.state/1, when it has that.
  private(set) var stateTable: UnsafePointer<bp_state>?
  /// `bp_plugin.self`.
  private(set) var pointer: UnsafeMutableRawPointer?

  /// Calls open in the plugin.
  let inFlight = Atomic<Int>(0)
  /// Calls are submitted while fewer are open. 0: none any more, the instance is on its way out and whoever still comes
  /// with an old lease goes to the published generation (`Admission`).
  let admissionMax: Atomic<Int>
  /// An export of its state is open.
  let isExporting = Atomic<Bool>(false)
  /// Threads of the kernel's that are in it, or on their way: those of a handover, and of notices to a service.
  let stateCalls = Atomic<Int>(0)
  /// A service has been told that the node serves.
  let wasToldReady = Atomic<Bool>(false)
  /// The way in for writes, of an instance whose state can move to a successor.
  private(set) var fence: Fence?
  /// Calls the plugin has open in the host; it is not destroyed before they have been completed.
  let outgoing = Atomic<Int>(0)
  /// Those among them that are timers.
  let timers = Atomic<Int>(0)
  let statistics = Statistics()
  /// Completions that named an unknown, finished or foreign token; the last one, CLOCK_MONOTONIC.
  let ignoredCompletions = Atomic<UInt64>(0)
  let lastIgnoredNs = Atomic<UInt64>(0)
  /// Threads that are stuck in it, and calls that it has not completed long after they were given up: the watchdog's.
  let stuckThreads = Atomic<Int>(0)
  let lostCalls = Atomic<Int>(0)
  /// Calls whose request was given up because its deadline had passed.
  let overdue = Atomic<UInt64>(0)
  let directness = Directness()
  let metrics = PluginMetrics()
  let logLimit = RateLimit(perSecond: 200)
  /// What its slot has missed of acknowledged writes; of a backend.
  let backlog: Backlog
  /// What came of asking it for records; of a peer.
  let pulls: PullRecord?
  /// Writes on their way to a backend that is not direct.
  let applyQueue = ApplyQueue()
  /// It missed an acknowledged write; reads go elsewhere while they can.
  var isBehind: Bool { backlog.isBehind }
  /// Generations that hold it; the reaper retires it at zero.
  let generations = Atomic<Int>(0)

  /// `quiesce` has been begun on a thread of its own; `quiesced` is set when it has ended, however.
  let hasBegunQuiescing = Atomic<Bool>(false)
  let quiesced = Promise<Bool>()

  private let stateWord = Atomic<Int>(State.created.rawValue)
  private let healthState = Mutex<(state: UInt32, message: String)>((BP_HEALTH_HEALTHY, ""))
  private struct Pools {
    var blocking: WorkerPool?
    /// One thread, because apply promises an order.
    var applying: WorkerPool?
  }
  private let pools = Mutex(Pools())
  /// The instance is on its way out: once, whoever asks for it.
  let isRetiring = Atomic<Bool>(false)
  private let lent: Mutex<[String: Listener]>
  /// Listening sockets lent to it, by the manifest's name; none once it is gone.
  var listeners: [String: Listener] { lent.withLock { $0 } }

  /// An instance is kept for a while after its end; a port that nobody else uses must be free before.
  func giveListenersBack() { lent.withLock { $0 = [:] } }

  init(handle: bp_instance, slot: SlotConfiguration, image: Image, kernel: KernelContext, listeners: [String: Listener])
  {
    self.handle = handle
    self.slot = slot
    self.image = image
    self.kernel = kernel
    lent = Mutex(listeners)
    backlog = kernel.repairs.backlog(slot.name)
    pulls = slot.peer?.pulls == true ? kernel.peers.record(slot.name) : nil
    admissionMax = Atomic(kernel.inFlightMax.load(ordering: .relaxed))
  }

  /// Whether one more call may be submitted.
  @inline(__always)
  var admits: Bool { inFlight.load(ordering: .relaxed) < admissionMax.load(ordering: .relaxed) }

  /// No call is submitted any more, whatever lease it comes with.
  @inline(__always)
  var isClosed: Bool { admissionMax.load(ordering: .sequentiallyConsistent) == 0 }

  func close() { admissionMax.store(0, ordering: .sequentiallyConsistent) }

  /// A changed `limits.in_flight_per_slot_max`.
  func admit(_ max: Int) {
    // Not by a plain store: an instance that was closed meanwhile stays so.
    var seen = admissionMax.load(ordering: .relaxed)
    while seen != 0 {
      let (exchanged, now) = admissionMax.compareExchange(expected: seen, desired: max, ordering: .relaxed)
      if exchanged { return }
      seen = now
    }
  }

  /// It is part of a published generation; the first one counts.
  func wasPublished(in number: UInt64) {
    guard bornGeneration.compareExchange(expected: 0, desired: number, ordering: .relaxed).exchanged else { return }
    MarkTable.shared.wasPublished(handle, in: number)
  }

  var state: State {
    get { State(rawValue: stateWord.load(ordering: .acquiring))! }
    set { stateWord.store(newValue.rawValue, ordering: .releasing) }
  }

  /// What it says of itself.
  var health: (state: UInt32, message: String) {
    get { healthState.withLock { $0 } }
    set { healthState.withLock { $0 = newValue } }
  }

  func adopt(_ plugin: UnsafePointer<bp_plugin>) {
    self.plugin = plugin
    // `.self` in Swift is the struct itself; the field of that name is read by its place.
    pointer = UnsafeRawPointer(plugin).load(fromByteOffset: 8, as: UnsafeMutableRawPointer?.self)
  }

  /// The programs of a schema; asked of the plugin once, by the reload thread, which alone reads it.
  private(set) lazy var programs = SlotBuild.programs(of: self)

  /// The kind tables, asked once after `configure`. Answers the kind that the plugin promised and does not have.
  func bindKinds() -> String? {
    func table<T>(_ id: StaticString, _ type: T.Type) -> UnsafePointer<T>? {
      let view = bp_view(data: id.utf8Start, size: UInt64(id.utf8CodeUnitCount))
      let table = ThreadMark.own.during(.extension, handle) { plugin?.pointee.extension(pointer, view) }
      return table?.assumingMemoryBound(to: type)
    }
    switch slot.kind {
    case .backend:
      backend = table("backplane.backend/1", bp_backend.self)
      queries = table("backplane.backend.query/1", bp_backend_query.self)
    case .schema: schema = table("backplane.schema/1", bp_schema.self)
    case .transport: transport = table("backplane.transport/1", bp_transport.self)
    case .service: service = table("backplane.service/1", bp_service.self)
    }
    stateTable = table("backplane.state/1", bp_state.self)
    if let stateTable, Int(stateTable.pointee.format_version) != image.manifest.stateVersion {
      return "backplane.state/1 of the manifest's state_version (it has format \(stateTable.pointee.format_version))"
    }
    switch slot.kind {
    case .backend:
      if stateTable != nil { fence = Fence(kernel.lot) }
      guard let backend else { return "backplane.backend/1" }
      directness.declare(.apply, backend.pointee.apply_mode)
      directness.declare(.read, backend.pointee.read_mode)
      directness.declare(.scan, backend.pointee.scan_mode)
      if let queries { directness.declare(.query, queries.pointee.mode) }
    case .schema:
      guard let schema else { return "backplane.schema/1" }
      directness.declare(.judge, schema.pointee.judge_mode)
    case .transport:
      if transport == nil { return "backplane.transport/1" }
    case .service:
      if service == nil { return "backplane.service/1" }
    }
    return nil
  }

  /// Operations that were declared direct and had to be demoted to threads.
  var demotedOperations: [Operation] {
    directness.demoted { operation in
      switch operation {
      case .apply: backend?.pointee.apply_mode ?? 0
      case .read: backend?.pointee.read_mode ?? 0
      case .scan: backend?.pointee.scan_mode ?? 0
      case .query: queries?.pointee.mode ?? 0
      case .judge: schema?.pointee.judge_mode ?? 0
      case .exportState, .importState, .nodeReady, .nodeEnding: BP_MODE_ASYNC
      }
    }
  }

  /// Threads for an operation that may block, made when first needed.
  func workers(_ operation: Operation) -> WorkerPool {
    pools.withLock { pools in
      let isOrdered = operation == .apply
      if let pool = isOrdered ? pools.applying : pools.blocking { return pool }
      let made = WorkerPool(name: "bp-\(slot.name)", threads: isOrdered ? 1 : 4, queueMax: 4096)
      if isOrdered { pools.applying = made } else { pools.blocking = made }
      return made
    }
  }

  /// It completed a call that was not open.
  func wasIgnored() {
    ignoredCompletions.add(1, ordering: .relaxed)
    lastIgnoredNs.store(Clock.monotonicNs(), ordering: .relaxed)
  }

  /// Joins the threads of `workers`. False when one is in a call that does not come back.
  func stopWorkers(untilNs deadlineNs: UInt64) -> Bool {
    let stopped = pools.withLock { pools in
      defer { pools = Pools() }
      return pools
    }
    let isBlockingDone = stopped.blocking?.shutDown(untilNs: deadlineNs) ?? true
    let isApplyingDone = stopped.applying?.shutDown(untilNs: deadlineNs) ?? true
    return isBlockingDone && isApplyingDone
  }

  /// The request of an open call was given up for `code`.
  func giveUp(_ token: bp_token, _ code: bp_code) {
    if code == BP_DEADLINE_EXCEEDED { overdue.add(1, ordering: .relaxed) }
    cancel(token)
  }

  func cancel(_ token: bp_token) {
    guard state == .serving || state == .quiesced else { return }
    guard let cancel = plugin?.pointee.cancel else { return }
    ThreadMark.own.during(.cancel, handle) { cancel(pointer, token) }
  }
}

/// How each data operation of an instance is called, and whether it keeps its promise not to block.
final class Directness: Sendable {
  /// core.h, "Modes": a direct call over 1 ms is counted, five within a minute demote the operation.
  static let slowCallNs: UInt64 = 1_000_000
  static let slowCallsMax = 5
  static let windowNs: UInt64 = 60_000_000_000
  /// The five must lie within so many calls: one in twenty.
  static let callsAmongMax: UInt64 = 100

  private let modes: [Mode]
  private struct SlowCall {
    let atNs: UInt64
    /// How many calls the operation had had by then.
    let calls: UInt64
  }
  private let slow = Mutex<[Int: [SlowCall]]>([:])
  let slowCalls = Atomic<UInt64>(0)

  final class Mode: Sendable {
    let mode = Atomic<UInt32>(BP_MODE_ASYNC)
  }

  init() { modes = Operation.allCases.map { _ in Mode() } }

  func declare(_ operation: Operation, _ mode: UInt32) {
    modes[operation.rawValue].mode.store(mode, ordering: .relaxed)
  }

  @inline(__always)
  func mode(_ operation: Operation) -> UInt32 { modes[operation.rawValue].mode.load(ordering: .relaxed) }

  /// A direct call of an operation that has had `calls` calls so far was slow. True when this one demoted it to threads.
  ///
  /// Slow calls that are rare among the rest do not count: on a busy machine the system takes the processor away in the
  /// middle of any call, and that is no fault of the plugin's.
  func wasSlow(_ operation: Operation, nowNs: UInt64, calls: UInt64 = 0) -> Bool {
    slowCalls.add(1, ordering: .relaxed)
    return slow.withLock { slow in
      var seen = (slow[operation.rawValue] ?? []).filter { nowNs &- $0.atNs < Directness.windowNs }
      seen.append(SlowCall(atNs: nowNs, calls: calls))
      seen = Array(seen.suffix(Directness.slowCallsMax))
      slow[operation.rawValue] = seen
      guard seen.count == Directness.slowCallsMax, mode(operation) == BP_MODE_DIRECT,
        calls - seen[0].calls <= Directness.callsAmongMax
      else { return false }
      declare(operation, BP_MODE_BLOCKING)
      return true
    }
  }

  /// Operations that were demoted, for health.
  func demoted(declared: (Operation) -> UInt32) -> [Operation] {
    Operation.allCases.filter { declared($0) == BP_MODE_DIRECT && mode($0) == BP_MODE_BLOCKING }
  }
}
