import PluginAPI
import Synchronization

/// Says how the remote is, when that changes.
///
/// A remote that answers its health check with an error is DEGRADED here, not UNHEALTHY: two nodes that are each other's
/// backends would otherwise keep each other unhealthy for ever. One that cannot be reached is UNHEALTHY.
final class HealthReporter: Sendable {
  private let context: Context
  private let said = Mutex<(state: Context.Health, message: String)>((.healthy, ""))
  private let isReachable = Atomic<Bool>(true)
  /// Called when a request could not be sent: somebody should look now.
  private let onFailure = Mutex<(@Sendable () -> Void)?>(nil)

  init(_ context: Context) { self.context = context }

  func whenFailing(_ body: (@Sendable () -> Void)?) { onFailure.withLock { $0 = body } }

  /// The remote has answered a request as a node does.
  func answered() {
    if isReachable.load(ordering: .acquiring) { return }
    say(.healthy, "")
  }

  /// A request was not answered.
  func failed(_ problem: RemoteProblem) {
    switch problem.kind {
    case .unreachable, .misconfigured:
      let isNew = isReachable.load(ordering: .acquiring)
      say(.unhealthy, problem.failure.message)
      if isNew { onFailure.withLock { $0 }?() }
    case .timedOut, .lost, .tooLong, .cancelled, .stopping: break
    }
  }

  func say(_ state: Context.Health, _ message: String) {
    said.withLock { said in
      if said == (state, message) { return }
      let wasReachable = said.state != .unhealthy
      said = (state, message)
      isReachable.store(state != .unhealthy, ordering: .releasing)
      context.health(state, message)
      switch state {
      case .healthy: context.log.info("the other node is well")
      case .degraded: context.log.warning("the other node is not well", ["reason": message])
      case .unhealthy:
        if wasReachable { context.log.error("the other node cannot be used", ["reason": message]) }
      }
    }
  }
}
