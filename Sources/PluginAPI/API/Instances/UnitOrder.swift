import Synchronization

/// Lets units that share a URI take effect in the order they were submitted in, as `bp_backend.apply` promises, while
/// all others run side by side on the threads of the instance.
final class UnitOrder: Sendable {
  /// The last unit that was submitted for a URI.
  private struct Last {
    var number: UInt64
    var task: Task<Void, Never>
  }
  private struct State {
    var next: UInt64 = 0
    var last: [String: Last] = [:]
  }
  private let state = Mutex(State())

  /// Runs `body` when every earlier unit with one of `uris` has ended. Any thread.
  func submit(
    _ uris: [String], _ token: bp_token, to executor: InstanceExecutor, _ body: @escaping @Sendable () async -> Void
  ) {
    state.withLock { state in
      state.next += 1
      let number = state.next
      let before = uris.compactMap { state.last[$0]?.task }
      let task = executor.submit(token) {
        // Its end does not depend on this unit: whoever waits here is always the younger.
        for task in before { await task.value }
        await body()
        self.ended(number, uris)
      }
      for uri in uris { state.last[uri] = Last(number: number, task: task) }
    }
  }

  private func ended(_ number: UInt64, _ uris: [String]) {
    state.withLock { state in
      for uri in uris where state.last[uri]?.number == number { state.last[uri] = nil }
    }
  }
}
