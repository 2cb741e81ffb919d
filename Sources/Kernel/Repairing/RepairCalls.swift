import BackplaneABI
import Synchronization

/// One batch of a repair at the backend: looks which records it has in a later version already, and writes the others,
/// each as a unit of its own.
final class RepairCalls: @unchecked Sendable {
  // @unchecked: the memory that calls point to is made in init and not written after that; the outcomes are under a
  // lock. Each open call holds a reference.

  /// A put or a delete of one record.
  struct Write {
    let unit: MissedUnit
    let op: MissedUnit.Op

    init(_ unit: MissedUnit, _ op: Int) {
      self.unit = unit
      self.op = unit.ops[op]
    }
  }

  enum Outcome {
    /// The backend could not be asked.
    case failed(CallFailure)
    /// Every call has ended; those that failed, by the index of the write.
    case ended([(index: Int, failure: CallFailure)])
  }

  private let instance: Instance
  private let writes: [Write]
  private let arena = Arena()
  private let header: UnsafeMutablePointer<bp_call>
  private let ops: UnsafeMutablePointer<bp_op>

  private struct State {
    /// Calls that have not ended, and one for whoever makes them.
    var open = 0
    var failures: [(index: Int, failure: CallFailure)] = []
    var tokens: [bp_token] = []
    /// Writes whose record is there in the same or a later version.
    var isThere: Set<Int> = []
    var ended = Promise<Bool>()
  }
  private let state = Mutex(State())

  init(_ instance: Instance, _ generation: UInt64, _ writes: [Write], deadlineNs: UInt64) {
    self.instance = instance
    self.writes = writes
    header = arena.allocate(MemoryLayout<bp_call>.size).assumingMemoryBound(to: bp_call.self)
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    call.deadline_ns = deadlineNs
    call.generation = generation
    header.initialize(to: call)
    ops = arena.allocate(MemoryLayout<bp_op>.stride * writes.count).assumingMemoryBound(to: bp_op.self)
    for (index, write) in writes.enumerated() {
      var op = bp_op()
      op.size = UInt32(MemoryLayout<bp_op>.size)
      op.verb = write.op.verb
      op.content = write.op.content
      op.uri = write.op.uri.withUnsafeBufferPointer { arena.copy(bp_view($0)) }
      op.data = write.unit.payload[write.op.data].withUnsafeBufferPointer { arena.copy(bp_view($0)) }
      (ops + index).initialize(to: op)
    }
  }

  private var deadlineNs: UInt64 { header.pointee.deadline_ns }

  /// Blocks until every call has ended. A thread of the repair's.
  func run() -> Outcome {
    if instance.backend!.pointee.flags & BP_BACKEND_VERSIONS != 0 {
      if let failure = during({ look() }) { return .failed(failure) }
      let failures = state.withLock { $0.failures }
      if let first = failures.first { return .failed(first.failure) }
    }
    if let failure = during({ write() }) { return .failed(failure) }
    return .ended(state.withLock { $0.failures })
  }

  /// Makes calls and waits for their end.
  private func during(_ make: () -> CallFailure?) -> CallFailure? {
    let ended = Promise<Bool>()
    state.withLock { state in
      state.open = 1
      state.tokens = []
      state.ended = ended
    }
    let failure = make()
    end()
    if ended.get(untilNs: deadlineNs) == nil {
      // Most of them are finished, which makes this nothing.
      for token in state.withLock({ $0.tokens }) { instance.giveUp(token, BP_DEADLINE_EXCEEDED) }
      // They are the plugin's until it completes them, as every call is: it may not get the same ones twice at a time.
      _ = ended.get()
    }
    return failure
  }

  private func end() {
    let promise = state.withLock { state -> Promise<Bool>? in
      state.open -= 1
      return state.open == 0 ? state.ended : nil
    }
    promise?.set(true)
  }

  /// One open call: which write it is about.
  private final class Context: @unchecked Sendable {
    // @unchecked: immutable.
    let calls: RepairCalls
    let index: Int
    init(_ calls: RepairCalls, _ index: Int) {
      self.calls = calls
      self.index = index
    }
  }

  /// 0: too many calls are open, or the instance is going.
  private func open(_ index: Int, _ operation: Operation, _ handler: CallHandler) -> bp_token {
    let context = Unmanaged.passRetained(Context(self, index))
    let token =
      instance.admits
      ? CallSlab.shared.open(
        instance, operation, context: context.toOpaque(), handler: handler, startNs: Clock.monotonicNs()) : 0
    guard token != 0 else {
      context.release()
      return 0
    }
    state.withLock { state in
      state.open += 1
      state.tokens.append(token)
    }
    return token
  }

  private func fail(_ index: Int, _ failure: CallFailure) {
    state.withLock { $0.failures.append((index, failure)) }
  }

  // MARK: Looking

  /// A later version got there by another way: a second node that writes to the same database, or a repair that was
  /// interrupted after it had written and before it had taken that out of its journal.
  private func look() -> CallFailure? {
    var reads: [bp_read] = []
    for index in writes.indices {
      let token = open(index, .read) { context, result in
        let context = Unmanaged<Context>.fromOpaque(context!).takeRetainedValue()
        context.calls.looked(context.index, result!)
        context.calls.end()
      }
      guard token != 0 else { return submit(reads) ?? Admission.failure(instance) }
      reads.append(
        bp_read(
          size: UInt32(MemoryLayout<bp_read>.size), flags: BP_READ_WITHOUT_DATA, token: token, call: header,
          uri: ops[index].uri))
    }
    return submit(reads)
  }

  private func submit(_ reads: [bp_read]) -> CallFailure? {
    guard !reads.isEmpty else { return nil }
    let lent = UncheckedReads(reads: reads)
    let body: @Sendable () -> Void = { [self] in
      lent.reads.withUnsafeBufferPointer { reads in
        ThreadMark.own.during(
          .read, instance.handle, generation: header.pointee.generation, startNs: Clock.monotonicNs(), header: header
        ) { instance.backend!.pointee.read(instance.pointer, reads.baseAddress, UInt32(reads.count)) }
      }
    }
    switch instance.directness.mode(.read) {
    case BP_MODE_ASYNC: body()
    case BP_MODE_DIRECT:
      body()
      for read in reads where CallSlab.shared.operation(instance.handle, read.token) != nil {
        BrokenPromise.revoke(instance, .read, read.token)
      }
    default:
      guard !instance.workers(.read).submit(body) else { break }
      for read in reads {
        Answers.with(.slotGone, as: bp_read_result.self) { CallSlab.shared.revoke(read.token, $0) }
      }
    }
    return nil
  }

  private struct UncheckedReads: @unchecked Sendable {
    // @unchecked: what they point to lies in the arena, and every open call holds a reference to that.
    let reads: [bp_read]
  }

  private func looked(_ index: Int, _ result: UnsafePointer<bp_result>) {
    switch result.pointee.code {
    case BP_OK:
      let found = UnsafeRawPointer(result).assumingMemoryBound(to: bp_read_result.self).pointee
      if found.record.version >= writes[index].unit.version { state.withLock { _ = $0.isThere.insert(index) } }
    case BP_NOT_FOUND: break
    default: fail(index, CallFailure(result))
    }
  }

  // MARK: Writing

  private func write() -> CallFailure? {
    let isThere = state.withLock { $0.isThere }
    for index in writes.indices where !isThere.contains(index) {
      if let fence = instance.fence {
        guard case .passed = fence.enter() else { return .slotGone }
      }
      let token = open(index, .apply) { context, result in
        let context = Unmanaged<Context>.fromOpaque(context!).takeRetainedValue()
        context.calls.instance.fence?.leave()
        if result!.pointee.code != BP_OK { context.calls.fail(context.index, CallFailure(result!)) }
        context.calls.end()
      }
      guard token != 0 else {
        instance.fence?.leave()
        return Admission.failure(instance)
      }
      var unit = bp_unit(
        size: UInt32(MemoryLayout<bp_unit>.size), ops_count: 1, ops: ops + index, token: token, call: header,
        ts_ms: writes[index].unit.timestampMs, version: writes[index].unit.version)
      guard instance.directness.mode(.apply) == BP_MODE_DIRECT else {
        instance.applyQueue.submit(unit, to: instance)
        continue
      }
      ThreadMark.own.during(
        .apply, instance.handle, generation: header.pointee.generation, startNs: Clock.monotonicNs(), header: header
      ) { instance.backend!.pointee.apply(instance.pointer, &unit, 1) }
      if CallSlab.shared.operation(instance.handle, token) != nil { BrokenPromise.revoke(instance, .apply, token) }
    }
    return nil
  }
}
