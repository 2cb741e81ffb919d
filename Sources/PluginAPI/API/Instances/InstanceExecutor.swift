import Glibc
import Synchronization

/// The threads of one instance. Every image shares one Swift thread pool with all others, so nothing of a plugin's may
/// run there: a plugin that blocks would stop its neighbours (boundary.md, "Threads and re-entrancy").
final class InstanceExecutor: TaskExecutor {
  private let queue = JobQueue()
  private let threads: Mutex<[pthread_t]>
  private let tasks = Mutex<[bp_token: Task<Void, Never>]>([:])

  init(threads count: Int) {
    threads = Mutex([])
    for _ in 0..<max(1, min(count, 64)) {
      var thread = pthread_t()
      let context = Unmanaged.passRetained(self).toOpaque()
      let error = pthread_create(
        &thread, nil,
        { context in
          Unmanaged<InstanceExecutor>.fromOpaque(context!).takeRetainedValue().work()
          return nil
        }, context)
      guard error == 0 else {
        Unmanaged<InstanceExecutor>.fromOpaque(context).release()
        break
      }
      threads.withLock { $0.append(thread) }
    }
  }

  func enqueue(_ job: consuming ExecutorJob) { queue.push(UnownedJob(job)) }

  private func work() {
    while let job = queue.pop() { job.runSynchronously(on: asUnownedTaskExecutor()) }
  }

  /// Runs one data call; `cancel(token)` reaches it.
  @discardableResult
  func submit(_ token: bp_token, _ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
    // Made under the lock, so that the task cannot be forgotten before it is remembered.
    tasks.withLock { tasks in
      let task = Task(executorPreference: self) {
        await body()
        self.tasks.withLock { _ = $0.removeValue(forKey: token) }
      }
      tasks[token] = task
      return task
    }
  }

  func cancel(_ token: bp_token) {
    tasks.withLock { $0[token] }?.cancel()
  }

  /// Runs a life-cycle method and waits for it on the calling (control) thread.
  func wait<R: Sendable>(_ body: @escaping @Sendable () async throws -> R) -> Result<R, any Error> {
    let answer = Answer<R>()
    Task(executorPreference: self) {
      do { answer.set(.success(try await body())) } catch { answer.set(.failure(error)) }
    }
    return answer.get()
  }

  /// Cancels what still runs, waits for it and joins the threads. Not on one of them.
  func shutDown() {
    while true {
      let open = tasks.withLock { Array($0.values) }
      if open.isEmpty { break }
      for task in open { task.cancel() }
      _ = wait { for task in open { await task.value } }
    }
    queue.close()
    for thread in threads.withLock({ threads in
      defer { threads = [] }
      return threads
    }) {
      pthread_join(thread, nil)
    }
  }
}

/// A queue of jobs with a condition variable.
private final class JobQueue: @unchecked Sendable {
  // @unchecked: `jobs`, `head` and `isClosed` are only touched under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var jobs: [UnownedJob] = []
  private var head = 0
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
    while head == jobs.count {
      if isClosed { return nil }
      pthread_cond_wait(condition, mutex)
    }
    let job = jobs[head]
    head += 1
    if head == jobs.count {
      jobs.removeAll(keepingCapacity: true)
      head = 0
    }
    return job
  }

  func close() {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_mutex_unlock(mutex)
    pthread_cond_broadcast(condition)
  }
}

/// One value, waited for by a thread.
private final class Answer<R: Sendable>: @unchecked Sendable {
  // @unchecked: `value` is only touched under the mutex.
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var value: Result<R, any Error>?

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

  func set(_ value: Result<R, any Error>) {
    pthread_mutex_lock(mutex)
    self.value = value
    pthread_cond_signal(condition)
    pthread_mutex_unlock(mutex)
  }

  func get() -> Result<R, any Error> {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while value == nil { pthread_cond_wait(condition, mutex) }
    return value!
  }
}
