import BackendSupport
import PluginAPI

/// What all threads of an instance share.
struct Shared: Sendable {
  let settings: PostgreSQLSettings
  let layout: LayoutMemory
  let stop: StopSignal
  let outage: Outage
  let health: PostgreSQLHealth
  let metrics: PostgreSQLMetrics
}

/// The session of one thread, made again when it breaks.
///
/// While there is none, calls wait until `outage_wait_ms` after the outage was noticed. Then they are refused, all but
/// those that find the next attempt due: some call has to try.
final class SessionKeeper {
  private let role: Session.Role
  private let shared: Shared
  private(set) var session: Session?
  private var backoff = Backoff()
  private var nextAttemptNs: UInt64 = 0
  private var hasConnected = false

  init(_ role: Session.Role, _ shared: Shared, session: Session? = nil) {
    self.role = role
    self.shared = shared
    self.session = session
    hasConnected = session != nil
  }

  /// The connection is of no more use.
  func drop() {
    guard session != nil else { return }
    session = nil
    shared.metrics.disconnects.increment()
  }

  func close() { session = nil }

  /// What libpq's buffers may keep: they grow to the largest message and never shrink.
  private static let bufferSizeBytesMax = 32 << 20

  /// A message of this size went over the connection: after a very large one a new connection takes its place.
  func passed(sizeBytes: Int) {
    if sizeBytes > Self.bufferSizeBytesMax { session = nil }
  }

  /// Drops a session that the server has closed meanwhile.
  func check() {
    guard let session, session.connection.isDropped else { return }
    drop()
    let problem = PostgreSQLProblem(.lost, "it was closed", place: shared.settings.url.place)
    shared.outage.began(problem)
    shared.health.disconnected(problem)
  }

  /// Until there is a session. `expire` refuses the calls that need not wait any longer and says until when the others
  /// do; nil: none is left.
  func wait(_ expire: (_ isExpired: (UInt64) -> Failure?) -> UInt64?) -> Session? {
    check()
    while true {
      if let session { return session }
      let nowNs = monotonicNs()
      let isDue = nowNs >= nextAttemptNs
      let limitNs = expire { deadlineNs in
        if shared.stop.isStopping { return .unavailable("the PostgreSQL backend is stopping") }
        if nowNs >= deadlineNs { return .overdue(shared.outage.failure.message) }
        return isDue || nowNs < shared.outage.limitNs(deadlineNs: deadlineNs) ? nil : shared.outage.failure
      }
      guard let limitNs else { return nil }
      if isDue {
        attempt(untilNs: min(limitNs, max(shared.outage.limitNs(deadlineNs: .max), nowNs + 1_000_000_000)))
      } else {
        _ = shared.stop.sleep(untilNs: min(limitNs, nextAttemptNs))
      }
    }
  }

  /// Tries to connect when it is time to. For a thread without calls.
  func attemptIfDue() {
    if session == nil, monotonicNs() >= nextAttemptNs, !shared.stop.isStopping { attempt(untilNs: .max) }
  }

  private func attempt(untilNs: UInt64) {
    do throws(PostgreSQLProblem) {
      session = try Session(role, shared.settings, layout: shared.layout, stop: shared.stop, deadlineNs: untilNs)
      backoff = Backoff()
      shared.outage.ended()
      shared.health.connected()
      if hasConnected { shared.metrics.reconnects.increment() }
      hasConnected = true
    } catch {
      nextAttemptNs = monotonicNs() + backoff.nextNs()
      shared.outage.began(error)
      shared.health.disconnected(error)
    }
  }
}
