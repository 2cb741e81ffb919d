import Glibc
import Synchronization

@testable import Kernel

/// Tests wait for events at most so long; what takes longer does not come.
let patienceNs: UInt64 = 10_000_000_000

extension Promise {
  func soon() -> Value? { get(untilNs: Clock.monotonicNs() + patienceNs) }
}

/// For counters that change right after an event and have none of their own.
func eventually(_ condition: () -> Bool) -> Bool {
  let endNs = Clock.monotonicNs() + patienceNs
  while Clock.monotonicNs() < endNs {
    if condition() { return true }
    usleep(500)
  }
  return false
}

/// Values from the kernel's threads to a test.
final class Inbox<Value: Sendable>: Sendable {
  private let state = Mutex<(values: [Value], arrival: Promise<Bool>)>(([], Promise()))

  func put(_ value: Value) {
    state.withLock { state in
      state.values.append(value)
      state.arrival.set(true)
    }
  }

  /// What is there now.
  func takeAll() -> [Value] {
    state.withLock { state in
      defer { state.values = [] }
      return state.values
    }
  }

  /// The next one; nil when none comes.
  func next() -> Value? {
    while true {
      let (value, arrival) = state.withLock { state -> (Value?, Promise<Bool>) in
        guard state.values.isEmpty else { return (state.values.removeFirst(), state.arrival) }
        state.arrival = Promise()
        return (nil, state.arrival)
      }
      if let value { return value }
      if arrival.soon() == nil { return nil }
    }
  }
}

/// Runs `body` on so many threads at once and waits for all.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
  let threads = (0..<count).compactMap { index in Thread.start(name: "test-\(index)") { body(index) } }
  precondition(threads.count == count, "the system has no threads to give")
  for thread in threads { pthread_join(thread, nil) }
}
