import BackendSupport
import Glibc
import PluginAPI

/// The connection that `start` makes, on a thread of its own: looking a host name up may block for longer than the host
/// waits, and then there must still be somebody to say so.
final class FirstConnection: @unchecked Sendable {
  // @unchecked: `outcome` is only touched under the mutex; a session is handed from one thread to the next.
  enum Outcome {
    case ready(Session)
    case failed(PostgreSQLProblem)
    case late
  }

  private let shared: Shared
  private let deadlineNs: UInt64
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var outcome: Outcome?
  private var thread: WorkerThread?
  /// What is kept of the host's time for saying what went wrong.
  private static let reserveNs: UInt64 = 200_000_000

  init(_ shared: Shared, deadline: Deadline) throws(Failure) {
    self.shared = shared
    let nowNs = monotonicNs()
    let leftNs = deadline.monotonicNs > nowNs ? deadline.monotonicNs - nowNs : 0
    deadlineNs =
      deadline.monotonicNs == .max ? .max : nowNs + (leftNs > 2 * Self.reserveNs ? leftNs - Self.reserveNs : leftNs / 2)
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(changed, &attributes)
    pthread_condattr_destroy(&attributes)
    thread = try WorkerThread { [self] in connect() }
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(changed)
    mutex.deallocate()
    changed.deallocate()
  }

  private func connect() {
    var found: Outcome
    do throws(PostgreSQLProblem) {
      let session = try Session(
        .writer, shared.settings, layout: shared.layout, stop: shared.stop, deadlineNs: deadlineNs)
      found = .ready(session)
      if session.isReadOnly {
        let state = PostgreSQLProblem(.statement("25006"), "", place: shared.settings.url.place)
        found = .failed(state)
      }
    } catch {
      found = .failed(error)
    }
    pthread_mutex_lock(mutex)
    // Nobody waits any more: the session closes here.
    if case .late = outcome {} else { outcome = found }
    pthread_mutex_unlock(mutex)
    pthread_cond_signal(changed)
  }

  func wait() -> Outcome {
    let untilNs = deadlineNs == .max ? monotonicNs() + 3_600_000_000_000 : deadlineNs + Self.reserveNs / 2
    var time = timespec(tv_sec: Int(untilNs / 1_000_000_000), tv_nsec: Int(untilNs % 1_000_000_000))
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while outcome == nil {
      if pthread_cond_timedwait(changed, mutex, &time) == ETIMEDOUT, outcome == nil {
        outcome = .late
        shared.stop.stop(graceMs: 0)
      }
    }
    defer { if case .ready = outcome { outcome = .late } }
    return outcome!
  }

  /// Once, after `wait`.
  func join() {
    thread?.join()
    thread = nil
  }
}
