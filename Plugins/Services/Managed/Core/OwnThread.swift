import Glibc
import Synchronization

/// The one thread on which all of managed mode runs: it reads and writes files, which nothing may do on the threads that
/// all images share.
final class OwnThread: TaskExecutor {
  private let queue = JobQueue()
  private let thread = Mutex<pthread_t?>(nil)

  init() {
    var made = pthread_t()
    let context = Unmanaged.passRetained(self).toOpaque()
    let error = pthread_create(
      &made, nil,
      { context in
        Unmanaged<OwnThread>.fromOpaque(context!).takeRetainedValue().work()
        return nil
      }, context)
    precondition(error == 0, "the system has no thread left for managed mode")
    let started = made
    thread.withLock { $0 = started }
  }

  func enqueue(_ job: consuming ExecutorJob) { queue.push(UnownedJob(job)) }

  private func work() {
    while let job = queue.pop() { job.runSynchronously(on: asUnownedTaskExecutor()) }
  }

  /// Joins the thread. Every task must have ended. Not on the thread itself.
  func join() {
    queue.close()
    let joined = thread.withLock { thread in
      defer { thread = nil }
      return thread
    }
    if let joined { pthread_join(joined, nil) }
  }
}

/// A queue of jobs with a condition variable.
private final class JobQueue: @unchecked Sendable {
  // @unchecked: `jobs` and `isClosed` are only touched under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var jobs: [UnownedJob] = []
  private var isClosed = false

  init() {
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(condition)
    mutex.deallocate()
    condition.deallocate()
  }

  func push(_ job: UnownedJob) {
    pthread_mutex_lock(mutex)
    jobs.append(job)
    pthread_mutex_unlock(mutex)
    pthread_cond_signal(condition)
  }

  func pop() -> UnownedJob? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while jobs.isEmpty {
      if isClosed { return nil }
      pthread_cond_wait(condition, mutex)
    }
    return jobs.removeFirst()
  }

  func close() {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_mutex_unlock(mutex)
    pthread_cond_broadcast(condition)
  }
}
