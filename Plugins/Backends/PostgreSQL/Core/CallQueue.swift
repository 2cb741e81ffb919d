import BackendSupport
import Glibc
import PluginAPI

/// Calls that wait for one of several threads. Each thread takes what has gathered.
///
/// Calls that come while a thread is at work had better share its next round trip than have one of their own. So the other
/// threads hold back, unless many wait or the one at work takes long.
final class CallQueue<Call: Sendable>: @unchecked Sendable {
  // @unchecked: everything that changes is only touched under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let work = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let countMax: Int
  private let gathers: Bool
  private var waiting: [Call] = []
  private var idleCount = 0
  private var busyCount = 0
  private var lastTakenNs: UInt64 = 0
  private var isClosed = false

  /// So many calls are worth a second thread.
  private var crowd: Int { 64 }
  /// A thread that has been at its calls for this long is not waited for.
  private var patienceNs: UInt64 { 2_000_000 }

  /// - `gathers`: calls are worth holding back.
  init(countMax: Int, gathers: Bool) {
    self.countMax = countMax
    self.gathers = gathers
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

  /// Takes as many of `count` calls as there is room for, none when closed; how many it took, and whether it is closed.
  /// Any thread; never blocks for longer than a list takes to grow.
  func submit(_ count: Int, _ call: (Int) -> Call) -> (takenCount: Int, isClosed: Bool) {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    if isClosed { return (0, true) }
    let before = waiting.count
    let takenCount = min(count, countMax - before)
    for index in 0..<takenCount { waiting.append(call(index)) }
    let isNews = !gathers || before == 0 || before / crowd != waiting.count / crowd
    if takenCount > 0, idleCount > 0, isNews { pthread_cond_signal(work) }
    return (takenCount, false)
  }

  /// What waits, up to `max`; empty after `waitMs` without any; nil once closed and empty. `done` follows.
  func take(max: Int, waitMs: UInt64 = 3_600_000) -> [Call]? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    let endNs = monotonicNs() + waitMs * 1_000_000
    while true {
      if waiting.isEmpty {
        if isClosed { return nil }
        if !wait(untilNs: endNs), waiting.isEmpty { return isClosed ? nil : [] }
      } else if !gathers || busyCount == 0 || waiting.count >= crowd || isClosed {
        break
      } else if !wait(untilNs: lastTakenNs + patienceNs) {
        break
      }
    }
    if waiting.isEmpty { return [] }
    busyCount += 1
    lastTakenNs = monotonicNs()
    if waiting.count <= max {
      defer { waiting = [] }
      return waiting
    }
    let taken = Array(waiting.prefix(max))
    waiting.removeFirst(max)
    return taken
  }

  /// False when the time has come.
  private func wait(untilNs: UInt64) -> Bool {
    var time = timespec(tv_sec: Int(untilNs / 1_000_000_000), tv_nsec: Int(untilNs % 1_000_000_000))
    idleCount += 1
    defer { idleCount -= 1 }
    return pthread_cond_timedwait(work, mutex, &time) != ETIMEDOUT
  }

  /// The calls of the last `take`, of which there were some, are completed.
  func done() {
    pthread_mutex_lock(mutex)
    busyCount -= 1
    pthread_mutex_unlock(mutex)
  }

  /// Nothing is taken in any more; what waits is still given out.
  func close() {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_mutex_unlock(mutex)
    pthread_cond_broadcast(work)
  }
}
