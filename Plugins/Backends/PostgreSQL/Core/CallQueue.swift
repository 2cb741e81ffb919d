import BackendSupport
import Glibc
import PluginAPI

/// Calls that wait for one of several threads. Each takes what has gathered.
final class CallQueue<Call: Sendable>: @unchecked Sendable {
  // @unchecked: everything that changes is only touched under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let work = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let countMax: Int
  private var waiting: [Call] = []
  private var idleCount = 0
  private var lastTakenNs: UInt64 = 0
  private var isClosed = false

  init(countMax: Int) {
    self.countMax = countMax
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(work, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(work)
    mutex.deallocate()
    work.deallocate()
  }

  enum Submitted {
    case taken
    case full
    case closed
  }

  /// A thread that has been at its batch for this long is not waited for.
  private var patienceNs: UInt64 { 2_000_000 }

  /// Any thread; never blocks for longer than a list takes to grow.
  func submit(_ call: Call) -> Submitted {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    if isClosed { return .closed }
    if waiting.count >= countMax { return .full }
    waiting.append(call)
    // Calls that come together should share a round trip, so a second thread is woken only when there are many, or when
    // the first one is slow.
    if idleCount > 0,
      waiting.count == 1 || waiting.count % 64 == 0 || monotonicNs() > lastTakenNs + patienceNs
    {
      pthread_cond_signal(work)
    }
    return .taken
  }

  /// What waits, up to `max`; empty after `waitMs` without any; nil once closed and empty.
  func take(max: Int, waitMs: UInt64 = 3_600_000) -> [Call]? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    let endNs = monotonicNs() + waitMs * 1_000_000
    var time = timespec(tv_sec: Int(endNs / 1_000_000_000), tv_nsec: Int(endNs % 1_000_000_000))
    while waiting.isEmpty {
      if isClosed { return nil }
      idleCount += 1
      let isLate = pthread_cond_timedwait(work, mutex, &time) == ETIMEDOUT
      idleCount -= 1
      if isLate, waiting.isEmpty { return isClosed ? nil : [] }
    }
    lastTakenNs = monotonicNs()
    if waiting.count <= max {
      defer { waiting = [] }
      return waiting
    }
    let taken = Array(waiting.prefix(max))
    waiting.removeFirst(max)
    return taken
  }

  /// Nothing is taken in any more; what waits is still given out.
  func close() {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_mutex_unlock(mutex)
    pthread_cond_broadcast(work)
  }
}
