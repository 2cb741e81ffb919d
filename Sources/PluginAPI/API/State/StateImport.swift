import Synchronization

/// One phase of an import under way: chunks come by calls of the host's, and a task of the instance's reads them. A
/// chunk's call is completed when the task asks for the next one, the last one's when the task has ended.
final class StateImport: Sendable {
  struct Chunk: @unchecked Sendable {
    // @unchecked: the view is valid until the token is completed, on any thread (state.h).
    var token: bp_token
    var bytes: bp_view
    var isLast: Bool
  }

  private struct State {
    /// Handed over, and not read yet.
    var waiting: Chunk?
    /// What the task reads at present.
    var reading: Chunk?
    var sequence: UInt64 = 0
    var waiter: CheckedContinuation<Void, Never>?
    var isCancelled = false
    /// The task has ended: what is left is answered with this.
    var end: Result<Void, Failure>?
  }

  let phase: StatePhase
  /// Of the first chunk: what the task is known by.
  let token: bp_token
  private let host: HostHandle
  private let state = Mutex(State())

  init(host: HostHandle, phase: StatePhase, token: bp_token) {
    self.host = host
    self.phase = phase
    self.token = token
  }

  /// `bp_state.import_state`: one more chunk.
  func deliver(_ chunk: Chunk, sequence: UInt64) {
    enum Outcome { case taken(CheckedContinuation<Void, Never>?), refused(Failure) }
    let outcome: Outcome = state.withLock { state in
      if case .failure(let failure) = state.end { return .refused(failure) }
      guard state.end == nil, state.waiting == nil, state.sequence == sequence else {
        return .refused(
          .invalid("chunk \(sequence) of the \(phase) came out of turn; chunk \(state.sequence) was to come next"))
      }
      state.sequence += 1
      state.waiting = chunk
      defer { state.waiter = nil }
      return .taken(state.waiter)
    }
    switch outcome {
    case .taken(let waiter): waiter?.resume()
    case .refused(let failure): host.fail(chunk.token, failure, as: bp_result.self)
    }
  }

  /// The next chunk's bytes; nil after the last.
  func next() async throws -> BorrowedBytes? {
    let done: Chunk? = state.withLock { state in
      // The last one stays open until the task has ended: its completion says that all is well.
      guard let reading = state.reading, !reading.isLast else { return nil }
      state.reading = nil
      return reading
    }
    if let done { complete(done.token, nil) }
    while true {
      try Task.checkCancellation()
      enum Found { case chunk(Chunk), end, nothing }
      let found: Found = state.withLock { state in
        if state.reading != nil { return .end }
        guard let chunk = state.waiting else { return .nothing }
        state.waiting = nil
        state.reading = chunk
        return .chunk(chunk)
      }
      switch found {
      case .chunk(let chunk): return chunk.bytes.bytes
      case .end: return nil
      case .nothing: await wait()
      }
    }
  }

  /// Whether a call of this phase's is open under `token`.
  func owns(_ token: bp_token) -> Bool {
    state.withLock { $0.reading?.token == token || $0.waiting?.token == token }
  }

  /// The task has ended: answers what is open, and all that may come.
  func finish(_ failure: Failure?) {
    let open: [Chunk] = state.withLock { state in
      state.end = failure.map { .failure($0) } ?? .success(())
      defer {
        state.reading = nil
        state.waiting = nil
      }
      return [state.reading, state.waiting].compactMap { $0 }
    }
    for chunk in open { complete(chunk.token, failure) }
  }

  private func complete(_ token: bp_token, _ failure: Failure?) {
    if let failure { return host.fail(token, failure, as: bp_result.self) }
    var result = bp_result.ok(bp_result.self)
    host.complete(token, with: &result)
  }

  private func wait() async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let goesOn = state.withLock { state in
          if state.waiting != nil || state.isCancelled { return true }
          state.waiter = continuation
          return false
        }
        if goesOn { continuation.resume() }
      }
    } onCancel: {
      let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
        state.isCancelled = true
        defer { state.waiter = nil }
        return state.waiter
      }
      waiter?.resume()
    }
  }
}
