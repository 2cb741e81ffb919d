import BackplaneABI
import Glibc
import Synchronization

/// Moves what an instance keeps in memory to its successor (backplane/state.h): the chunks that one exports are imported
/// by the other, or kept until there is one.
///
/// One thread at a time drives it; it blocks that thread and bounds it by a deadline. Plugins are called on threads of
/// their own, so that one that does not come back is left behind.
final class StateTransfer {
  enum Failure: Error {
    /// The successor does not read the format: it begins without the state.
    case unreadable(String)
    /// The handover must not go on.
    case failed(String)
  }

  struct Limits {
    var sizeBytesMax: Int
    /// CLOCK_MONOTONIC.
    var deadlineNs: UInt64
  }

  /// Chunks that may be on their way at once.
  static let credits: UInt32 = 4
  static let chunkSizeBytesMax = Int(BP_STATE_CHUNK_BYTES_MAX)

  private let source: Instance
  /// All that was exported so far, in both phases.
  private(set) var sizeBytes = 0
  private var kept: [(phase: UInt32, bytes: [UInt8])] = []
  private var isExporting = false

  init(from source: Instance) { self.source = source }

  /// Why `successor` cannot have the state; nil when it can.
  static func obstacle(_ source: Instance, _ successor: Instance) -> String? {
    guard let exported = source.stateTable?.pointee.format_version else { return "there is no state to hand over" }
    guard source.image.id == successor.image.id else {
      return "the state of \(source.image.id) means nothing to \(successor.image.id)"
    }
    guard let table = successor.stateTable else {
      return "version \(successor.image.version) takes no state"
    }
    let oldest = table.pointee.format_version_oldest
    let newest = table.pointee.format_version
    guard exported >= oldest, exported <= newest else {
      return "the state is of format \(exported), and version \(successor.image.version) reads "
        + (oldest == newest ? "\(newest)" : "\(oldest) to \(newest)")
    }
    return nil
  }

  /// Exports one phase and gives it to `successor`, or keeps it when that is nil.
  func move(_ phase: UInt32, to successor: Instance?, _ limits: Limits) throws(Failure) {
    isExporting = true
    try awaitEarlierExport(limits.deadlineNs)
    let export = Export(source, phase)
    export.begin(limits.deadlineNs)
    var sequence: UInt64 = 0
    do throws(Failure) {
      while let chunk = try export.next(limits.deadlineNs) {
        sizeBytes += chunk.count
        guard sizeBytes <= limits.sizeBytesMax else {
          throw .failed("it is larger than \(limits.sizeBytesMax) bytes (limits.state_handover_size_bytes_max)")
        }
        if let successor {
          try StateTransfer.give(chunk, phase, sequence, isLast: false, of: source, to: successor, limits.deadlineNs)
        } else {
          kept.append((phase, chunk))
        }
        sequence += 1
        export.grant(1)
      }
      guard let successor else { return }
      try StateTransfer.give([], phase, sequence, isLast: true, of: source, to: successor, limits.deadlineNs)
    } catch {
      export.cancel()
      throw error
    }
  }

  /// At most one export is open on an instance (state.h): one of a handover that was given up may not have ended yet.
  private func awaitEarlierExport(_ deadlineNs: UInt64) throws(Failure) {
    while source.isExporting.load(ordering: .acquiring) {
      guard Clock.monotonicNs() < deadlineNs else {
        throw .failed("an export of it that was given up has not ended (reload.handover_timeout_ms)")
      }
      usleep(1000)
    }
  }

  /// Gives what was kept.
  func deliver(to successor: Instance, deadlineNs: UInt64) throws(Failure) {
    for phase in [BP_STATE_SNAPSHOT, BP_STATE_REST] {
      let chunks = kept.filter { $0.phase == phase }.map(\.bytes) + [[]]
      for (sequence, chunk) in chunks.enumerated() {
        try StateTransfer.give(
          chunk, phase, UInt64(sequence), isLast: sequence == chunks.count - 1, of: source, to: successor, deadlineNs)
      }
    }
    kept = []
  }

  /// The handover does not take place: the source stops to keep account of what changes.
  func abandon() {
    guard isExporting else { return }
    isExporting = false
    let deadlineNs = Clock.monotonicNs() + 1_000_000_000
    let export = Export(source, BP_STATE_ABANDON)
    export.begin(deadlineNs)
    do { while try export.next(deadlineNs) != nil {} } catch { export.cancel() }
  }

  /// One chunk; back when it has been taken.
  private static func give(
    _ chunk: [UInt8], _ phase: UInt32, _ sequence: UInt64, isLast: Bool, of source: Instance, to successor: Instance,
    _ deadlineNs: UInt64
  ) throws(Failure) {
    let outcome = Promise<CallFailure?>()
    let context = Unmanaged.passRetained(ImportContext(outcome, chunk))
    let token = CallSlab.shared.open(
      successor, .importState, context: context.toOpaque(),
      handler: { context, result in
        let context = Unmanaged<ImportContext>.fromOpaque(context!).takeRetainedValue()
        context.outcome.set(result!.pointee.code == BP_OK ? CallFailure?.none : CallFailure(result!))
      }, startNs: Clock.monotonicNs())
    guard token != 0 else {
      context.release()
      throw .failed("too many calls are open")
    }
    let import_ = Import(
      successor: successor, context: context.takeUnretainedValue(), phase: phase, sequence: sequence, isLast: isLast,
      format: source.stateTable!.pointee.format_version, token: token, deadlineNs: deadlineNs)
    successor.stateCalls.add(1, ordering: .relaxed)
    guard let thread = Thread.start(name: "bp-import", { import_.run() }) else {
      successor.stateCalls.subtract(1, ordering: .releasing)
      Answers.with(BP_RESOURCE_EXHAUSTED, "no thread", as: bp_list_result.self) { CallSlab.shared.revoke(token, $0) }
      throw .failed("the system has no thread to give")
    }
    pthread_detach(thread)
    guard let ended = outcome.get(untilNs: deadlineNs) else {
      if import_.context.turn.giveUp() { successor.cancel(token) }
      throw .failed("the successor had not taken it in time (reload.handover_timeout_ms)")
    }
    guard let failure = ended else { return }
    let reason = failure.reason
    // state.h: said to the first chunk and to no other.
    if failure.code == BP_UNIMPLEMENTED, phase == BP_STATE_SNAPSHOT, sequence == 0 { throw .unreadable(reason) }
    throw .failed("the successor did not take it: \(reason)")
  }

  /// Keeps the bytes until the plugin has completed.
  private final class ImportContext: Sendable {
    let outcome: Promise<CallFailure?>
    let chunk: [UInt8]
    let turn = StateCallTurn()
    init(_ outcome: Promise<CallFailure?>, _ chunk: [UInt8]) {
      self.outcome = outcome
      self.chunk = chunk
    }
  }

  private struct Import: @unchecked Sendable {
    // @unchecked: constants and references to what is Sendable.
    let successor: Instance
    let context: ImportContext
    let phase: UInt32
    let sequence: UInt64
    let isLast: Bool
    let format: UInt32
    let token: bp_token
    let deadlineNs: UInt64

    func run() {
      let call = OwnedCall(StateTransfer.call(deadlineNs), generation: 0, timeoutNsMax: 3_600_000_000_000)
      context.chunk.withUnsafeBufferPointer { bytes in
        var request = bp_state_import(
          size: UInt32(MemoryLayout<bp_state_import>.size), flags: isLast ? BP_STATE_LAST : 0, format_version: format,
          phase: phase, sequence: sequence, bytes: bp_view(bytes))
        if context.turn.begin() {
          ThreadMark.own.during(
            .importState, successor.handle, startNs: Clock.monotonicNs(), header: call.header
          ) { successor.stateTable!.pointee.import_state(successor.pointer, call.header, &request, token) }
        } else {
          StateCallTurn.revoke(token)
        }
        successor.stateCalls.subtract(1, ordering: .releasing)
        // The request's memory is the plugin's until it completes.
        _ = context.outcome.get()
      }
      withExtendedLifetime((context, call)) {}
    }
  }

  fileprivate static func call(_ deadlineNs: UInt64) -> bp_call {
    bp_call(
      size: UInt32(MemoryLayout<bp_call>.size), flags: 0, deadline_ns: deadlineNs, trace_id_high: 0, trace_id_low: 0,
      span_id: 0, idempotency_key_high: 0, idempotency_key_low: 0, parent: 0, generation: 0, peer: .empty)
  }
}

/// One phase on its way out of an instance: its chunks, as far as credits allow.
private final class Export: @unchecked Sendable {
  // @unchecked: what changes is under the lock; the token is written before the export begins.
  private struct State {
    var chunks: [[UInt8]] = []
    var credits = StateTransfer.credits
    var ended: CallFailure??
    var news = Promise<Bool>()
  }

  private let source: Instance
  private let phase: UInt32
  private let state = Mutex(State())
  private var token: bp_token = 0
  private let ended = Promise<Bool>()
  private let turn = StateCallTurn()

  init(_ source: Instance, _ phase: UInt32) {
    self.source = source
    self.phase = phase
  }

  func begin(_ deadlineNs: UInt64) {
    let context = Unmanaged.passRetained(self)
    token = CallSlab.shared.open(
      source, .exportState, context: context.toOpaque(),
      handler: { context, result in
        Unmanaged<Export>.fromOpaque(context!).takeRetainedValue().completed(result!)
      },
      chunkHandler: { context, chunk in
        Unmanaged<Export>.fromOpaque(context!).takeUnretainedValue().emitted(chunk!)
      }, startNs: Clock.monotonicNs())
    guard token != 0 else {
      context.release()
      return end(.tooManyCalls)
    }
    if phase != BP_STATE_ABANDON { source.isExporting.store(true, ordering: .releasing) }
    source.stateCalls.add(1, ordering: .relaxed)
    let thread = Thread.start(name: "bp-export") { [self] in
      let call = OwnedCall(StateTransfer.call(deadlineNs), generation: 0, timeoutNsMax: 3_600_000_000_000)
      var request = bp_state_export(
        size: UInt32(MemoryLayout<bp_state_export>.size), phase: phase, credits: StateTransfer.credits, reserved: 0)
      if turn.begin() {
        ThreadMark.own.during(
          .exportState, source.handle, startNs: Clock.monotonicNs(), header: call.header
        ) { source.stateTable!.pointee.export_state(source.pointer, call.header, &request, token) }
      } else {
        StateCallTurn.revoke(token)
      }
      source.stateCalls.subtract(1, ordering: .releasing)
      // The call's header is the plugin's until it completes.
      _ = ended.get()
      withExtendedLifetime(call) {}
    }
    guard let thread else {
      source.stateCalls.subtract(1, ordering: .releasing)
      Answers.with(BP_RESOURCE_EXHAUSTED, "no thread", as: bp_list_result.self) { CallSlab.shared.revoke(token, $0) }
      return
    }
    pthread_detach(thread)
  }

  private func emitted(_ chunk: UnsafePointer<bp_chunk>) -> bp_code {
    let bytes = chunk.pointee.bytes.bytes
    guard bytes.count <= StateTransfer.chunkSizeBytesMax else { return BP_INVALID_ARGUMENT }
    return state.withLock { state in
      guard state.ended == nil else { return BP_CANCELLED }
      guard state.credits > 0 else { return BP_RESOURCE_EXHAUSTED }
      state.credits -= 1
      state.chunks.append(Array(bytes))
      state.news.set(true)
      return BP_OK
    }
  }

  private func completed(_ result: UnsafePointer<bp_result>) {
    if phase != BP_STATE_ABANDON { source.isExporting.store(false, ordering: .releasing) }
    end(result.pointee.code == BP_OK ? nil : CallFailure(result))
    ended.set(true)
  }

  private func end(_ failure: CallFailure?) {
    state.withLock { state in
      if state.ended == nil { state.ended = .some(failure) }
      state.news.set(true)
    }
  }

  /// The next chunk, or nil after the last.
  func next(_ deadlineNs: UInt64) throws(StateTransfer.Failure) -> [UInt8]? {
    while true {
      let (chunk, end, news) = state.withLock { state -> ([UInt8]?, CallFailure??, Promise<Bool>) in
        if !state.chunks.isEmpty { return (state.chunks.removeFirst(), nil, state.news) }
        if state.ended == nil { state.news = Promise() }
        return (nil, state.ended, state.news)
      }
      if let chunk { return chunk }
      if let end {
        guard let failure = end else { return nil }
        let reason = failure.reason
        throw .failed("it could not be exported: \(reason)")
      }
      guard news.get(untilNs: deadlineNs) != nil else {
        throw .failed("it had not been exported in time (reload.handover_timeout_ms)")
      }
    }
  }

  func grant(_ credits: UInt32) {
    let isOpen = state.withLock { state in
      state.credits += credits
      return state.ended == nil
    }
    guard isOpen, let grant = source.plugin?.pointee.grant else { return }
    ThreadMark.own.during(.grant, source.handle) { grant(source.pointer, token, credits) }
  }

  /// Nobody listens any more: what is emitted is refused.
  func cancel() {
    end(CallFailure(code: BP_CANCELLED, "the handover was given up"))
    if turn.giveUp() { source.cancel(token) }
  }
}

/// Who comes first: the thread that calls the plugin, or the handover that is given up. On a busy machine that thread may
/// get its turn long after nobody waits for it any more, and the plugin must not be called then.
private final class StateCallTurn: Sendable {
  private static let waiting = 0
  private static let begun = 1
  private static let givenUp = 2
  private let state = Atomic<Int>(StateCallTurn.waiting)

  /// False when the call has been given up.
  func begin() -> Bool {
    state.compareExchange(
      expected: StateCallTurn.waiting, desired: StateCallTurn.begun, ordering: .acquiringAndReleasing
    ).exchanged
  }

  /// True when the plugin has been called, and is to be told.
  func giveUp() -> Bool {
    !state.compareExchange(
      expected: StateCallTurn.waiting, desired: StateCallTurn.givenUp, ordering: .acquiringAndReleasing
    ).exchanged
  }

  /// Ends a call that the plugin never got.
  static func revoke(_ token: bp_token) {
    Answers.with(BP_CANCELLED, "the handover was given up", as: bp_list_result.self) {
      CallSlab.shared.revoke(token, $0)
    }
  }
}
