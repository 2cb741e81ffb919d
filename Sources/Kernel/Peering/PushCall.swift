import BackplaneABI
import Synchronization

/// One unit on its way to a peer. It keeps the unit's memory and a lease until the peer's backend has completed.
final class PushCall: PendingRequest, @unchecked Sendable {
  // @unchecked: the memory that the call points to is made in init and not written after that; the rest is constant or
  // atomic.
  typealias Ended = @Sendable (PushCall, CallFailure?) -> Void

  let caller: Instance
  let sequence: Int64
  let startNs = Clock.monotonicNs()
  private let lease: Lease
  private let unit: MissedUnit
  private let arena = Arena()
  private let call: OwnedCall
  private let ops: UnsafeMutablePointer<bp_op>
  private let ended: Ended
  private let token = Atomic<UInt64>(0)
  private let requestToken = Atomic<UInt64>(0)
  private let isEnded = Atomic<Bool>(false)

  /// - Parameters:
  ///   - instance: the peer's.
  ///   - lease: the caller's; this extends it.
  ///   - ended: called once, on any thread; nil: the peer has it.
  init(_ instance: Instance, _ lease: Lease, _ unit: MissedUnit, sequence: Int64, _ ended: @escaping Ended) {
    caller = instance
    self.lease = instance.kernel.ring.extend(lease)
    self.unit = unit
    self.sequence = sequence
    self.ended = ended
    var header = bp_call()
    header.size = UInt32(MemoryLayout<bp_call>.size)
    header.flags = BP_CALL_FORWARDED
    call = OwnedCall(
      header, generation: lease.number, timeoutNsMax: instance.kernel.requestTimeoutNs.load(ordering: .relaxed))
    ops = arena.allocate(MemoryLayout<bp_op>.stride * unit.ops.count).assumingMemoryBound(to: bp_op.self)
    unit.payload.withUnsafeBufferPointer { payload in
      for (index, from) in unit.ops.enumerated() {
        var op = bp_op()
        op.size = UInt32(MemoryLayout<bp_op>.size)
        op.verb = from.verb
        op.content = from.content
        op.uri = from.uri.withUnsafeBufferPointer { arena.copy(bp_view($0)) }
        op.data = arena.copy(bp_view(UnsafeBufferPointer(rebasing: payload[from.data])))
        (ops + index).initialize(to: op)
      }
    }
  }

  deinit { caller.kernel.ring.release(lease) }

  var deadlineNs: UInt64 { call.deadlineNs }

  var holding: RequestHolding? {
    call.holding(.receive, lease.number, waitsFor: isEnded.load(ordering: .acquiring) ? [] : [(caller, .apply)])
  }

  /// Hands the unit over. Nil when that was done: `ended` is called then; else why not.
  func start() -> CallFailure? {
    // Another node makes several changes of one message itself, or says that it cannot.
    guard unit.ops.count == 1 || caller.backend!.pointee.flags & (BP_BACKEND_ATOMIC | BP_BACKEND_REMOTE) != 0 else {
      return CallFailure(
        code: BP_UNIMPLEMENTED,
        "the backend in slot '\(caller.slot.name)' cannot apply several changes as one unit")
    }
    if let fence = caller.fence {
      guard case .passed = fence.enter() else { return .slotGone }
    }
    guard caller.admits else {
      caller.fence?.leave()
      return Admission.failure(caller)
    }
    let context = Unmanaged.passRetained(self)
    let opened = CallSlab.shared.open(
      caller, .apply, context: context.toOpaque(),
      handler: { context, result in
        Unmanaged<PushCall>.fromOpaque(context!).takeRetainedValue().completed(result!)
      }, startNs: startNs)
    guard opened != 0 else {
      context.release()
      caller.fence?.leave()
      return Admission.failure(caller)
    }
    token.store(opened, ordering: .releasing)
    requestToken.store(caller.kernel.requests.add(self), ordering: .releasing)
    submit(opened)
    // It may have been completed before the table knew its name.
    if isEnded.load(ordering: .sequentiallyConsistent) { leaveTable() }
    return nil
  }

  private func submit(_ token: bp_token) {
    var request = bp_unit(
      size: UInt32(MemoryLayout<bp_unit>.size), ops_count: UInt32(unit.ops.count), ops: ops, token: token,
      call: call.header, ts_ms: unit.timestampMs, version: unit.version)
    guard caller.directness.mode(.apply) == BP_MODE_DIRECT else { return caller.applyQueue.submit(request, to: caller) }
    ThreadMark.own.during(.apply, caller.handle, generation: lease.number, startNs: startNs, header: call.header) {
      caller.backend!.pointee.apply(caller.pointer, &request, 1)
    }
    if CallSlab.shared.operation(caller.handle, token) != nil { BrokenPromise.revoke(caller, .apply, token) }
  }

  private func completed(_ result: UnsafePointer<bp_result>) {
    caller.fence?.leave()
    isEnded.store(true, ordering: .sequentiallyConsistent)
    leaveTable()
    switch result.pointee.code {
    case BP_OK: ended(self, nil)
    // Gone already: what was wanted.
    case BP_NOT_FOUND where unit.ops.count == 1 && unit.ops[0].verb == BP_VERB_DELETE: ended(self, nil)
    default: ended(self, CallFailure(result))
    }
  }

  private func leaveTable() { caller.kernel.requests.remove(requestToken.load(ordering: .acquiring)) }

  /// The plugin still completes the call, and only then is the unit free to be sent again.
  func giveUp(_ code: bp_code, _ message: StaticString) { caller.giveUp(token.load(ordering: .acquiring), code) }
}
