import BackplaneABI
import Foundation
import Synchronization

/// One message on its way in: judged by the schemas of its program and of its outputs' programs, then applied as one
/// unit by every backend. It keeps the message's memory and its lease until the last backend has completed, though its
/// client may have had an answer before.
final class WriteRequest: PendingRequest, @unchecked Sendable {
  // @unchecked: the judging part runs one step at a time, each after the completion of the one before; `ops` is final
  // when the broadcast is made; the rest is atomic or under a lock.

  /// schema.h: how deep verdicts may ask for further judgement, and how many ops a message may come to: an envelope and
  /// 100,000 outputs.
  static let depthMax: UInt32 = 16
  static let opsMax = 100_001

  let caller: Instance
  let lease: Lease
  private let call: OwnedCall
  private let completion: bp_completion
  private let answered: RequestEnd
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

  /// Leases on the generations of schemas that took the place of the lease's own.
  private var successorLeases: [Lease] = []

  let isAnswered = Atomic<Bool>(false)
  private let requestToken = Atomic<UInt64>(0)
  /// The judgement that is open and not direct. Under a lock, because a deadline cancels it from a thread of its own.
  private let openJudgement = Mutex<(judge: Instance, token: bp_token)?>(nil)

  private struct WeakBroadcast {
    weak var value: Broadcast?
  }
  /// On its way to the backends. Not owned: what is open there owns it, and it owns this.
  private let broadcast = Mutex(WeakBroadcast())

  init(
    _ caller: Instance, _ call: bp_call, verb: UInt32, content: UInt32, uri: bp_view, body: bp_buffer, _ lease: Lease,
    _ completion: bp_completion, answered: @escaping RequestEnd
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
  }

  deinit {
    if let release = body.release { ThreadMark.own.during(.release, caller.handle) { release(body.owner) } }
    for lease in successorLeases { caller.kernel.ring.release(lease) }
    caller.kernel.ring.release(lease)
  }

  var deadlineNs: UInt64 { call.deadlineNs }

  /// BP_CALL_*.
  var flags: UInt32 { call.header.pointee.flags }

  var holding: RequestHolding? {
    var calls: [(instance: Instance, call: MarkedCall)] = []
    if let (judge, _) = openJudgement.withLock({ $0 }) { calls.append((judge, .judge)) }
    calls += broadcast.withLock { $0.value }?.openCalls.map { ($0.instance, .apply) } ?? []
    return call.holding(verb == BP_VERB_DELETE ? .delete : .receive, lease.number, waitsFor: calls)
  }

  func start() -> bp_token {
    guard lease.withGeneration({ !$0.backends.isEmpty }) else {
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
  func register() {
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
            code: BP_REJECTED, "the message comes to more than \(WriteRequest.opsMax) writes"))
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
      successorLeases.append(fresh)
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

  private struct UncheckedMessage: @unchecked Sendable {
    // @unchecked: it lies in the request's arena, which outlives the call.
    let pointer: UnsafeMutablePointer<bp_message>
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
        code: BP_REJECTED, "the message comes to more than \(WriteRequest.opsMax) writes")
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
      op.refusal = keep(op.refusal)
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
    let made = Broadcast(
      self, call, lease, UnsafeMutableBufferPointer(start: unit, count: ops.count), arena, timestampMs: timestampMs,
      version: version)
    broadcast.withLock { $0.value = made }
    made.start()
  }

  /// What the backends have come to. Once, on any thread.
  func applied(_ outcome: Broadcast.Outcome) {
    guard !isAnswered.exchange(true, ordering: .acquiringAndReleasing) else { return }
    switch outcome {
    case .refused(let failure): complete(failure)
    case .preconditionFailed(let op):
      let failed = op < ops.count ? ops[op] : nil
      let refusal = failed?.refusal.text ?? ""
      complete(
        CallFailure(
          code: BP_FAILED_PRECONDITION,
          refusal.isEmpty ? "Precondition failed: \((failed?.uri ?? uriReceived).text)" : refusal))
    case .accepted(_, true) where verb == BP_VERB_DELETE:
      complete(CallFailure(code: BP_NOT_FOUND, "Not found: \(uriReceived.text)"))
    case .accepted(let durability, _):
      var result = bp_write_result()
      result.result.size = UInt32(MemoryLayout<bp_write_result>.size)
      result.durability = durability
      result.ts_ms = timestampMs
      withUnsafePointer(to: &result) {
        completion.answer(caller.handle, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
      }
      end(BP_OK)
    }
  }

  // MARK: Ending

  /// Ends the request before anything was written.
  private func finish(_ failure: CallFailure) {
    guard !isAnswered.exchange(true, ordering: .acquiringAndReleasing) else { return }
    complete(failure)
  }

  private func complete(_ failure: CallFailure) {
    Answers.complete(completion, of: caller, failure, as: bp_write_result.self)
    end(failure.code)
  }

  private func end(_ code: bp_code) {
    answered(code, call.sinceNs)
    caller.kernel.requests.remove(requestToken.load(ordering: .acquiring))
  }

  func giveUp(_ code: bp_code, _ message: StaticString) {
    if let broadcast = broadcast.withLock({ $0.value }) { return broadcast.giveUp(code, message) }
    finish(CallFailure(code: code, "\(message)", isRetryable: true))
    if let (judge, token) = openJudgement.withLock({ $0 }) { judge.giveUp(token, code) }
  }
}
