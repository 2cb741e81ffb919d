import Synchronization

/// One export under way: its credits, and whoever waits for them.
final class StateExport: Sendable {
  private struct State {
    var credits: UInt64
    var waiter: CheckedContinuation<Void, Never>?
    var isCancelled = false
  }

  let token: bp_token
  private let host: HostHandle
  private let state: Mutex<State>

  init(host: HostHandle, token: bp_token, credits: UInt32) {
    self.host = host
    self.token = token
    state = Mutex(State(credits: UInt64(credits)))
  }

  /// `bp_plugin.grant`.
  func grant(_ credits: UInt32) {
    wake { $0.credits += UInt64(credits) }
  }

  /// Hands one chunk to the host, waiting for credit.
  func emit(_ bytes: UnsafeRawBufferPointer) async throws {
    while true {
      try await takeCredit()
      var chunk = bp_chunk(size: .size(of: bp_chunk.self), count: 1, bytes: bp_view(bytes))
      switch host.table.pointee.emit(host.instance, token, &chunk) {
      case BP_OK: return
      // The host counts for itself. What it refused it has not taken: wait for more.
      case BP_RESOURCE_EXHAUSTED: continue
      case BP_CANCELLED: throw CancellationError()
      default: throw Failure(code: BP_CLOSED, "the host has closed the export")
      }
    }
  }

  private func takeCredit() async throws {
    while true {
      try Task.checkCancellation()
      let isTaken = state.withLock { state in
        guard state.credits > 0 else { return false }
        state.credits -= 1
        return true
      }
      if isTaken { return }
      await withTaskCancellationHandler {
        await withCheckedContinuation { continuation in
          let goesOn = state.withLock { state in
            if state.credits > 0 || state.isCancelled { return true }
            state.waiter = continuation
            return false
          }
          if goesOn { continuation.resume() }
        }
      } onCancel: {
        wake { $0.isCancelled = true }
      }
    }
  }

  private func wake(_ change: (inout sending State) -> Void) {
    let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
      change(&state)
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }
}
