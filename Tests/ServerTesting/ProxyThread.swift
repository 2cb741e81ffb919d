import Dispatch
import Glibc
import Synchronization

/// What the proxy's thread is asked for, and what it tells.
final class ProxyRequests: Sendable {
  struct Wanted {
    var fault = FaultProxy.Fault.passes
    var resetsOnce = false
    var isStopping = false
  }

  private let state = Mutex((wanted: Wanted(), counts: FaultProxy.Counts(), isOpen: false))
  /// One request at a time: each waits for its own answer.
  private let asking = Mutex(())
  /// Readable when something is asked for.
  let wake: Int32
  private let waker: Int32
  private let answer = DispatchSemaphore(value: 0)

  init() {
    var ends: [Int32] = [-1, -1]
    precondition(pipe(&ends) == 0, "a pipe could not be made")
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    (wake, waker) = (ends[0], ends[1])
  }

  deinit {
    close(wake)
    close(waker)
  }

  var wanted: Wanted { state.withLock { $0.wanted } }
  var counts: FaultProxy.Counts { state.withLock { $0.counts } }

  /// Returns when it is done, at once when the proxy has stopped.
  func ask(_ change: (inout Wanted) -> Void) {
    asking.withLock { _ in
      let isOver = state.withLock { state in
        if state.wanted.isStopping { return true }
        change(&state.wanted)
        state.isOpen = true
        return false
      }
      if isOver { return }
      // One byte at a time is in the pipe: the next request waits for the answer to this one.
      write(waker, [0], 1)
      answer.wait()
    }
  }

  /// The proxy's thread has done everything of `wanted`.
  func tell(_ counts: FaultProxy.Counts) {
    let isAwaited = state.withLock { state in
      state.counts = counts
      return state.isOpen
    }
    guard isAwaited else { return }
    var byte: UInt8 = 0
    read(wake, &byte, 1)
    state.withLock { state in
      state.isOpen = false
      state.wanted.resetsOnce = false
    }
    answer.signal()
  }
}

/// The one thread of a proxy.
final class ProxyThread: Sendable {
  private final class Work {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private let thread: Mutex<pthread_t?>

  init(_ body: @escaping @Sendable () -> Void) {
    var made = pthread_t()
    let code = pthread_create(
      &made, nil,
      { context in
        Unmanaged<Work>.fromOpaque(context!).takeRetainedValue().body()
        return nil
      }, Unmanaged.passRetained(Work(body)).toOpaque())
    precondition(code == 0, "a thread could not be made")
    thread = Mutex(made)
  }

  /// Idempotent.
  func join() {
    let running = thread.withLock { thread in
      defer { thread = nil }
      return thread
    }
    if let running { pthread_join(running, nil) }
  }
}
