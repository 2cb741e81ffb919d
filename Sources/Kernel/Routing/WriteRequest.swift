import BackplaneABI
import Foundation
import Synchronization

/// One message on its way in: judged by the schemas of its program and of its outputs' programs, then applied as one
/// unit by every backend. It keeps the message's memory and its lease until the last backend has completed, though its
/// client may have had an answer before.
final class WriteRequest: PendingRequest, @unchecked Sendable {
  // @unchecked: the judging part runs one step at a time, each after the completion of the one before; `ops` is final
  // when the first backend gets it; the legs' outcomes are under a lock; the rest is atomic.

  /// schema.h: how deep verdicts may ask for further judgement, and how many ops a message may come to.
  static let depthMax: UInt32 = 16
  static let opsMax = 100_000

  let caller: Instance
  let lease: Lease
  private let call: OwnedCall
  private let completion: bp_completion
  private let answered: @Sendable () -> Void
  private let arena = Arena()
  private var body: bp_buffer
  private let content: UInt32
  private let verb: UInt32
  private let uriReceived: bp_view
  private let timestampMs: UInt64
  private let version: UInt64

  private struct Pending {
    var op: bp_op
    var depth: UInt32
    var received: bp_view
  }
  /// What is still to be judged or taken over, the next one last.
  private var pending: [Pending] = []
  /// What will be written, in order.
  private var ops: [bp_op] = []
  private let opsLock = NSLock()

  /// Whether the submitter or the completion of a judgement goes on: whoever comes second.
  private let turn = Atomic<Int>(0)
  private var verdictFailure: CallFailure?

  let isAnswered = Atomic<Bool>(false)
  private let requestToken = Atomic<UInt64>(0)
  /// The judgement that is open and not direct. Under a lock, because a deadline cancels it from a thread of its own.
  private let openJudgement = Mutex<(judge: Instance, token: bp_token)?>(nil)

  private struct Legs {
    var outcomes: [Leg?]
    var tokens: [bp_token]
    /// Where each leg goes: the generation's backend, or the instance that its state has moved to.
    var targets: [Instance]
    /// Leases on the generations of those others.
    var leases: [Lease] = []
    var isDecided = false
    /// The write was acknowledged, and those that it did not wait for are on record as behind.
    var areMissesRecorded = false
  }
  private enum Leg {
    case applied(durability: UInt32, absent: Int)
    case failed(CallFailure)
    case refusedPrecondition(op: Int)
  }
  private let legs: Mutex<Legs>
  /// The generation's; `Legs.targets` has where each leg really goes.
  private let backends: [Instance]
  private var unitOps: UnsafeMutablePointer<bp_op>?

  init(
    _ caller: Instance, _ call: bp_call, verb: UInt32, content: UInt32, uri: bp_view, body: bp_buffer, _ lease: Lease,
    _ completion: bp_completion, answered: @escaping @Sendable () -> Void
  ) {
    self.caller = caller
    self.lease = caller.kernel.ring.extend(lease)
    self.call = OwnedCall(
      call, generation: lease.number, timeoutNsMax: caller.kernel.requestTimeoutNs.load(ordering: .relaxed))
    self.completion = completion
    self.answered = answered
    self.body = body
    self.content = content
    self.verb = verb
    uriReceived = arena.copy(uri)
    timestampMs = Clock.wallMs()
    version = caller.kernel.versions.next(nowMs: timestampMs)
    backends = lease.withGeneration { $0.backends }
    legs = Mutex(
      Legs(
        outcomes: Array(repeating: nil, count: backends.count), tokens: Array(repeating: 0, count: backends.count),
        targets: backends))
  }

  deinit {
    if let release = body.release { ThreadMark.own.during(.release, caller.handle) { release(body.owner) } }
    for lease in legs.withLock({ $0.leases }) { caller.kernel.ring.release(lease) }
    caller.kernel.ring.release(lease)
  }

  var deadlineNs: UInt64 { call.deadlineNs }

  var holding: RequestHolding? {
    var calls: [(instance: Instance, call: MarkedCall)] = []
    if let (judge, _) = openJudgement.withLock({ $0 }) { calls.append((judge, .judge)) }
    legs.withLock { legs in
      for index in legs.targets.indices where legs.tokens[index] != 0 && legs.outcomes[index] == nil {
        calls.append((legs.targets[index], .apply))
      }
    }
    return call.holding(verb == BP_VERB_DELETE ? .delete : .receive, lease.number, waitsFor: calls)
  }

  func start() -> bp_token {
    guard !backends.isEmpty else {
      finish(.noBackend)
      return 0
    }
    var op = bp_op()
    op.size = UInt32(MemoryLayout<bp_op>.size)
    op.verb = verb
    op.content = content
    op.flags = BP_OP_TO_JUDGE
    op.uri = uriReceived
    op.data = bp_view(data: body.data, size: body.size)
    pending = [Pending(op: op, depth: 0, received: uriReceived)]
    advance()
    return isAnswered.load(ordering: .acquiring) ? 0 : requestToken.load(ordering: .acquiring)
  }

  /// From here on the request can outlive the call that began it: it can be cancelled, and has a deadline.
  private func register() {
    guard requestToken.load(ordering: .relaxed) == 0 else { return }
    requestToken.store(caller.kernel.requests.add(self), ordering: .releasing)
  }

  // MARK: Judging

  /// Takes pending ops until one waits for a schema, a refusal ends the message, or all are taken.
  private func advance() {
    while let next = pending.popLast() {
      if isAnswered.load(ordering: .acquiring) { return }
      guard ops.count < WriteRequest.opsMax else {
        return finish(
          CallFailure(
            code: BP_RESOURCE_EXHAUSTED, "the message comes to more than \(WriteRequest.opsMax) writes"))
      }
      guard step(next) else { return }
    }
    apply()
  }

  /// False when the request has ended or goes on in a completion.
  private func step(_ next: Pending) -> Bool {
    let generation = lease.generation
    var op = next.op
    // The normal form is kept in the arena: the op and every backend refer to it.
    var programLength = 0
    var isUnavailable = false
    let isURI = NormalForm.with(op.uri, generation) { normal in
      guard let normal else { return false }
      programLength = normal.programLength
      let isSame = normal.bytes.baseAddress == UnsafePointer(op.uri.data) && normal.bytes.count == Int(op.uri.size)
      if !isSame { op.uri = arena.copy(bp_view(normal.bytes)) }
      return true
    } unavailable: {
      isUnavailable = true
      return false
    }
    if isUnavailable {
      finish(.noCanonicalForm)
      return false
    }
    guard op.flags & BP_OP_TO_JUDGE != 0, verb == BP_VERB_PUT || judgesDeletes(generation, op, programLength) else {
      guard isURI else { return refuseURI(next) }
      append(op)
      return true
    }
    let program = UnsafeBufferPointer(start: op.uri.data, count: programLength)
    let schema = isURI ? generation.schema(forProgram: program) : generation.fallback
    guard let schema else {
      guard isURI else { return refuseURI(next) }
      finish(CallFailure(code: BP_REJECTED, "Unknown program: \(String(decoding: program, as: UTF8.self))"))
      return false
    }
    guard next.depth <= WriteRequest.depthMax else {
      finish(CallFailure(code: BP_REJECTED, "the message's outputs are nested deeper than \(WriteRequest.depthMax)"))
      return false
    }
    return submit(schema, op, isURI: isURI, program: bp_view(program), next)
  }

  private func judgesDeletes(_ generation: Generation, _ op: bp_op, _ programLength: Int) -> Bool {
    guard programLength > 0 else { return false }
    let program = UnsafeBufferPointer(start: op.uri.data, count: programLength)
    guard let table = generation.schema(forProgram: program)?.schema else { return false }
    return table.pointee.flags & BP_SCHEMA_JUDGES_DELETES != 0
  }

  private func refuseURI(_ next: Pending) -> Bool {
    let text =
      next.depth == 0 ? "Invalid URI format" : "Invalid output URI: \(next.received.text)"
    finish(CallFailure(code: verb == BP_VERB_DELETE ? BP_NOT_FOUND : BP_REJECTED, text))
    return false
  }

  private func append(_ op: bp_op) {
    var op = op
    op.flags = 0
    opsLock.lock()
    ops.append(op)
    opsLock.unlock()
  }

  /// Gives one op to a schema. True when it has been judged already and the loop may go on.
  private func submit(_ schema: Instance, _ op: bp_op, isURI: Bool, program: bp_view, _ next: Pending) -> Bool {
    guard schema.admits else {
      guard schema.isClosed, let (fresh, successor) = Admission.successor(of: schema) else {
        finish(Admission.failure(schema))
        return false
      }
      legs.withLock { $0.leases.append(fresh) }
      return submit(successor, op, isURI: isURI, program: program, next)
    }
    turn.store(0, ordering: .relaxed)
    verdictFailure = nil
    judging = next
    let context = Unmanaged.passRetained(self)
    let startNs = Clock.monotonicNs()
    let token = CallSlab.shared.open(
      schema, .judge, context: context.toOpaque(),
      handler: { context, result in
        Unmanaged<WriteRequest>.fromOpaque(context!).takeRetainedValue().judged(result!)
      }, startNs: startNs)
    guard token != 0 else {
      context.release()
      finish(.tooManyCalls)
      return false
    }
    // The message lives in the arena: an async schema reads it until it completes.
    let message = arena.allocate(MemoryLayout<bp_message>.size).assumingMemoryBound(to: bp_message.self)
    message.initialize(
      to: bp_message(
        size: UInt32(MemoryLayout<bp_message>.size), verb: op.verb, content: op.content, depth: next.depth,
        ts_ms: timestampMs, uri: isURI ? op.uri : .empty, uri_received: next.received, program: program,
        data: op.data))
    let mode = schema.directness.mode(.judge)
    let mark = ThreadMark.own
    if mode == BP_MODE_DIRECT && mark.pointee.nesting < ReadPath.nestingMax {
      mark.nested { judge(schema, message, token, startNs) }
      if turn.load(ordering: .acquiring) == 0 { BrokenPromise.revoke(schema, .judge, token) }
    } else {
      register()
      openJudgement.withLock { $0 = (schema, token) }
      caller.kernel.judgements.begin(token, self)
      let lent = UncheckedMessage(pointer: message)
      Dispatcher.run(schema, .judge, token) { [self] in
        judge(schema, lent.pointer, token, Clock.monotonicNs())
      }
    }
    // Whoever comes second goes on: this loop, or the completion on its own thread.
    guard turn.exchange(1, ordering: .acquiringAndReleasing) == 2 else { return false }
    return takeVerdict()
  }

  private func judge(
    _ schema: Instance, _ message: UnsafeMutablePointer<bp_message>, _ token: bp_token, _ startNs: UInt64
  ) {
    ThreadMark.own.during(
      .judge, schema.handle, generation: lease.number, startNs: startNs, header: call.header
    ) { schema.schema!.pointee.judge(schema.pointer, call.header, message, token) }
  }

  private var judging: Pending?
  private var verdict: [Pending] = []

  /// A schema has completed. The verdict's views are valid until this returns.
  private func judged(_ result: UnsafePointer<bp_result>) {
    let ended = openJudgement.withLock { open in
      defer { open = nil }
      return open?.token
    }
    if let ended { caller.kernel.judgements.end(ended) }
    verdict.removeAll(keepingCapacity: true)
    if result.pointee.code == BP_OK {
      let given = UnsafeRawPointer(result).assumingMemoryBound(to: bp_verdict.self).pointee
      verdictFailure = take(given)
    } else {
      verdictFailure = CallFailure(result)
    }
    if turn.exchange(2, ordering: .acquiringAndReleasing) == 1, takeVerdict() { advance() }
  }

  /// Copies a verdict's ops, but for views that point into the message.
  private func take(_ given: bp_verdict) -> CallFailure? {
    guard let first = given.ops, given.ops_count > 0 else {
      return CallFailure(code: BP_INTERNAL, "the schema accepted a message without a single op")
    }
    guard Int(given.ops_count) + ops.count + pending.count <= WriteRequest.opsMax else {
      return CallFailure(
        code: BP_RESOURCE_EXHAUSTED, "the message comes to more than \(WriteRequest.opsMax) writes")
    }
    let stride = Int(first.pointee.size)
    guard stride >= MemoryLayout<bp_op>.size else {
      return CallFailure(code: BP_INTERNAL, "the schema's ops are smaller than this kernel's")
    }
    let depth = judging!.depth + 1
    for index in (0..<Int(given.ops_count)).reversed() {
      var op = UnsafeRawPointer(first).advanced(by: index * stride).load(as: bp_op.self)
      op.size = UInt32(MemoryLayout<bp_op>.size)
      let uri = keep(op.uri)
      op.uri = uri
      op.data = keep(op.data)
      verdict.append(Pending(op: op, depth: depth, received: uri))
    }
    return nil
  }

  /// The view itself when it lies in memory of this request's, else a copy.
  private func keep(_ view: bp_view) -> bp_view {
    guard view.size > 0, let start = view.data else { return .empty }
    func lies(in other: bp_view) -> Bool {
      guard let begin = other.data else { return false }
      return start >= begin && start + Int(view.size) <= begin + Int(other.size)
    }
    if lies(in: bp_view(data: body.data, size: body.size)) || lies(in: judging!.op.data) || lies(in: uriReceived) {
      return view
    }
    return arena.copy(view)
  }

  /// False when the verdict ended the request.
  private func takeVerdict() -> Bool {
    if let verdictFailure {
      finish(verdictFailure)
      return false
    }
    pending.append(contentsOf: verdict)
    return true
  }

  /// What a read within this message's judgement sees of its earlier ops; nil when they do not touch the URI.
  func overlay(_ uri: UnsafeBufferPointer<UInt8>) -> OverlayRecord? {
    opsLock.lock()
    defer { opsLock.unlock() }
    guard let op = ops.last(where: { $0.uri.bytes.count == uri.count && $0.uri.bytes.elementsEqual(uri) }) else {
      return nil
    }
    if op.verb == BP_VERB_DELETE { return .absent }
    return .present(
      bp_record(
        size: UInt32(MemoryLayout<bp_record>.size), content: op.content, ts_ms: timestampMs, version: version,
        data: op.data))
  }

  enum OverlayRecord {
    case absent
    /// Valid while the judgement is open.
    case present(bp_record)
  }

  // MARK: Applying

  private func apply() {
    let unit = arena.allocate(MemoryLayout<bp_op>.stride * ops.count).assumingMemoryBound(to: bp_op.self)
    unit.initialize(from: ops, count: ops.count)
    unitOps = unit
    // With several backends the first in order decides the preconditions, the rest apply (boundary.md, "Writes").
    if isConditionalUnit {
      submit(leg: 0, ops: unit)
    } else {
      for index in backends.indices { submit(leg: index, ops: unit) }
    }
  }

  private final class LegContext: @unchecked Sendable {
    // @unchecked: written in init only.
    let request: WriteRequest
    let index: Int
    init(_ request: WriteRequest, _ index: Int) {
      self.request = request
      self.index = index
    }
  }

  /// One backend's part. A unit is bound to an instance when it is submitted: one that comes while the slot's state is
  /// being moved waits, and one that comes after goes to the successor (boundary.md, "Handover of state").
  private func submit(leg index: Int, ops unit: UnsafeMutablePointer<bp_op>) {
    let backend = legs.withLock { $0.targets[index] }
    guard let fence = backend.fence else { return bind(leg: index, ops: unit, to: backend) }
    while true {
      switch fence.enter() {
      case .passed: return bind(leg: index, ops: unit, to: backend)
      case .moved: return submitToSuccessor(leg: index, ops: unit, of: backend)
      case .raised:
        register()
        let waiting = UncheckedOps(pointer: unit)
        let parking = fence.park { [self] isMoved in
          if isMoved {
            submitToSuccessor(leg: index, ops: waiting.pointer, of: backend)
          } else {
            bind(leg: index, ops: waiting.pointer, to: backend)
          }
        }
        switch parking {
        case .parked: return
        case .lowered: continue
        case .moved: return submitToSuccessor(leg: index, ops: unit, of: backend)
        case .full: return ended(index, .failed(.parkingFull))
        }
      }
    }
  }

  private func submitToSuccessor(leg index: Int, ops unit: UnsafeMutablePointer<bp_op>, of backend: Instance) {
    guard let (fresh, successor) = Admission.successor(of: backend) else {
      return ended(index, .failed(.slotGone))
    }
    legs.withLock { legs in
      legs.leases.append(fresh)
      legs.targets[index] = successor
    }
    submit(leg: index, ops: unit)
  }

  /// Ends a leg that is inside its backend's fence and was not submitted.
  private func turnedAway(_ index: Int, _ backend: Instance, _ failure: CallFailure) {
    backend.fence?.leave()
    ended(index, .failed(failure))
  }

  private func bind(leg index: Int, ops unit: UnsafeMutablePointer<bp_op>, to backend: Instance) {
    // Nobody waits for it any more and it counts nowhere: it was given up while it was parked.
    if legs.withLock({ $0.isDecided && !$0.areMissesRecorded }) {
      return turnedAway(index, backend, CallFailure(code: BP_CANCELLED, "the request was given up"))
    }
    guard backend.admits else {
      guard backend.isClosed else { return turnedAway(index, backend, .tooManyCalls) }
      backend.fence?.leave()
      return submitToSuccessor(leg: index, ops: unit, of: backend)
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
        leg.request.applied(leg.index, result!)
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
    if backend.directness.mode(.apply) == BP_MODE_DIRECT && mark.pointee.nesting < ReadPath.nestingMax {
      mark.nested { apply(backend, &request, startNs) }
      if legs.withLock({ $0.outcomes[index] == nil }) { BrokenPromise.revoke(backend, .apply, token) }
    } else {
      register()
      let request = UncheckedUnit(unit: request)
      Dispatcher.run(backend, .apply, token) { [self] in
        var unit = request.unit
        apply(backend, &unit, Clock.monotonicNs())
      }
    }
  }

  private func apply(_ backend: Instance, _ unit: UnsafeMutablePointer<bp_unit>, _ startNs: UInt64) {
    ThreadMark.own.during(
      .apply, backend.handle, generation: lease.number, startNs: startNs, header: call.header
    ) { backend.backend!.pointee.apply(backend.pointer, unit, 1) }
  }

  private func target(_ index: Int) -> Instance { legs.withLock { $0.targets[index] } }

  private struct UncheckedOps: @unchecked Sendable {
    // @unchecked: they lie in the request's arena, which outlives the call.
    let pointer: UnsafeMutablePointer<bp_op>
  }

  private struct UncheckedUnit: @unchecked Sendable {
    // @unchecked: its pointers lie in the request's arena, which outlives the call.
    let unit: bp_unit
  }

  private struct UncheckedMessage: @unchecked Sendable {
    // @unchecked: it lies in the request's arena, which outlives the call.
    let pointer: UnsafeMutablePointer<bp_message>
  }

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
    let (isLate, isMissed, isLast) = legs.withLock { legs -> (Bool, Bool, Bool) in
      legs.outcomes[index] = leg
      return (legs.isDecided, legs.areMissesRecorded, legs.outcomes.allSatisfy { $0 != nil })
    }
    if isLate {
      // A write that was acknowledged without this backend has arrived there after all.
      if case .applied = leg, isMissed { caller.kernel.behind.caughtUp(target(index)) }
    } else if isLast {
      decide()
    } else if isConditionalUnit {
      continueConditional(index, leg)
    }
  }

  private var isConditionalUnit: Bool { backends.count > 1 && ops.contains { $0.condition != BP_IF_ANY } }

  /// With preconditions and several backends: the first that can says whether they hold, then the rest apply without.
  private func continueConditional(_ index: Int, _ leg: Leg) {
    switch leg {
    case .refusedPrecondition: decide()
    case .failed:
      let someApplied = legs.withLock { $0.outcomes.contains { if case .applied = $0 { true } else { false } } }
      if !someApplied, index + 1 < backends.count { submit(leg: index + 1, ops: unitOps!) }
    case .applied:
      let (isFirst, remaining) = legs.withLock { legs -> (Bool, [Int]) in
        let applied = legs.outcomes.filter { if case .applied = $0 { true } else { false } }.count
        return (applied == 1, legs.outcomes.indices.filter { legs.outcomes[$0] == nil && legs.tokens[$0] == 0 })
      }
      guard isFirst else { return }
      let rest = arena.allocate(MemoryLayout<bp_op>.stride * ops.count).assumingMemoryBound(to: bp_op.self)
      rest.initialize(from: ops, count: ops.count)
      for index in ops.indices { rest[index].condition = BP_IF_ANY }
      for index in remaining { submit(leg: index, ops: rest) }
    }
  }

  /// Says what the outcomes come to and answers the client; `givenUp` when that does not wait for all of them.
  private func decide(givenUp: CallFailure? = nil) {
    guard !isAnswered.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let outcomes = legs.withLock { legs -> [Leg?] in
      legs.isDecided = true
      return legs.outcomes
    }
    var accepted = 0
    var durability = BP_DURABILITY_QUORUM
    var absentEverywhere = true
    var failure: CallFailure?
    var precondition: Int?
    for outcome in outcomes {
      switch outcome {
      case .applied(let reached, let absent):
        accepted += 1
        durability = min(durability, reached)
        if absent == 0 { absentEverywhere = false }
      case .failed(let failed): failure = failure ?? failed
      case .refusedPrecondition(let op): precondition = precondition ?? op
      case nil: break
      }
    }
    let policy = lease.withGeneration { $0.writePolicy }
    guard accepted > 0, policy.isSatisfied(accepted: accepted, of: backends.count) else {
      return complete(refused(failure, precondition, givenUp))
    }
    // Recorded before the acknowledgement, so that no restart reads an old value as if it were the newest.
    for (index, outcome) in outcomes.enumerated() {
      if case .applied = outcome { continue }
      var reason = "it had not answered when the request was given up"
      if case .failed(let failed) = outcome { reason = failed.message }
      if case .refusedPrecondition = outcome { reason = "its record was another" }
      caller.kernel.missedWrites.add(1, ordering: .relaxed)
      caller.kernel.behind.missed(target(index), reason: reason)
    }
    // One that arrived while its miss was being recorded has nobody else to say so.
    let arrived = legs.withLock { legs in
      legs.areMissesRecorded = true
      return legs.outcomes.indices.filter { index in
        guard outcomes[index] == nil, case .applied = legs.outcomes[index] else { return false }
        return true
      }
    }
    for index in arrived { caller.kernel.behind.caughtUp(target(index)) }
    let isMiss = verb == BP_VERB_DELETE && absentEverywhere
    if isMiss {
      return complete(CallFailure(code: BP_NOT_FOUND, "Not found: \(uriReceived.text)"))
    }
    var result = bp_write_result()
    result.result.size = UInt32(MemoryLayout<bp_write_result>.size)
    result.durability = durability
    result.ts_ms = timestampMs
    withUnsafePointer(to: &result) {
      completion.answer(caller.handle, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
    }
    end()
  }

  private func refused(_ failure: CallFailure?, _ precondition: Int?, _ givenUp: CallFailure?) -> CallFailure {
    if let precondition {
      let uri = precondition < ops.count ? ops[precondition].uri.text : uriReceived.text
      return CallFailure(code: BP_FAILED_PRECONDITION, "Precondition failed: \(uri)")
    }
    return givenUp ?? failure ?? .noBackend
  }

  // MARK: Ending

  /// Ends the request before anything was written.
  private func finish(_ failure: CallFailure) {
    guard !isAnswered.exchange(true, ordering: .acquiringAndReleasing) else { return }
    legs.withLock { $0.isDecided = true }
    complete(failure)
  }

  private func complete(_ failure: CallFailure) {
    Answers.complete(completion, of: caller, failure, as: bp_write_result.self)
    end()
  }

  private func end() {
    answered()
    caller.kernel.requests.remove(requestToken.load(ordering: .acquiring))
  }

  func giveUp(_ code: bp_code, _ message: StaticString) {
    let isApplying = legs.withLock { $0.tokens.contains { $0 != 0 } }
    if isApplying {
      // Some backends may have it: what they reached decides, and the others are behind.
      decide(
        givenUp: CallFailure(code: code, "\(message) before enough backends took the write", isRetryable: true))
    } else {
      finish(CallFailure(code: code, "\(message)", isRetryable: true))
      if let (judge, token) = openJudgement.withLock({ $0 }) { judge.giveUp(token, code) }
    }
    let open = legs.withLock { legs in
      legs.outcomes.indices.filter { legs.outcomes[$0] == nil && legs.tokens[$0] != 0 }.map {
        (legs.targets[$0], legs.tokens[$0])
      }
    }
    for (backend, token) in open { backend.giveUp(token, code) }
  }
}
