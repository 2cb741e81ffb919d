import BackplaneABI
import Synchronization

/// What the host runs when a plugin completes a token. Views in the result are valid during the call.
typealias CallHandler =
  @convention(c) (_ context: UnsafeMutableRawPointer?, _ result: UnsafePointer<bp_result>?) -> Void

/// What the host runs for a chunk of a stream; answers the code for `emit`.
typealias ChunkHandler =
  @convention(c) (_ context: UnsafeMutableRawPointer?, _ chunk: UnsafePointer<bp_chunk>?) -> bp_code

/// The calls that are open in plugins: a fixed slab, so that a token is an index and a sequence number and never a
/// pointer, opening a call allocates nothing, and the number of open calls is bounded.
///
/// A record's word is (sequence << 8 | phase). Only whoever moves the word from `open` to `free` may touch the record's
/// handler, so a completion happens once whatever a plugin does.
final class CallSlab: @unchecked Sendable {
  // @unchecked: the records are plain memory, handed from thread to thread by the atomic word of each and by the free
  // list; see `open` and `close`.
  static let shared = CallSlab(capacity: 65_536)

  private static let indexBits: UInt64 = 20
  private static let phaseFree: UInt64 = 0
  private static let phaseOpen: UInt64 = 1

  private struct Record: ~Copyable {
    let word = Atomic<UInt64>(1 << 8)
    let nextFree = Atomic<UInt32>(0)
    var instance: Unmanaged<Instance>?
    var handle: bp_instance = 0
    var handler: CallHandler?
    var chunkHandler: ChunkHandler?
    var context: UnsafeMutableRawPointer?
    var startNs: UInt64 = 0
    var operation: Operation = .read
  }

  let capacity: Int
  private let records: UnsafeMutablePointer<Record>
  /// (tag << 32 | index + 1): the tag makes a stale head fail its exchange.
  private let freeHead: Atomic<UInt64>
  /// Completions that named an unknown, finished or foreign token.
  let ignoredCompletions = Atomic<UInt64>(0)

  init(capacity: Int) {
    precondition(capacity > 0 && capacity < 1 << CallSlab.indexBits, "a token has \(CallSlab.indexBits) bits of index")
    self.capacity = capacity
    records = .allocate(capacity: capacity)
    for index in 0..<capacity {
      (records + index).initialize(to: Record())
      (records + index).pointee.nextFree.store(UInt32(index + 1 < capacity ? index + 2 : 0), ordering: .relaxed)
    }
    freeHead = Atomic(1)
  }

  /// Opens a call of `instance`, or answers 0 when too many are open. The handler will be called exactly once, by
  /// `complete` or by `revoke`; keep `context` alive until then.
  @inline(__always)
  func open(
    _ instance: Instance, _ operation: Operation, context: UnsafeMutableRawPointer?, handler: CallHandler,
    chunkHandler: ChunkHandler? = nil, startNs: UInt64
  ) -> bp_token {
    var head = freeHead.load(ordering: .acquiring)
    var index: Int
    repeat {
      let low = UInt32(truncatingIfNeeded: head)
      guard low != 0 else { return 0 }
      index = Int(low - 1)
      let next = (records + index).pointee.nextFree.load(ordering: .relaxed)
      let (exchanged, seen) = freeHead.compareExchange(
        expected: head, desired: (((head >> 32) &+ 1) << 32) | UInt64(next), successOrdering: .acquiringAndReleasing,
        failureOrdering: .acquiring)
      if exchanged { break }
      head = seen
    } while true
    let record = records + index
    let sequence = record.pointee.word.load(ordering: .relaxed) >> 8
    record.pointee.instance = Unmanaged.passUnretained(instance)
    record.pointee.handle = instance.handle
    record.pointee.handler = handler
    record.pointee.chunkHandler = chunkHandler
    record.pointee.context = context
    record.pointee.startNs = startNs
    record.pointee.operation = operation
    record.pointee.word.store(sequence << 8 | CallSlab.phaseOpen, ordering: .releasing)
    // Whoever closes the instance and then finds nothing in flight must not overlook us: we see it closed then.
    instance.inFlight.add(1, ordering: .sequentiallyConsistent)
    if operation.isData, instance.isClosed {
      withdraw(index, sequence, instance)
      return 0
    }
    return sequence << CallSlab.indexBits | UInt64(index)
  }

  /// A plugin completes a token. Runs the handler before it returns; false when the token was not a live one of
  /// `handle`.
  @inline(__always)
  func complete(_ handle: bp_instance, _ token: bp_token, _ result: UnsafePointer<bp_result>) -> Bool {
    close(token, handle: handle, result)
  }

  /// The host takes back a token whose instance will never complete it: the handler gets `result`, and a late
  /// completion is ignored.
  @discardableResult
  func revoke(_ token: bp_token, _ result: UnsafePointer<bp_result>) -> Bool {
    close(token, handle: nil, result)
  }

  @inline(__always)
  private func close(_ token: bp_token, handle: bp_instance?, _ result: UnsafePointer<bp_result>) -> Bool {
    let index = Int(truncatingIfNeeded: token & ((1 << CallSlab.indexBits) - 1))
    guard index < capacity else { return ignore(handle) }
    let record = records + index
    let sequence = token >> CallSlab.indexBits
    let open = sequence << 8 | CallSlab.phaseOpen
    guard record.pointee.word.load(ordering: .acquiring) == open else { return ignore(handle) }
    // While the word is `open` with our sequence the fields are of our call: the exchange below fails otherwise.
    if let handle, record.pointee.handle != handle { return ignore(handle) }
    let instance = record.pointee.instance!
    let handler = record.pointee.handler!
    let context = record.pointee.context
    let startNs = record.pointee.startNs
    let operation = record.pointee.operation
    guard
      record.pointee.word.compareExchange(
        expected: open, desired: (sequence &+ 1) << 8 | CallSlab.phaseFree, ordering: .acquiringAndReleasing
      ).exchanged
    else { return ignore(handle) }
    push(index)
    instance._withUnsafeGuaranteedRef { instance in
      let nowNs = Clock.monotonicNs()
      ThreadMark.own.pointee.completed_ns = nowNs
      let elapsedNs = nowNs &- startNs
      instance.statistics.record(operation, result.pointee.code, elapsedNs: elapsedNs)
      if elapsedNs > Directness.slowCallNs, instance.directness.mode(operation) == BP_MODE_DIRECT {
        BrokenPromise.wasSlow(instance, operation)
      }
      instance.inFlight.subtract(1, ordering: .releasing)
    }
    handler(context, result)
    return true
  }

  /// A plugin emits a chunk of a stream.
  func emit(_ handle: bp_instance, _ token: bp_token, _ chunk: UnsafePointer<bp_chunk>) -> bp_code {
    let index = Int(truncatingIfNeeded: token & ((1 << CallSlab.indexBits) - 1))
    guard index < capacity else { return BP_CLOSED }
    let record = records + index
    let open = (token >> CallSlab.indexBits) << 8 | CallSlab.phaseOpen
    guard record.pointee.word.load(ordering: .acquiring) == open, record.pointee.handle == handle else {
      return BP_CLOSED
    }
    guard let handler = record.pointee.chunkHandler else { return BP_UNIMPLEMENTED }
    return handler(record.pointee.context, chunk)
  }

  /// Takes back a call that nobody has been told of.
  @inline(never)
  private func withdraw(_ index: Int, _ sequence: UInt64, _ instance: Instance) {
    (records + index).pointee.word.store((sequence &+ 1) << 8 | CallSlab.phaseFree, ordering: .releasing)
    instance.inFlight.subtract(1, ordering: .releasing)
    push(index)
  }

  /// What an open call of `handle` is; nil when the token is not a live one of it.
  @inline(__always)
  func operation(_ handle: bp_instance, _ token: bp_token) -> Operation? {
    let index = Int(truncatingIfNeeded: token & ((1 << CallSlab.indexBits) - 1))
    guard index < capacity else { return nil }
    let record = records + index
    let open = (token >> CallSlab.indexBits) << 8 | CallSlab.phaseOpen
    guard record.pointee.word.load(ordering: .acquiring) == open, record.pointee.handle == handle else { return nil }
    return record.pointee.operation
  }

  private func push(_ index: Int) {
    var head = freeHead.load(ordering: .relaxed)
    while true {
      (records + index).pointee.nextFree.store(UInt32(truncatingIfNeeded: head), ordering: .relaxed)
      let (exchanged, seen) = freeHead.compareExchange(
        expected: head, desired: (((head >> 32) &+ 1) << 32) | UInt64(index + 1), successOrdering: .releasing,
        failureOrdering: .relaxed)
      if exchanged { return }
      head = seen
    }
  }

  /// - Parameter handle: whose completion it is; nil when the host took the call back, which is nobody's mistake.
  @inline(never)
  private func ignore(_ handle: bp_instance?) -> Bool {
    ignoredCompletions.add(1, ordering: .relaxed)
    if let handle { InstanceRegistry.shared.find(handle)?.wasIgnored() }
    return false
  }

  /// The calls that are open in `instance`, with the time they began. Not for the hot path.
  func openCalls(of instance: Instance) -> [(operation: Operation, startNs: UInt64)] {
    var calls: [(operation: Operation, startNs: UInt64)] = []
    forEachOpen(of: instance) { record, word, _ in
      let call = (record.pointee.operation, record.pointee.startNs)
      // A record that was closed meanwhile says nothing.
      if record.pointee.word.load(ordering: .acquiring) == word { calls.append(call) }
    }
    return calls
  }

  /// Tokens of `instance` that are still open, for what must be failed when it stops. Not for the hot path.
  func openTokens(of instance: Instance) -> [bp_token] {
    var tokens: [bp_token] = []
    forEachOpen(of: instance) { _, word, index in
      tokens.append((word >> 8) << CallSlab.indexBits | UInt64(index))
    }
    return tokens
  }

  private func forEachOpen(
    of instance: Instance, _ body: (_ record: UnsafeMutablePointer<Record>, _ word: UInt64, _ index: Int) -> Void
  ) {
    var index = 0
    while index < capacity {
      let record = records + index
      let word = record.pointee.word.load(ordering: .acquiring)
      if word & 0xff == CallSlab.phaseOpen, record.pointee.handle == instance.handle { body(record, word, index) }
      index += 1
    }
  }
}
