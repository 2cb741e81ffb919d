import PluginAPI
import Synchronization

/// Says how the backend is, when that changes: unhealthy without its server, degraded while it takes no writes.
final class PostgreSQLHealth: Sendable {
  private struct Said {
    var connection = ""
    var writing = ""
  }

  private let context: Context
  private let said = Mutex(Said())
  private let isSound = Atomic<Bool>(true)

  init(_ context: Context) { self.context = context }

  /// There is no connection to be had.
  func disconnected(_ problem: PostgreSQLProblem) {
    guard problem.kind != .stopping else { return }
    change { $0.connection = problem.failure.message }
  }

  func connected() {
    if isSound.load(ordering: .acquiring) { return }
    change { $0.connection = "" }
  }

  /// A write failed for a reason that concerns all writes; reads go on.
  func writeFailed(_ problem: PostgreSQLProblem) {
    guard problem.concernsAll, problem.kind != .stopping else { return }
    change { $0.writing = problem.failure.message }
  }

  func wrote() {
    if isSound.load(ordering: .acquiring) { return }
    change {
      $0.connection = ""
      $0.writing = ""
    }
  }

  private func change(_ body: (inout Said) -> Void) {
    said.withLock { said in
      let old = said
      body(&said)
      guard said.connection != old.connection || said.writing != old.writing else { return }
      isSound.store(said.connection.isEmpty && said.writing.isEmpty, ordering: .releasing)
      if !said.connection.isEmpty {
        context.health(.unhealthy, said.connection)
        if old.connection.isEmpty { context.log.error("the server cannot be used", ["reason": said.connection]) }
      } else if !said.writing.isEmpty {
        context.health(.degraded, said.writing)
        context.log.error("the server takes no writes", ["reason": said.writing])
      } else {
        context.health(.healthy)
        context.log.info("the server can be used again")
      }
    }
  }
}
