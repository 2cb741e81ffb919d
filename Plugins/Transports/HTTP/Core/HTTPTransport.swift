import PluginAPI
import Synchronization

/// The B3nd HTTP API and the operator's endpoints, over HTTP/1.1, on event loops of its own.
public final class HTTPTransport: Transport {
  private let limits: Limits
  private let context: Context
  private let server = Mutex<HTTPServer?>(nil)

  /// The executor only starts and stops the loops.
  public static var threads: Int { 1 }

  public init(_ configuration: HTTPConfiguration, _ context: Context) throws {
    limits = try configuration.limits()
    self.context = context
  }

  public func start() async throws {
    let listener = try context.borrowListener("http")
    let started = try HTTPServer(listener: listener.descriptor, limits: limits, context: context)
    server.withLock { $0 = started }
  }

  public func quiesce(_ deadline: Deadline) async {
    await server.withLock { $0 }?.quiesce(deadlineNs: deadline.monotonicNs)
  }

  public func stop() async {
    let running = server.withLock { server in
      defer { server = nil }
      return server
    }
    await running?.stop()
  }

  public func connections() -> Int { server.withLock { $0 }?.connections ?? 0 }
}
