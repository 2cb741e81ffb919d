import Glibc
import Synchronization

/// Threads that are started one by one, end by themselves, and are waited for together.
final class DetachedThreads: Sendable {
  private let endings = Mutex<[Promise<Bool>]>([])

  /// Runs `body` on a thread of its own.
  func start(_ name: String, _ body: @escaping @Sendable () -> Void) {
    let ended = Promise<Bool>()
    endings.withLock { endings in
      // One for each that ever was would be kept for ever.
      endings.removeAll { $0.get(untilNs: 0) != nil }
      endings.append(ended)
    }
    let thread = Thread.start(name: name) {
      body()
      ended.set(true)
    }
    if let thread { pthread_detach(thread) } else { ended.set(true) }
  }

  /// False: at `deadlineNs` (CLOCK_MONOTONIC) one that was started before this call still runs.
  func wait(untilNs deadlineNs: UInt64) -> Bool {
    endings.withLock { $0 }.allSatisfy { $0.get(untilNs: deadlineNs) != nil }
  }
}
