import BackplaneABI
import Synchronization

/// Reading one record: backends in order, the first that has it.
///
/// The fast path allocates nothing: as long as backends answer before their `read` returns, all state is one struct on
/// the stack. The first backend that does not makes a `ReadRequest` of it.
enum ReadPath {
  /// Inline completions may nest so deep; then the work moves to the kernel's threads (core.h, "Re-entry").
  static let nestingMax: UInt32 = 8

  private struct DirectRead {
    let completion: bp_completion
    let caller: bp_instance
    var isDone = false
    var isAnswered = false
    var code: bp_code = BP_OK
    var failure: CallFailure?
    /// The lease is on a generation whose backend has been replaced: read in the published one.
    var hasMoved = false
  }

  /// How a read stands when `read` returns.
  struct End {
    /// For `cancel` when the answer is still to come, else 0.
    var token: bp_token
    /// With what it was answered, and how long it took, when it was.
    var code: bp_code
    var elapsedNs: UInt64
  }

  /// - Parameter lease: stays the caller's.
  /// - Returns: how it stands. `answered` is called once, after the completion has returned, when the answer was still to
  ///   come; not otherwise.
  static func read(
    _ caller: Instance, _ call: bp_call, _ uri: NormalURI, _ lease: Lease, _ completion: bp_completion,
    answered: RequestEnd?
  ) -> End {
    let mark = ThreadMark.own
    let sinceNs = Clock.monotonicNs()
    mark.pointee.nesting += 1
    defer { mark.pointee.nesting -= 1 }
    var frame = DirectRead(completion: completion, caller: caller.handle)
    var missed = false
    var pending: bp_token = 0
    var position = 0
    lease.withGeneration { generation in
      generation.forEachReadable { backend, isBehind in
        // A miss of an up-to-date backend is an answer: one that is behind is asked only when the others failed.
        if missed && isBehind { return false }
        guard backend.directness.mode(.read) == BP_MODE_DIRECT, mark.pointee.nesting <= nestingMax else {
          let request = ReadRequest(
            caller, call, uri.bytes, lease, completion, from: position, missed: missed, failure: frame.failure,
            answered: answered)
          pending = request.start()
          return false
        }
        position += 1
        let startNs = position == 1 ? sinceNs : Clock.monotonicNs()
        directly(backend, call, uri, lease.number, mark, startNs, &frame)
        if frame.isAnswered || frame.hasMoved { return false }
        if frame.code == BP_NOT_FOUND { missed = true }
        return true
      }
    }
    if pending != 0 { return End(token: pending, code: BP_OK, elapsedNs: 0) }
    // The last backend's answer is the read's, but for what the caller did with it.
    func ended(_ code: bp_code) -> End {
      End(token: 0, code: code, elapsedNs: max(mark.pointee.completed_ns, sinceNs) - sinceNs)
    }
    if frame.isAnswered { return ended(BP_OK) }
    if frame.hasMoved {
      let ring = caller.kernel.ring
      guard let fresh = ring.acquire(newerThan: lease) else {
        Answers.complete(completion, of: caller, .slotGone, as: bp_read_result.self)
        return ended(CallFailure.slotGone.code)
      }
      defer { ring.release(fresh) }
      return read(caller, call, uri, fresh, completion, answered: answered)
    }
    if missed {
      if lease.withGeneration({ Pull.isWanted(call.flags, $0) }) {
        let request = ReadRequest(
          caller, call, uri.bytes, lease, completion, from: .max, missed: true, failure: nil, answered: answered)
        return End(token: request.start(), code: BP_OK, elapsedNs: 0)
      }
      Answers.complete(completion, BP_NOT_FOUND, as: bp_read_result.self)
      return ended(BP_NOT_FOUND)
    }
    let failure = frame.failure ?? .noBackend
    Answers.complete(completion, of: caller, failure, as: bp_read_result.self)
    return ended(failure.code)
  }

  /// One direct call.
  @inline(__always)
  private static func directly(
    _ backend: Instance, _ call: bp_call, _ uri: NormalURI, _ generation: UInt64, _ mark: ThreadMark,
    _ startNs: UInt64, _ frame: inout DirectRead
  ) {
    guard backend.admits else {
      frame.hasMoved = backend.isClosed
      frame.failure = .tooManyCalls
      frame.code = BP_RESOURCE_EXHAUSTED
      return
    }
    frame.isDone = false
    var header = call
    header.parent = 0
    header.generation = generation
    withUnsafeMutablePointer(to: &frame) { frame in
      let token = CallSlab.shared.open(
        backend, .read, context: frame,
        handler: { context, result in
          let frame = context!.assumingMemoryBound(to: DirectRead.self)
          frame.pointee.isDone = true
          frame.pointee.code = result!.pointee.code
          if result!.pointee.code == BP_OK {
            frame.pointee.isAnswered = true
            frame.pointee.completion.answer(frame.pointee.caller, result!)
          } else if result!.pointee.code != BP_NOT_FOUND {
            frame.pointee.failure = CallFailure(result!)
          }
        }, startNs: startNs)
      guard token != 0 else {
        frame.pointee.failure = .tooManyCalls
        frame.pointee.code = BP_RESOURCE_EXHAUSTED
        return
      }
      withUnsafePointer(to: &header) { header in
        var request = bp_read(
          size: UInt32(MemoryLayout<bp_read>.size), flags: 0, token: token, call: header, uri: bp_view(uri.bytes))
        mark.during(.read, backend.handle, generation: generation, startNs: startNs, header: header) {
          backend.backend!.pointee.read(backend.pointer, &request, 1)
        }
      }
      // It promised to complete before returning. The frame is on our stack, so the token is taken back at once.
      if !frame.pointee.isDone { BrokenPromise.revoke(backend, .read, token) }
    }
  }
}

/// Plugins that said `direct` and were not.
enum BrokenPromise {
  /// Takes back a token that a direct function left open, and calls the operation by threads from now on.
  static func revoke(_ instance: Instance, _ operation: Operation, _ token: bp_token) {
    instance.directness.declare(operation, BP_MODE_BLOCKING)
    instance.kernel.log.warning(
      "a plugin returned from a direct operation without completing it; the operation runs on threads from now on",
      ["slot": instance.slot.name, "plugin": instance.image.id, "operation": operation.name])
    Answers.with(
      BP_INTERNAL, "the plugin did not complete a call that it declared direct", as: bp_list_result.self
    ) { CallSlab.shared.revoke(token, $0) }
  }

  /// A call of a direct operation took over a millisecond.
  @inline(never)
  static func wasSlow(_ instance: Instance, _ operation: Operation) {
    let calls = instance.statistics.snapshot(operation).count
    guard instance.directness.wasSlow(operation, nowNs: Clock.monotonicNs(), calls: calls) else { return }
    instance.kernel.log.warning(
      "five direct calls took over 1 ms within a minute; the operation runs on threads from now on",
      ["slot": instance.slot.name, "plugin": instance.image.id, "operation": operation.name])
  }
}
