import Synchronization

/// A value that is set once and awaited by any number of tasks.
final class OneShot<Value: Sendable>: Sendable {
  private enum State {
    case waiting([CheckedContinuation<Value, Never>])
    case set(Value)
  }

  private let state = Mutex(State.waiting([]))

  /// The first call wins; says whether it was this one.
  @discardableResult
  func set(_ value: Value) -> Bool {
    let waiters: [CheckedContinuation<Value, Never>]? = state.withLock { state in
      guard case .waiting(let waiters) = state else { return nil }
      state = .set(value)
      return waiters
    }
    for waiter in waiters ?? [] { waiter.resume(returning: value) }
    return waiters != nil
  }

  var isSet: Bool {
    state.withLock {
      if case .set = $0 { true } else { false }
    }
  }

  var value: Value {
    get async {
      await withCheckedContinuation { continuation in
        let value: Value? = state.withLock { state in
          switch state {
          case .set(let value): return value
          case .waiting(let waiters):
            state = .waiting(waiters + [continuation])
            return nil
          }
        }
        if let value { continuation.resume(returning: value) }
      }
    }
  }
}
