import PluginAPI
import Synchronization

/// The server of an instance, from its start to its end, on one of the instance's listeners.
final class ServerLife: Sendable {
  private let limits: Limits
  private let context: Context
  private let server = Mutex<HTTPServer?>(nil)

  init(_ limits: Limits, _ context: Context) {
    self.limits = limits
    self.context = context
  }

  func start(on listener: String) throws {
    let listener = try context.borrowListener(listener)
    let started = try HTTPServer(listener: listener.descriptor, limits: limits, context: context)
    server.withLock { $0 = started }
  }

  func quiesce(_ deadline: Deadline) async {
    await server.withLock { $0 }?.quiesce(deadlineNs: deadline.monotonicNs)
  }

  func stop() async {
    let running = server.withLock { server in
      defer { server = nil }
      return server
    }
    await running?.stop()
  }

  func connections() -> Int { server.withLock { $0 }?.connections ?? 0 }
}
