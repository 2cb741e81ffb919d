import BackplaneABI
import Synchronization

/// One unit on its way to all backends of a node: sends it, waits for what they say, and decides by the write policy.
///
/// With one backend that is a call and its answer. With several, units that touch the same record go one after the
/// other (`WriteOrder`), and what a backend missed of an acknowledged write is on record (`Backlog`) before the
/// acknowledgement. So it is with one backend while somebody subscribes to accepted messages, or peers get them: the order
/// in which completions come back from a backend is not the one in which it made the changes.
final class Broadcast: @unchecked Sendable {
  // @unchecked: `version`, `began` and the ops' conditions are written before the first leg is submitted, on the
  // thread whose turn it is; the rest is constant or under a lock.

  enum Outcome {
    /// The lowest durability of those that count; no backend had anything to delete.
    case accepted(durability: UInt32, isAbsentEverywhere: Bool)
    case refused(CallFailure)
    case preconditionFailed(op: Int)
  }

  private enum Leg {
    case applied(durability: UInt32, absent: Int)
    case failed(CallFailure)
    case refusedPrecondition(op: Int)
    /// The backend is being repaired and gets it from its journal.
    case deferred
  }

  private struct Legs {
    var outcomes: [Leg?]
    var passages: [Backlog.Passage]
    var isSubmitted: [Bool]
    var tokens: [bp_token]
    /// Where each leg goes: the generation's backend, or the instance that its state has moved to.
    var targets: [Instance]
    /// Leases on the generations of those others.
    var leases: [Lease] = []
    /// Passages have been taken.
    var hasBegun = false
    var isDecided = false
    /// Decided, and acknowledged.
    var isAccepted = false
  }

  /// Keeps the memory and the lease.
  private let request: WriteRequest
  private let kernel: KernelContext
  private let call: OwnedCall
  private let generation: UInt64
  private let policy: WritePolicy
  private let backends: [Instance]
  /// Of the peers that get the message too; none when another node has handed it on.
  private let pushQueues: [PushQueue]
  private let ops: UnsafeMutableBufferPointer<bp_op>
  private let arena: Arena
  private let timestampMs: UInt64
  private var version: UInt64
  /// Others may get the same records at the same time, or not get them at all; or somebody wants to know the order.
  private let isComposite: Bool
  /// No other unit of the same records is under way with it, unless that one is not in line.
  private var isInLine = false
  /// The feed's position when it went out; 0: nobody subscribed.
  private var began: UInt64 = 0
  private var isConditional = false
  private let legs: Mutex<Legs>
  private let place = Mutex<Place>(.none)

  private enum Place {
    case none
    case taken(WriteOrder.Ticket)
    /// Decided before the place was known.
    case left
  }

  /// - Parameters:
  ///   - lease: the request's.
  ///   - ops: in `arena`, which is the request's.
  init(
    _ request: WriteRequest, _ call: OwnedCall, _ lease: Lease, _ ops: UnsafeMutableBufferPointer<bp_op>,
    _ arena: Arena, timestampMs: UInt64, version: UInt64
  ) {
    self.request = request
    kernel = request.caller.kernel
    self.call = call
    generation = lease.number
    let isForwarded = call.header.pointee.flags & BP_CALL_FORWARDED != 0
    (backends, policy, pushQueues) = lease.withGeneration {
      ($0.backends, $0.writePolicy, isForwarded ? [] : $0.pushQueues)
    }
    self.ops = ops
    self.arena = arena
    self.timestampMs = timestampMs
    self.version = version
    isComposite = backends.count > 1 || backends[0].isBehind || kernel.feed.isActive || !pushQueues.isEmpty
    legs = Mutex(
      Legs(
        outcomes: Array(repeating: nil, count: backends.count),
        passages: Array(repeating: .live, count: backends.count),
        isSubmitted: Array(repeating: false, count: backends.count), tokens: Array(repeating: 0, count: backends.count),
        targets: backends))
  }

  deinit {
    for lease in legs.withLock({ $0.leases }) { kernel.ring.release(lease) }
  }

  /// Calls that are open at backends.
  var openCalls: [(instance: Instance, token: bp_token)] {
    legs.withLock { legs in
      legs.targets.indices.filter { legs.tokens[$0] != 0 && legs.outcomes[$0] == nil }
        .map { (legs.targets[$0], legs.tokens[$0]) }
    }
  }

  // MARK: Beginning

  func start() {
    guard isComposite else {
      legs.withLock { $0.isSubmitted[0] = true }
      return submit(leg: 0, ops.baseAddress!)
    }
    request.register()
    if mayBePartOfARing { return begin() }
    isInLine = true
    let uris = ops.count == 1 ? [Array(ops[0].uri.bytes)] : Array(Set(ops.map { Array($0.uri.bytes) }))
    let ticket = kernel.writeOrder.enter(uris) { self.begin() }
    let isOver = place.withLock { place in
      if case .left = place { return true }
      place = .taken(ticket)
      return false
    }
    if isOver { kernel.writeOrder.finish(ticket) }
  }

  /// A write that came from another node (it has a key), to backends of which one is another node as well. Were the two
  /// each other's backends, the write that it would wait for could be waiting for this one, over there.
  private var mayBePartOfARing: Bool {
    call.header.pointee.idempotency_key_high | call.header.pointee.idempotency_key_low != 0
      && backends.contains { $0.backend!.pointee.flags & BP_BACKEND_REMOTE != 0 }
  }

  /// It is this unit's turn.
  private func begin() {
    // Drawn now, so that the order of the versions of a record is the order in which backends get them.
    let provisional = version
    version = kernel.versions.next(nowMs: timestampMs)
    began = kernel.feed.position
    for index in ops.indices where ops[index].condition == BP_IF_VERSION && ops[index].if_version == provisional {
      ops[index].if_version = version
    }
    isConditional = ops.contains { $0.condition != BP_IF_ANY }
    enum Next {
      case nothing
      case decide
      case submit([Int])
    }
    let next = legs.withLock { legs -> Next in
      // Given up in line.
      if legs.isDecided { return .nothing }
      legs.hasBegun = true
      for index in backends.indices {
        legs.passages[index] = backends[index].backlog.enter()
        if legs.passages[index] == .deferred { legs.outcomes[index] = .deferred }
      }
      var live = backends.indices.filter { legs.passages[$0] == .live }
      // The first in order decides the preconditions, the rest apply (boundary.md, "Writes").
      if isConditional { live = Array(live.prefix(1)) }
      for index in live { legs.isSubmitted[index] = true }
      return live.isEmpty ? .decide : .submit(live)
    }
    switch next {
    case .nothing: leavePlace()
    case .decide: decide()
    case .submit(let live): for index in live { submit(leg: index, ops.baseAddress!) }
    }
  }

  private func leavePlace() {
    let ticket = place.withLock { place -> WriteOrder.Ticket? in
      defer { place = .left }
      if case .taken(let ticket) = place { return ticket }
      return nil
    }
    if let ticket { kernel.writeOrder.finish(ticket) }
  }

  // MARK: One leg

  private final class LegContext: @unchecked Sendable {
    // @unchecked: written in init only.
    let broadcast: Broadcast
    let index: Int
    init(_ broadcast: Broadcast, _ index: Int) {
      self.broadcast = broadcast
      self.index = index
    }
  }

  private struct UncheckedOps: @unchecked Sendable {
    // @unchecked: they lie in the request's arena, which outlives the call.
    let pointer: UnsafeMutablePointer<bp_op>
  }

  /// A unit is bound to an instance when it is submitted: one that comes while the slot's state is being moved waits, and
  /// one that comes after goes to the successor (boundary.md, "Handover of state").
  private func submit(leg index: Int, _ unit: UnsafeMutablePointer<bp_op>) {
    let backend = target(index)
    guard let fence = backend.fence else { return bind(leg: index, unit, to: backend) }
    while true {
      switch fence.enter() {
      case .passed: return bind(leg: index, unit, to: backend)
      case .moved: return submitToSuccessor(leg: index, unit, of: backend)
      case .raised:
        request.register()
        let waiting = UncheckedOps(pointer: unit)
        let parking = fence.park { [self] isMoved in
          if isMoved {
            submitToSuccessor(leg: index, waiting.pointer, of: backend)
          } else {
            bind(leg: index, waiting.pointer, to: backend)
          }
        }
        switch parking {
        case .parked: return
        case .lowered: continue
        case .moved: return submitToSuccessor(leg: index, unit, of: backend)
        case .full: return ended(index, .failed(.parkingFull))
        }
      }
    }
  }

  private func submitToSuccessor(leg index: Int, _ unit: UnsafeMutablePointer<bp_op>, of backend: Instance) {
    guard let (fresh, successor) = Admission.successor(of: backend) else {
      return ended(index, .failed(.slotGone))
    }
    legs.withLock { legs in
      legs.leases.append(fresh)
      legs.targets[index] = successor
    }
    submit(leg: index, unit)
  }

  /// Ends a leg that is inside its backend's fence and was not submitted.
  private func turnedAway(_ index: Int, _ backend: Instance, _ failure: CallFailure) {
    backend.fence?.leave()
    ended(index, .failed(failure))
  }

  private func bind(leg index: Int, _ unit: UnsafeMutablePointer<bp_op>, to backend: Instance) {
    // It was decided while this leg was parked: the backend gets it from its journal, or not at all.
    if legs.withLock({ $0.isDecided }) {
      return turnedAway(index, backend, CallFailure(code: BP_CANCELLED, "the request was given up"))
    }
    guard backend.admits else {
      guard backend.isClosed else { return turnedAway(index, backend, .tooManyCalls) }
      backend.fence?.leave()
      return submitToSuccessor(leg: index, unit, of: backend)
    }
    // Another node makes several changes of one message itself, or says that it cannot.
    guard ops.count == 1 || backend.backend!.pointee.flags & (BP_BACKEND_ATOMIC | BP_BACKEND_REMOTE) != 0 else {
      return turnedAway(
        index, backend,
        CallFailure(
          code: BP_UNIMPLEMENTED,
          "the backend in slot '\(backend.slot.name)' cannot apply several changes as one unit"))
    }
    let context = Unmanaged.passRetained(LegContext(self, index))
    let startNs = Clock.monotonicNs()
    let token = CallSlab.shared.open(
      backend, .apply, context: context.toOpaque(),
      handler: { context, result in
        let leg = Unmanaged<LegContext>.fromOpaque(context!).takeRetainedValue()
        leg.broadcast.applied(leg.index, result!)
      }, startNs: startNs)
    guard token != 0 else {
      context.release()
      return turnedAway(index, backend, .tooManyCalls)
    }
    legs.withLock { $0.tokens[index] = token }
    var request = bp_unit(
      size: UInt32(MemoryLayout<bp_unit>.size), ops_count: UInt32(ops.count), ops: unit, token: token,
      call: call.header, ts_ms: timestampMs, version: version)
    let mark = ThreadMark.own
    switch backend.directness.mode(.apply) {
    case BP_MODE_DIRECT where mark.pointee.nesting < ReadPath.nestingMax:
      mark.nested { apply(backend, &request, startNs) }
      if legs.withLock({ $0.outcomes[index] == nil }) { BrokenPromise.revoke(backend, .apply, token) }
    case BP_MODE_DIRECT:
      self.request.register()
      let request = UncheckedUnit(unit: request)
      Dispatcher.run(backend, .apply, token) { [self] in
        var unit = request.unit
        apply(backend, &unit, Clock.monotonicNs())
      }
    default:
      self.request.register()
      backend.applyQueue.submit(request, to: backend)
    }
  }

  private struct UncheckedUnit: @unchecked Sendable {
    // @unchecked: its pointers lie in the request's arena, which outlives the call.
    let unit: bp_unit
  }

  private func apply(_ backend: Instance, _ unit: UnsafeMutablePointer<bp_unit>, _ startNs: UInt64) {
    ThreadMark.own.during(.apply, backend.handle, generation: generation, startNs: startNs, header: call.header) {
      backend.backend!.pointee.apply(backend.pointer, unit, 1)
    }
  }

  private func target(_ index: Int) -> Instance { legs.withLock { $0.targets[index] } }

  private func applied(_ index: Int, _ result: UnsafePointer<bp_result>) {
    target(index).fence?.leave()
    switch result.pointee.code {
    case BP_OK:
      guard Int(result.pointee.size) >= MemoryLayout<bp_write_result>.size else {
        return ended(index, .failed(CallFailure(code: BP_INTERNAL, "the backend's result is too short")))
      }
      let written = UnsafeRawPointer(result).assumingMemoryBound(to: bp_write_result.self).pointee
      ended(index, .applied(durability: written.durability, absent: Int(written.absent_count)))
    case BP_FAILED_PRECONDITION:
      let written = UnsafeRawPointer(result).assumingMemoryBound(to: bp_write_result.self).pointee
      ended(index, .refusedPrecondition(op: Int(written.failed_op)))
    default: ended(index, .failed(CallFailure(result)))
    }
  }

  private func ended(_ index: Int, _ leg: Leg) {
    enum Next {
      case late(isAccepted: Bool)
      case decide
      case goOn
    }
    let next = legs.withLock { legs -> Next in
      legs.outcomes[index] = leg
      if legs.isDecided { return .late(isAccepted: legs.isAccepted) }
      return legs.outcomes.allSatisfy { $0 != nil } ? .decide : .goOn
    }
    if case .late(isAccepted: true) = next, case .applied = leg {
      // A write that was acknowledged without this backend has arrived there after all. Said before the repair, which
      // waits for legs that are under way, can begin.
      backends[index].backlog.arrived(version)
    }
    if isComposite { backends[index].backlog.leave() }
    switch next {
    case .late: break
    case .decide: decide()
    case .goOn: if isConditional { continueConditional(index, leg) }
    }
  }

  /// With preconditions and several backends: the first that can says whether they hold, then the rest apply without.
  private func continueConditional(_ index: Int, _ leg: Leg) {
    switch leg {
    case .refusedPrecondition, .deferred: decide()
    case .failed:
      let next = legs.withLock { legs -> Int? in
        // When one has applied, those after it are under way already.
        let someApplied = legs.outcomes.contains { if case .applied = $0 { true } else { false } }
        guard !someApplied, !legs.isDecided,
          let next = legs.outcomes.indices.first(where: { legs.outcomes[$0] == nil && !legs.isSubmitted[$0] })
        else { return nil }
        legs.isSubmitted[next] = true
        return next
      }
      if let next { submit(leg: next, ops.baseAddress!) }
    case .applied:
      let remaining = legs.withLock { legs -> [Int] in
        guard !legs.isDecided else { return [] }
        let idle = legs.outcomes.indices.filter { legs.outcomes[$0] == nil && !legs.isSubmitted[$0] }
        for index in idle { legs.isSubmitted[index] = true }
        return idle
      }
      guard !remaining.isEmpty else { return }
      let rest = arena.allocate(MemoryLayout<bp_op>.stride * ops.count).assumingMemoryBound(to: bp_op.self)
      rest.initialize(from: ops.baseAddress!, count: ops.count)
      for index in ops.indices { rest[index].condition = BP_IF_ANY }
      for index in remaining { submit(leg: index, rest) }
    }
  }

  // MARK: Deciding

  /// The caller has given up, or the deadline has passed: what the backends have reached decides.
  func giveUp(_ code: bp_code, _ message: StaticString) {
    let isUnderWay = legs.withLock { $0.isSubmitted.contains(true) }
    decide(
      givenUp: CallFailure(
        code: code, isUnderWay ? "\(message) before enough backends took the write" : "\(message)", isRetryable: true))
    for (backend, token) in openCalls { backend.giveUp(token, code) }
  }

  /// Says what the outcomes come to; `givenUp` when that does not wait for all of them.
  private func decide(givenUp: CallFailure? = nil) {
    var (accepted, durability, isAbsentEverywhere) = (0, BP_DURABILITY_QUORUM, true)
    var failure: CallFailure?
    var precondition: Int?
    let decided = legs.withLock { legs -> Decided? in
      guard !legs.isDecided else { return nil }
      legs.isDecided = true
      for (index, outcome) in legs.outcomes.enumerated() {
        switch outcome {
        case .applied(let reached, let absent):
          accepted += 1
          durability = min(durability, reached)
          if absent == 0 { isAbsentEverywhere = false }
        case .failed(let failed): failure = failure ?? failed
        case .refusedPrecondition(let op): precondition = precondition ?? op
        case .deferred: failure = failure ?? .isRepaired(backends[index].slot.name)
        case nil: break
        }
      }
      legs.isAccepted = accepted > 0 && policy.isSatisfied(accepted: accepted, of: backends.count)
      let idle = legs.outcomes.indices.filter { legs.outcomes[$0] == nil && !legs.isSubmitted[$0] }
      return Decided(
        isAccepted: legs.isAccepted, outcomes: legs.outcomes, passages: legs.passages, hasBegun: legs.hasBegun,
        idle: legs.hasBegun ? idle : [])
    }
    guard let decided else { return }
    guard decided.isAccepted else {
      for (index, outcome) in decided.outcomes.enumerated() {
        if case .deferred = outcome { backends[index].backlog.release() }
      }
      for index in decided.idle { backends[index].backlog.leave() }
      if decided.hasBegun { leavePlace() }
      if let precondition { return request.applied(.preconditionFailed(op: precondition)) }
      return request.applied(.refused(givenUp ?? failure ?? .noBackend))
    }
    let outcome = Outcome.accepted(durability: durability, isAbsentEverywhere: isAbsentEverywhere)
    let misses = misses(decided.outcomes)
    // Whether it is accepted is only known when what was missed is on record, and the feed and the peers' queues have to
    // be told before the next change of the record.
    let staysInLine = !misses.isEmpty && (kernel.feed.isActive || !pushQueues.isEmpty)
    record(misses, decided.passages, accepted: accepted, outcome, leaving: staysInLine)
    for index in decided.idle { backends[index].backlog.leave() }
    if !staysInLine { leavePlace() }
  }

  /// Tells those who subscribe to accepted messages, and the peers' queues, and then whoever wrote.
  private func acknowledge(_ outcome: Outcome) {
    // A delete of what was nowhere has changed nothing.
    if case .accepted(_, let isAbsentEverywhere) = outcome,
      !(isAbsentEverywhere && ops.count == 1 && ops[0].verb == BP_VERB_DELETE)
    {
      if kernel.feed.isActive {
        kernel.feed.append(
          UnsafeBufferPointer(ops), timestampMs: timestampMs, version: version, began: began, isOrdered: isInLine)
      }
      if !pushQueues.isEmpty {
        // One copy for all queues.
        let record = MissedUnit.record(UnsafeBufferPointer(ops), timestampMs: timestampMs, version: version)
        for queue in pushQueues { queue.put(record, timestampMs: timestampMs) }
      }
    }
    request.applied(outcome)
  }

  private struct Decided {
    var isAccepted: Bool
    var outcomes: [Leg?]
    var passages: [Backlog.Passage]
    /// Else it is in line, and keeps its place until its turn: those behind it wait for those before it.
    var hasBegun: Bool
    /// Live legs that were never begun.
    var idle: [Int]
  }

  private func misses(_ outcomes: [Leg?]) -> [(index: Int, reason: String)] {
    outcomes.enumerated().compactMap { index, outcome in
      switch outcome {
      case .applied: nil
      case .failed(let failure): (index, failure.reason)
      case .refusedPrecondition: (index, "its record was another")
      case .deferred: (index, "it was being repaired")
      case nil: (index, "it had not answered when the request was given up")
      }
    }
  }

  /// Puts what was missed on record, and only then acknowledges.
  ///
  /// - Parameter leaving: it leaves its place in line after that.
  private func record(
    _ misses: [(index: Int, reason: String)], _ passages: [Backlog.Passage], accepted: Int, _ outcome: Outcome,
    leaving: Bool
  ) {
    guard !misses.isEmpty else { return acknowledge(outcome) }
    let record = MissedUnit.record(UnsafeBufferPointer(ops), timestampMs: timestampMs, version: version)
    let recording = Recording(misses.count)
    for (index, reason) in misses {
      kernel.repairs.missed(
        backends[index], record, timestampMs: timestampMs, reason: reason, passages[index]
      ) { [self] failed in
        guard recording.ended(failed) else { return }
        defer { if leaving { leavePlace() } }
        guard let problem = recording.problem else { return acknowledge(outcome) }
        request.applied(
          .refused(
            CallFailure(
              code: BP_UNAVAILABLE,
              "\(accepted) of \(backends.count) backends took the write, and that the others missed it could not be "
                + "recorded: \(problem.sentence)", isRetryable: true)))
      }
    }
  }

  /// How many misses are still to be recorded.
  private final class Recording: Sendable {
    private let state: Mutex<(left: Int, problem: JournalProblem?)>
    init(_ count: Int) { state = Mutex((count, nil)) }

    /// True for the last one.
    func ended(_ problem: JournalProblem?) -> Bool {
      state.withLock { state in
        state.left -= 1
        state.problem = state.problem ?? problem
        return state.left == 0
      }
    }

    var problem: JournalProblem? { state.withLock { $0.problem } }
  }
}

extension CallFailure {
  fileprivate static func isRepaired(_ slot: String) -> CallFailure {
    CallFailure(
      code: BP_UNAVAILABLE,
      "the backend in slot '\(slot)' is being repaired and takes no writes until it has what it "
        + "missed", isRetryable: true)
  }
}
