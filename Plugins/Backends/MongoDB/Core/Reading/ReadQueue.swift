import BackendSupport
import CMongoC
import Glibc
import PluginAPI

/// Reads that wait, and threads of the instance's own that answer them: each takes all that wait, up to a bound, and asks
/// for them in one round trip. While one question is on its way the next gathers by itself.
final class ReadQueue: @unchecked Sendable {
  // @unchecked: `waiting` and `isClosed` are only touched under the mutex; `threads` by
  // init and stop.

  private let settings: MongoDBSettings
  private let health: HealthReporter
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  /// Signalled when a read came, and when the threads are to end.
  private let work = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var waiting: [ReadCall] = []
  private var isClosed = false
  private var threads: [pthread_t] = []

  /// Records of one question, at most.
  private static let batchReadsMax = 64

  /// A thread for each of `readers`, which it has to itself.
  init(_ readers: [Reader], settings: MongoDBSettings, health: HealthReporter) throws(Failure) {
    self.settings = settings
    self.health = health
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(work, nil)
    for reader in readers {
      var thread = pthread_t()
      let context = Unmanaged.passRetained(Work(queue: self, reader: reader)).toOpaque()
      let error = pthread_create(
        &thread, nil,
        { context in
          let work = Unmanaged<Work>.fromOpaque(context!).takeRetainedValue()
          work.queue.run(work.reader)
          return nil
        }, context)
      guard error == 0 else {
        Unmanaged<Work>.fromOpaque(context).release()
        stop()
        throw .unavailable("no thread could be made for reading (error \(error)); check the limits or lower readers")
      }
      threads.append(thread)
    }
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(work)
    mutex.deallocate()
    work.deallocate()
  }

  /// Takes what is asked for together, so that it is asked for together; what is beyond the bound is refused. Any thread;
  /// never blocks for longer than a list takes to grow.
  func submit(_ calls: [ReadCall]) {
    pthread_mutex_lock(mutex)
    let takenCount = isClosed ? 0 : min(calls.count, settings.queueReadsMax - waiting.count)
    waiting += calls.prefix(takenCount)
    let wasClosed = isClosed
    pthread_mutex_unlock(mutex)
    for _ in stride(from: 0, to: takenCount, by: Self.batchReadsMax) { pthread_cond_signal(work) }
    for call in calls.dropFirst(takenCount) {
      call.fail(
        wasClosed
          ? .unavailable("the MongoDB backend is stopping")
          : .exhausted(
            "\(settings.queueReadsMax) reads wait for \(settings.connection.place), which is queue_reads_max; "
              + "read more slowly or raise it", retryAfterMs: 100))
    }
  }

  /// Refuses what comes from now on, answers what waits, ends the threads and joins them. Once.
  func stop() {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_mutex_unlock(mutex)
    pthread_cond_broadcast(work)
    for thread in threads { pthread_join(thread, nil) }
    threads = []
  }

  private final class Work {
    let queue: ReadQueue
    let reader: Reader
    init(queue: ReadQueue, reader: Reader) {
      self.queue = queue
      self.reader = reader
    }
  }

  private func run(_ reader: Reader) {
    // The last question did not reach the server.
    var hasFailed = false
    while true {
      pthread_mutex_lock(mutex)
      while waiting.isEmpty, !isClosed { pthread_cond_wait(work, mutex) }
      let count = min(waiting.count, Self.batchReadsMax)
      let calls = Array(waiting.prefix(count))
      waiting.removeFirst(count)
      let isEnding = isClosed
      pthread_mutex_unlock(mutex)
      if calls.isEmpty { return }
      if isEnding, hasFailed {
        // Each question would take its full time.
        for call in calls { call.fail(.unavailable("the MongoDB backend is stopping and its server is not there")) }
      } else {
        hasFailed = !answer(calls, reader)
      }
    }
  }

  /// False: the server was not there.
  private func answer(_ calls: [ReadCall], _ reader: Reader) -> Bool {
    let nowNs = monotonicNs()
    var open: [BorrowedKey: [ReadCall]] = [:]
    for call in calls {
      if call.deadlineNs <= nowNs {
        call.fail(
          .overdue("the read waited for \(settings.connection.place) until its deadline"))
      } else {
        open[BorrowedKey(call.uri), default: []].append(call)
      }
    }
    if open.isEmpty { return true }
    do throws(MongoProblem) {
      let isWithoutData = open.values.allSatisfy { $0.allSatisfy(\.isWithoutData) }
      try reader.find(open.keys.map(\.bytes), isWithoutData: isWithoutData) { found in
        guard let found, let answered = open.removeValue(forKey: BorrowedKey(found.uri)) else { return }
        RecordDecoder.withData(of: found) { content, data in
          for call in answered {
            call.found(timestampMs: found.timestampMs, version: found.version, content: content, data: data)
          }
        }
      }
      for missed in open.values { for call in missed { call.notFound() } }
      return true
    } catch {
      health.report(error)
      for missed in open.values { for call in missed { call.fail(error.failure) } }
      return !error.isUnreachable && !error.isConnectionLost
    }
  }
}
