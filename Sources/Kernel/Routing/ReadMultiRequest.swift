import BackplaneABI
import Synchronization

/// Several reads, one after the other, each answered as a chunk. Direct backends are read on the caller's thread; the
/// others complete one another. Once one is not direct the request is pending: it has a deadline and can be cancelled.
final class ReadMultiRequest: PendingRequest, @unchecked Sendable {
  // @unchecked: one read runs at a time, each after the completion of the one before; the rest is under the lock or
  // atomic.
  let caller: Instance
  private let call: OwnedCall
  /// The message whose judgement asks; its earlier ops are seen.
  private let parent: WriteRequest?
  private let lease: Lease
  private let completion: bp_completion
  private let answered: @Sendable () -> Void
  private let uris: [[UInt8]]
  private var index = 0
  private let turn = Atomic<Int>(0)

  private struct State {
    var isAnswered = false
    /// A chunk is being handed over: the answer waits for it, because nothing comes after the answer.
    var isInChunk = false
    var failure: (code: bp_code, message: StaticString)?
    var requestToken: bp_token = 0
    /// The read that is under way and did not end at once.
    var innerToken: bp_token = 0
  }
  private let state = Mutex(State())

  init(
    _ caller: Instance, _ call: bp_call, parent: WriteRequest?, _ uris: [[UInt8]], _ lease: Lease,
    _ completion: bp_completion,
    answered: @escaping @Sendable () -> Void
  ) {
    self.caller = caller
    self.lease = caller.kernel.ring.extend(lease)
    self.call = OwnedCall(
      call, generation: 0, timeoutNsMax: caller.kernel.requestTimeoutNs.load(ordering: .relaxed))
    self.parent = parent
    self.uris = uris
    self.completion = completion
    self.answered = answered
  }

  deinit { caller.kernel.ring.release(lease) }

  var deadlineNs: UInt64 { call.deadlineNs }

  /// Its reads say for themselves whom they wait for.
  var holding: RequestHolding? { call.holding(.readMulti, lease.number, waitsFor: []) }

  /// Begins; the token is for `cancel`, 0 when it has been answered.
  func start() -> bp_token {
    run()
    return state.withLock { $0.isAnswered ? 0 : $0.requestToken }
  }

  private func run() {
    while index < uris.count {
      if state.withLock({ $0.isAnswered }) { return }
      turn.store(0, ordering: .relaxed)
      submit(uris[index])
      // Whoever comes second goes on: this loop, or the completion on its own thread.
      guard turn.exchange(1, ordering: .acquiringAndReleasing) == 2 else { return }
      index += 1
    }
    answer(BP_OK, "")
  }

  private func submit(_ uri: [UInt8]) {
    let inner = bp_completion(
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        Unmanaged<ReadMultiRequest>.fromOpaque(context!).takeRetainedValue().completed(result!)
      }, chunk: nil)
    uri.withUnsafeBufferPointer { uri in
      NormalForm.with(bp_view(uri), lease.generation) { normal in
        guard let normal else {
          return Answers.complete(inner, BP_NOT_FOUND, as: bp_read_result.self)
        }
        if let record = parent?.overlay(normal.bytes) { return NodeTable.answer(record, inner) }
        let token = ReadPath.read(caller, call.header.pointee, normal, lease, inner, answered: nil)
        if token != 0 { pend(on: token) }
      } unavailable: {
        Answers.complete(inner, of: caller, .noCanonicalForm, as: bp_read_result.self)
      }
    }
  }

  /// From here on the request can outlive the call that began it.
  private func pend(on inner: bp_token) {
    let isNew = state.withLock { state in
      state.innerToken = inner
      return state.requestToken == 0 && !state.isAnswered
    }
    guard isNew else { return }
    let token = caller.kernel.requests.add(self)
    let isLate = state.withLock { state in
      state.requestToken = token
      return state.isAnswered
    }
    // Its completions ran ahead of us.
    if isLate { caller.kernel.requests.remove(token) }
  }

  private func completed(_ result: UnsafePointer<bp_result>) {
    let isWanted = state.withLock { state in
      state.innerToken = 0
      state.isInChunk = !state.isAnswered
      return state.isInChunk
    }
    if isWanted {
      hand(over: result)
      let failure = state.withLock { state in
        state.isInChunk = false
        return state.failure
      }
      if let failure { answer(failure.code, failure.message) }
    }
    if turn.exchange(2, ordering: .acquiringAndReleasing) == 1 {
      index += 1
      run()
    }
  }

  private func hand(over result: UnsafePointer<bp_result>) {
    var item = bp_read_item(
      chunk: bp_chunk(size: UInt32(MemoryLayout<bp_read_item>.size), count: 1, bytes: .empty), index: UInt32(index),
      reserved: 0, read: UnsafeRawPointer(result).assumingMemoryBound(to: bp_read_result.self))
    withUnsafePointer(to: &item) {
      let chunk = UnsafeRawPointer($0).assumingMemoryBound(to: bp_chunk.self)
      ThreadMark.own.during(.chunk, caller.handle) { completion.chunk?(completion.context, chunk) }
    }
  }

  private func answer(_ code: bp_code, _ message: StaticString) {
    let token = state.withLock { state -> bp_token? in
      guard !state.isAnswered else { return nil }
      state.isAnswered = true
      return state.requestToken
    }
    guard let token else { return }
    Answers.with(code, message, retryable: code != BP_OK, as: bp_result.self) {
      completion.answer(caller.handle, $0)
    }
    answered()
    caller.kernel.requests.remove(token)
  }

  func giveUp(_ code: bp_code, _ message: StaticString) {
    let (waits, inner) = state.withLock { state -> (Bool, bp_token) in
      if state.isInChunk { state.failure = (code, message) }
      return (state.isInChunk, state.innerToken)
    }
    if !waits { answer(code, message) }
    if inner != 0 { caller.kernel.requests.cancel(caller, inner) }
  }
}
