import BackendSupport
import PluginAPI
import Synchronization

/// When the server was last there and when it is tried again, for all threads of an instance.
///
/// A call waits for a server that is away for `outage_wait_ms` from when the outage was noticed, and is refused at once
/// after that, until a connection succeeds.
final class Outage: Sendable {
  private struct State {
    /// nil: the server is there as far as anybody knows.
    var beganNs: UInt64?
    var problem: PostgreSQLProblem?
  }

  private let waitNs: UInt64
  private let state = Mutex(State())

  init(_ settings: PostgreSQLSettings) { waitNs = UInt64(settings.outageWaitMs) * 1_000_000 }

  func began(_ problem: PostgreSQLProblem) {
    state.withLock { state in
      if state.beganNs == nil { state.beganNs = monotonicNs() }
      state.problem = problem
    }
  }

  func ended() { state.withLock { $0 = State() } }

  /// Until when a call with this deadline may wait.
  func limitNs(deadlineNs: UInt64) -> UInt64 {
    let beganNs = state.withLock { $0.beganNs } ?? monotonicNs()
    return min(deadlineNs, beganNs + waitNs)
  }

  /// What a call is told that has waited long enough.
  var failure: Failure {
    state.withLock { $0.problem?.failure } ?? .unavailable("PostgreSQL is not there", retryAfterMs: 1_000)
  }
}

/// Pauses between attempts to connect: 20 ms doubling to 1 s, each half random so that many nodes do not come at once.
struct Backoff {
  private var pauseMs: UInt64 = 20

  mutating func nextNs() -> UInt64 {
    let ms = pauseMs / 2 + UInt64.random(in: 0...pauseMs / 2)
    pauseMs = min(pauseMs * 2, 1_000)
    return ms * 1_000_000
  }
}
