import CSQLite
import PluginAPI
import Synchronization

/// Says how the backend is, when that changes.
final class HealthReporter: Sendable {
  private let context: Context
  private let isSound = Atomic<Bool>(true)
  private let said = Mutex<String>("")

  init(_ context: Context) { self.context = context }

  /// A call failed because of the file or the disk.
  func report(_ problem: SQLiteProblem) {
    guard problem.concernsAll else { return }
    let message = problem.failure.message
    said.withLock { said in
      if said == message { return }
      said = message
      isSound.store(false, ordering: .releasing)
      context.health(problem.leavesReads ? .degraded : .unhealthy, message)
      context.log.error("the file could not be used", ["reason": message])
    }
  }

  /// A write succeeded: whatever was wrong is over. (Reads do not clear: they may do well on a full disk.)
  func clear() {
    if isSound.load(ordering: .acquiring) { return }
    said.withLock { said in
      if said.isEmpty { return }
      said = ""
      isSound.store(true, ordering: .releasing)
      context.health(.healthy)
      context.log.info("the file can be used again")
    }
  }
}
