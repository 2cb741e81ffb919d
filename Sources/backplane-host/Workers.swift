import Glibc
import IsolationWire
import SystemShims

/// Threads with a queue, for what must not hold up the reader.
final class Workers: @unchecked Sendable {
  // @unchecked: `jobs` is only touched under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var jobs: [@Sendable () -> Void] = []
  private var head = 0

  init(name: String, threads: Int) {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
    for _ in 0..<threads {
      guard let thread = WireThread.start(name: name, { self.work() }) else { continue }
      pthread_detach(thread)
    }
  }

  func submit(_ job: @escaping @Sendable () -> Void) {
    pthread_mutex_lock(mutex)
    jobs.append(job)
    pthread_cond_signal(condition)
    pthread_mutex_unlock(mutex)
  }

  /// They work until the process ends.
  private func work() {
    bp_shim_report_crashes_of_this_thread()
    while true {
      pthread_mutex_lock(mutex)
      while head == jobs.count { pthread_cond_wait(condition, mutex) }
      let job = jobs[head]
      head += 1
      if head == jobs.count {
        jobs.removeAll(keepingCapacity: true)
        head = 0
      } else if head >= 64, head * 2 >= jobs.count {
        jobs.removeFirst(head)
        head = 0
      }
      pthread_mutex_unlock(mutex)
      job()
    }
  }
}
