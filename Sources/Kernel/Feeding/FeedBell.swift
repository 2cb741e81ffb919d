import Glibc
import Synchronization

/// Wakes one thread. Ringing while it is awake costs an atomic load; what was rung for is looked at before it sleeps.
final class FeedBell: @unchecked Sendable {
  // @unchecked: `isRung` is only touched under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var isRung = false
  private let isAsleep = Atomic<Bool>(false)

  init() {
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(condition)
    mutex.deallocate()
    condition.deallocate()
  }

  /// After the change that is to be seen.
  func ring() {
    guard isAsleep.load(ordering: .sequentiallyConsistent), isAsleep.exchange(false, ordering: .sequentiallyConsistent)
    else { return }
    pthread_mutex_lock(mutex)
    isRung = true
    pthread_cond_signal(condition)
    pthread_mutex_unlock(mutex)
  }

  /// Sleeps until it is rung or `untilNs` (CLOCK_MONOTONIC), unless `hasWork` answers true: it is asked when every later
  /// ring is heard. The thread's own.
  func sleep(untilNs: UInt64?, unless hasWork: () -> Bool) {
    pthread_mutex_lock(mutex)
    isRung = false
    pthread_mutex_unlock(mutex)
    isAsleep.store(true, ordering: .sequentiallyConsistent)
    defer { isAsleep.store(false, ordering: .sequentiallyConsistent) }
    if hasWork() { return }
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    guard let untilNs else {
      while !isRung { pthread_cond_wait(condition, mutex) }
      return
    }
    var time = timespec(tv_sec: Int(untilNs / 1_000_000_000), tv_nsec: Int(untilNs % 1_000_000_000))
    while !isRung { if pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT { return } }
  }
}
