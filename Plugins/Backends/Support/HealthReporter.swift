import PluginAPI
import Synchronization

/// What went wrong in a store.
public protocol StoreProblem: Error {
  /// One sentence for the operator, without secrets.
  var failure: Failure { get }
  /// Whether it is the store that has a problem, and not one request.
  var concernsAll: Bool { get }
  /// Reads still work: somebody should look, but the node serves.
  var leavesReads: Bool { get }
}

/// Says how the backend is, when that changes.
public final class HealthReporter: Sendable {
  private let context: Context
  private let isSound = Atomic<Bool>(true)
  private let said = Mutex<String>("")
  /// What holds when nothing is wrong.
  private let sound = Mutex<(health: Context.Health, message: String)>((.healthy, ""))

  public init(_ context: Context) { self.context = context }

  /// Says `health` now and whenever a problem is over: for a store that works and lacks something. Any thread.
  public func whenSound(_ health: Context.Health, _ message: String) {
    sound.withLock { $0 = (health, message) }
    context.health(health, message)
  }

  /// A call failed because of the store. Any thread.
  public func report(_ problem: some StoreProblem) {
    guard problem.concernsAll else { return }
    let message = problem.failure.message
    said.withLock { said in
      if said == message { return }
      said = message
      isSound.store(false, ordering: .releasing)
      context.health(problem.leavesReads ? .degraded : .unhealthy, message)
      context.log.error("the store could not be used", ["reason": message])
    }
  }

  /// A write succeeded: whatever was wrong is over. (Reads do not clear: they may do well on a full disk.) Any thread.
  public func clear() {
    if isSound.load(ordering: .acquiring) { return }
    said.withLock { said in
      if said.isEmpty { return }
      said = ""
      isSound.store(true, ordering: .releasing)
      let sound = sound.withLock { $0 }
      context.health(sound.health, sound.message)
      context.log.info("the store can be used again")
    }
  }
}
