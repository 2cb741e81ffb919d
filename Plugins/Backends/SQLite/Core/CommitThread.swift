import BackendSupport
import CSQLite
import Glibc
import PluginAPI

/// The one thread that writes: takes all units that wait, applies them in one transaction, commits, and then completes
/// each. While a commit waits for the disk the next batch gathers by itself, so no delay is ever added.
final class CommitThread: @unchecked Sendable {
  // @unchecked: `queue`, `pendingCount` and `isClosed` are only touched under the mutex; `writer` only by the thread,
  // which `init` starts last.

  private let settings: SQLiteSettings
  private let writer: UnitWriter
  private let durability: Durability
  private let health: HealthReporter
  private let metrics: CommitMetrics
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  /// Signalled when there is work, and when the thread is to end.
  private let work = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  /// Signalled when nothing is pending.
  private let idle = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var queue: [UnitCall] = []
  /// Submitted and not yet completed.
  private var pendingCount = 0
  private var isClosed = false
  private var thread = pthread_t()

  init(
    _ writer: UnitWriter, settings: SQLiteSettings, health: HealthReporter, metrics: CommitMetrics
  ) throws(Failure) {
    self.writer = writer
    self.settings = settings
    self.durability = settings.durability
    self.health = health
    self.metrics = metrics
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(work, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    // Deadlines of the boundary are on this clock.
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(idle, &attributes)
    pthread_condattr_destroy(&attributes)
    let context = Unmanaged.passRetained(self).toOpaque()
    let error = pthread_create(
      &thread, nil,
      { context in
        Unmanaged<CommitThread>.fromOpaque(context!).takeRetainedValue().run()
        return nil
      }, context)
    guard error == 0 else {
      Unmanaged<CommitThread>.fromOpaque(context).release()
      throw .unavailable("no thread could be made for writing to \(settings.path) (error \(error)); check the limits")
    }
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(work)
    pthread_cond_destroy(idle)
    mutex.deallocate()
    work.deallocate()
    idle.deallocate()
  }

  // MARK: Submitting

  /// Any thread; never blocks for longer than a list takes to grow.
  func submit(_ units: UnitBatch) {
    pthread_mutex_lock(mutex)
    let taken = isClosed ? 0 : min(units.count, settings.queueUnitsMax - pendingCount)
    for index in 0..<taken { queue.append(units[index]) }
    pendingCount += taken
    let wasClosed = isClosed
    // The thread sleeps only when it has found the queue empty.
    let isToWake = taken > 0 && queue.count == taken
    pthread_mutex_unlock(mutex)
    if isToWake { pthread_cond_signal(work) }
    for index in taken..<units.count {
      units[index].fail(
        wasClosed
          ? .unavailable("the SQLite backend is stopping")
          : .exhausted(
            "\(settings.queueUnitsMax) units wait for \(settings.path), which is queue_units_max; write more slowly or "
              + "raise it", retryAfterMs: 100))
    }
  }

  /// Waits until everything that was submitted is completed; false when `deadlineNs` (CLOCK_MONOTONIC) comes first.
  func waitUntilIdle(deadlineNs: UInt64) -> Bool {
    var time = timespec(
      tv_sec: Int(min(deadlineNs / 1_000_000_000, UInt64(Int32.max))), tv_nsec: Int(deadlineNs % 1_000_000_000))
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while pendingCount > 0 {
      if pthread_cond_timedwait(idle, mutex, &time) == ETIMEDOUT { return pendingCount == 0 }
    }
    return true
  }

  /// Completes what waits, ends the thread and joins it. Not on the thread itself.
  func stop() {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_mutex_unlock(mutex)
    pthread_cond_signal(work)
    pthread_join(thread, nil)
  }

  // MARK: The thread

  private func run() {
    var batch: [UnitCall] = []
    while true {
      pthread_mutex_lock(mutex)
      while queue.isEmpty, !isClosed { pthread_cond_wait(work, mutex) }
      // Closed: what waits is still written.
      if queue.isEmpty {
        pthread_mutex_unlock(mutex)
        return
      }
      swap(&batch, &queue)
      pthread_mutex_unlock(mutex)
      var start = 0
      while start < batch.count {
        let end = min(start + settings.batchUnitsMax, batch.count)
        commit(batch[start..<end])
        finished(end - start)
        start = end
        writer.checkpointIfDue()
      }
      batch.removeAll(keepingCapacity: true)
    }
  }

  private func finished(_ count: Int) {
    pthread_mutex_lock(mutex)
    pendingCount -= count
    let isIdle = pendingCount == 0
    pthread_mutex_unlock(mutex)
    if isIdle { pthread_cond_broadcast(idle) }
  }

  private func commit(_ units: ArraySlice<UnitCall>) {
    let start = monotonicNs()
    var outcomes: [UnitOutcome] = []
    outcomes.reserveCapacity(units.count)
    do throws(SQLiteProblem) {
      try writer.begin()
      for unit in units { outcomes.append(try writer.apply(unit)) }
      try writer.commit()
      health.clear()
      metrics.committed(units.count, seconds: Double(monotonicNs() - start) / 1e9)
    } catch {
      writer.rollback()
      // A unit that fails must fail no other: each gets a transaction of its own, in the same order. When the lock was
      // not to be had, none of them would get it either.
      if units.count == 1 || error.primaryCode == SQLITE_BUSY {
        health.report(error)
        outcomes = Array(repeating: .failed(error.failure), count: units.count)
      } else {
        outcomes = units.map(commitAlone)
      }
    }
    for (unit, outcome) in zip(units, outcomes) { unit.complete(outcome, durability) }
  }

  private func commitAlone(_ unit: UnitCall) -> UnitOutcome {
    do throws(SQLiteProblem) {
      try writer.begin()
      let outcome = try writer.apply(unit)
      try writer.commit()
      health.clear()
      return outcome
    } catch {
      writer.rollback()
      health.report(error)
      return .failed(error.failure)
    }
  }
}

func monotonicNs() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Time series of the commits.
struct CommitMetrics: Sendable {
  private let commits: Counter
  private let units: Counter
  private let seconds: Histogram

  /// In `start` only (core.h).
  init(_ metrics: Metrics) {
    commits = metrics.counter("commits_total", help: "Transactions committed")
    units = metrics.counter("units_total", help: "Units committed; divided by commits_total, how many share a commit")
    seconds = metrics.histogram("commit_seconds", help: "From the first unit of a batch to its commit", unit: "seconds")
  }

  func committed(_ count: Int, seconds time: Double) {
    commits.increment()
    units.add(Double(count))
    seconds.observe(time)
  }
}
