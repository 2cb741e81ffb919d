import Glibc
import Synchronization
import SystemShims

/// Threads of the kernel's own with a bounded queue. Nothing of the kernel's runs on Swift's shared pool, because plugins
/// may use it and may block it.
final class WorkerPool: @unchecked Sendable {
  // @unchecked: `jobs` and `isClosed` are only touched under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  /// Taken jobs are nil, so that what they hold goes with them and not when the queue is next empty.
  private var jobs: [(@Sendable () -> Void)?] = []
  private var head = 0
  private var isClosed = false
  private let queueMax: Int
  private let name: String
  private var threads: [pthread_t] = []
  private let running: Atomic<Int>
  /// Set when the last thread has ended.
  private let ended = Promise<Bool>()

  init(name: String, threads count: Int, queueMax: Int) {
    self.queueMax = queueMax
    self.name = name
    running = Atomic(count)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
    if count == 0 { ended.set(true) }
    for _ in 0..<count {
      let thread = Thread.start(name: name) {
        self.work()
        self.threadEnded()
      }
      if let thread { threads.append(thread) } else { threadEnded() }
    }
  }

  private func threadEnded() {
    if running.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { ended.set(true) }
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(condition)
    mutex.deallocate()
    condition.deallocate()
  }

  /// False when the queue is full or the pool is shut down; the job will not run then.
  func submit(_ job: @escaping @Sendable () -> Void) -> Bool {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    guard !isClosed, jobs.count - head < queueMax else { return false }
    jobs.append(job)
    pthread_cond_signal(condition)
    return true
  }

  /// Runs what is queued and joins the threads. Not on one of them.
  func shutDown() { _ = shutDown(untilNs: nil) }

  /// Likewise, at most until `deadlineNs` (CLOCK_MONOTONIC). False when a thread has not ended by then: it is left
  /// behind, with what it holds.
  func shutDown(untilNs deadlineNs: UInt64?) -> Bool {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
    let hasEnded = deadlineNs.map { ended.get(untilNs: $0) != nil } ?? true
    for thread in threads { if hasEnded { pthread_join(thread, nil) } else { pthread_detach(thread) } }
    threads = []
    return hasEnded
  }

  private func work() {
    while true {
      pthread_mutex_lock(mutex)
      while head == jobs.count && !isClosed { pthread_cond_wait(condition, mutex) }
      guard head < jobs.count else {
        pthread_mutex_unlock(mutex)
        return
      }
      let job = jobs[head]
      jobs[head] = nil
      head += 1
      if head == jobs.count {
        jobs.removeAll(keepingCapacity: true)
        head = 0
      } else if head >= 64, head * 2 >= jobs.count {
        // A queue that is never empty does not grow for ever.
        jobs.removeFirst(head)
        head = 0
      }
      pthread_mutex_unlock(mutex)
      job?()
    }
  }
}

/// A thread with a name.
enum Thread {
  private final class Body {
    let name: String
    let run: () -> Void
    init(_ name: String, _ run: @escaping () -> Void) {
      self.name = name
      self.run = run
    }
  }

  /// Nil when the system has no thread to give. The caller joins or detaches it.
  static func start(name: String, _ run: @escaping @Sendable () -> Void) -> pthread_t? {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(Body(name, run)).toOpaque()
    let error = pthread_create(
      &thread, nil,
      { context in
        let body = Unmanaged<Body>.fromOpaque(context!).takeRetainedValue()
        bp_shim_name_thread(body.name)
        body.run()
        return nil
      }, context)
    guard error == 0 else {
      Unmanaged<Body>.fromOpaque(context).release()
      return nil
    }
    return thread
  }
}

/// One value, set once and waited for by a thread, with a time limit.
final class Promise<Value: Sendable>: @unchecked Sendable {
  // @unchecked: `value` is only touched under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var value: Value?

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

  func set(_ value: Value) {
    pthread_mutex_lock(mutex)
    if self.value == nil { self.value = value }
    pthread_cond_broadcast(condition)
    pthread_mutex_unlock(mutex)
  }

  /// The value, or nil when it is not there at `deadlineNs` (CLOCK_MONOTONIC).
  func get(untilNs deadlineNs: UInt64) -> Value? {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    var time = timespec(tv_sec: Int(deadlineNs / 1_000_000_000), tv_nsec: Int(deadlineNs % 1_000_000_000))
    while value == nil {
      if pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT { return value }
    }
    return value
  }

  /// The value, however long it takes.
  func get() -> Value {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while value == nil { pthread_cond_wait(condition, mutex) }
    return value!
  }
}
