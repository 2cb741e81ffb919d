import PluginAPI

/// The B3nd HTTP API and the operator's endpoints, over HTTP/1.1 and HTTP/2, on event loops of its own.
public final class HTTPTransport: Transport {
  private let server: ServerLife

  /// The executor only starts and stops the loops.
  public static var threads: Int { 1 }

  public init(_ configuration: HTTPConfiguration, _ context: Context) throws {
    server = ServerLife(try configuration.limits(), context)
  }

  public func start() async throws { try server.start(on: "http") }
  public func quiesce(_ deadline: Deadline) async { await server.quiesce(deadline) }
  public func stop() async { await server.stop() }
  public func connections() -> Int { server.connections() }
}
