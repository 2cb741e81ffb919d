import Glibc
import PluginAPI

/// What a `UnitQueue` hands its units to.
public protocol UnitCommitter: AnyObject, Sendable {
  /// Writes `units` and completes each of them exactly once. Called on the queue's thread, one call at a time, with at
  /// most `unitsMax` of a batch, in the order in which they were submitted.
  ///
  /// For units that have been completed `queue.finished(_:)` is called, here or later and on any thread: what counts
  /// against the bound is what has not been answered. A committer that keeps several batches on their way takes the
  /// next with `queue.take()` before it returns, and hears of new ones by `unitsArrived()` while it waits for results.
  func commit(_ units: ArraySlice<UnitCall>, from queue: UnitQueue)

  /// Nothing has waited for `Limits.idleMs`; once after each time that something did. On the queue's thread, so not at
  /// the same time as `commit`.
  func queueIsIdle()

  /// Units came while none waited, or the queue was closed. On the submitting thread: it must not block. For a
  /// committer that waits inside `commit`; the queue's thread is woken in any case.
  func unitsArrived()
}

extension UnitCommitter {
  public func queueIsIdle() {}
  public func unitsArrived() {}
}

/// Units that wait, and one thread of the instance's own that hands all of them on, batch by batch. While the committer
/// is busy with one batch the next gathers by itself, so no delay is ever added to make a batch.
public final class UnitQueue: @unchecked Sendable {
  // @unchecked: `waiting`, `pendingCount` and `isClosed` are only touched under the mutex; `taken` and `takenEnd` only by
  // the thread, which `init` starts last.

  public struct Limits: Sendable {
    /// Units handed to the committer at once, at most.
    public var batchUnitsMax: Int
    /// Units submitted and not yet completed, at most; the configuration key `queue_units_max`.
    public var queueUnitsMax: Int
    /// After how long without units `queueIsIdle` is called.
    public var idleMs: Int

    public init(batchUnitsMax: Int, queueUnitsMax: Int, idleMs: Int = 1_000) {
      self.batchUnitsMax = batchUnitsMax
      self.queueUnitsMax = queueUnitsMax
      self.idleMs = idleMs
    }
  }

  private let committer: any UnitCommitter
  private let backend: String
  private let place: String
  private let limits: Limits
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  /// Signalled when there is work, and when the thread is to end.
  private let work = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  /// Signalled when nothing is pending.
  private let idle = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var waiting: [UnitCall] = []
  /// Submitted and not yet completed.
  private var pendingCount = 0
  private var isClosed = false
  /// What the thread has taken from `waiting`, and up to where it was handed on.
  private var taken: [UnitCall] = []
  private var takenEnd = 0
  private var thread = pthread_t()

  /// Starts the thread. `backend` and `place` are for messages: "the SQLite backend" and where it writes to, which must
  /// hold no secret. Throws when there is no thread to be had.
  public init(
    _ committer: any UnitCommitter, backend: String, place: String, limits: Limits
  ) throws(Failure) {
    self.committer = committer
    self.backend = backend
    self.place = place
    self.limits = limits
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    // Deadlines of the boundary are on this clock.
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(work, &attributes)
    pthread_cond_init(idle, &attributes)
    pthread_condattr_destroy(&attributes)
    let context = Unmanaged.passRetained(self).toOpaque()
    let error = pthread_create(
      &thread, nil,
      { context in
        Unmanaged<UnitQueue>.fromOpaque(context!).takeRetainedValue().run()
        return nil
      }, context)
    guard error == 0 else {
      Unmanaged<UnitQueue>.fromOpaque(context).release()
      throw .unavailable("no thread could be made for writing to \(place) (error \(error)); check the limits")
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

  /// Takes units; those beyond the bound are refused at once, and all of them after `stop`. Any thread; never blocks for
  /// longer than a list takes to grow.
  public func submit(_ units: UnitBatch) {
    pthread_mutex_lock(mutex)
    let takenCount = isClosed ? 0 : min(units.count, limits.queueUnitsMax - pendingCount)
    for index in 0..<takenCount { waiting.append(units[index]) }
    pendingCount += takenCount
    let wasClosed = isClosed
    // The thread sleeps only when it has found nothing waiting.
    let isToWake = takenCount > 0 && waiting.count == takenCount
    pthread_mutex_unlock(mutex)
    if isToWake { wake() }
    for index in takenCount..<units.count {
      units[index].fail(
        wasClosed
          ? .unavailable("\(backend) is stopping")
          : .exhausted(
            "\(limits.queueUnitsMax) units wait for \(place), which is queue_units_max; write more slowly or raise it",
            retryAfterMs: 100))
    }
  }

  private func wake() {
    pthread_cond_signal(work)
    committer.unitsArrived()
  }

  // MARK: Committing

  /// The next units, up to a batch, or none when none wait; for a committer inside `commit`, on the queue's thread.
  public func take() -> ArraySlice<UnitCall> {
    if takenEnd == taken.count {
      taken.removeAll(keepingCapacity: true)
      takenEnd = 0
      pthread_mutex_lock(mutex)
      swap(&taken, &waiting)
      pthread_mutex_unlock(mutex)
    }
    let start = takenEnd
    takenEnd = min(start + limits.batchUnitsMax, taken.count)
    return taken[start..<takenEnd]
  }

  /// `count` units that were handed to the committer have been completed. Any thread.
  public func finished(_ count: Int) {
    pthread_mutex_lock(mutex)
    pendingCount -= count
    let isIdle = pendingCount == 0
    pthread_mutex_unlock(mutex)
    if isIdle { pthread_cond_broadcast(idle) }
  }

  /// Submitted and not yet completed.
  public var count: Int {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return pendingCount
  }

  private func run() {
    var isIdleDue = false
    while true {
      let units = take()
      if !units.isEmpty {
        committer.commit(units, from: self)
        isIdleDue = true
        continue
      }
      var idleTime = timespec(ns: monotonicNs() + UInt64(limits.idleMs) * 1_000_000)
      pthread_mutex_lock(mutex)
      var isIdle = false
      while waiting.isEmpty, !isClosed, !isIdle {
        if isIdleDue {
          isIdle = pthread_cond_timedwait(work, mutex, &idleTime) == ETIMEDOUT && waiting.isEmpty && !isClosed
        } else {
          pthread_cond_wait(work, mutex)
        }
      }
      // Closed: what waits is still written.
      let isOver = waiting.isEmpty && !isIdle
      pthread_mutex_unlock(mutex)
      if isOver { return }
      if isIdle {
        committer.queueIsIdle()
        isIdleDue = false
      }
    }
  }

  // MARK: Ending

  /// Waits until everything that was submitted is completed; false when `deadlineNs` (CLOCK_MONOTONIC) comes first.
  public func waitUntilIdle(deadlineNs: UInt64) -> Bool {
    var time = timespec(ns: deadlineNs)
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while pendingCount > 0 {
      if pthread_cond_timedwait(idle, mutex, &time) == ETIMEDOUT { return pendingCount == 0 }
    }
    return true
  }

  /// Refuses what comes from now on, hands on what waits, ends the thread and joins it. What a committer completes later
  /// on a thread of its own may still be open then. Once, and not on the thread itself.
  public func stop() {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_mutex_unlock(mutex)
    wake()
    pthread_join(thread, nil)
  }
}

extension timespec {
  /// Of the clock that `ns` is on; what is too far for the system's type is as far as it goes.
  fileprivate init(ns: UInt64) {
    self.init(tv_sec: Int(min(ns / 1_000_000_000, UInt64(Int32.max))), tv_nsec: Int(ns % 1_000_000_000))
  }
}

/// Nanoseconds on the clock of the boundary's deadlines.
public func monotonicNs() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
