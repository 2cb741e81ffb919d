import PluginAPI
import WebSocketTransport

/// The slot's configuration: the keys of WebSocket, and those of the HTTP transport that are about its port.
public struct WebSocketPortConfiguration: Decodable, Sendable {
  var http = HTTPConfiguration()
  var webSocket = WebSocketConfiguration()
  var path: String?

  enum CodingKeys: String, CodingKey { case path }

  public init() {}

  public init(from decoder: any Decoder) throws {
    http = try HTTPConfiguration(from: decoder)
    webSocket = try WebSocketConfiguration(from: decoder)
    path = try decoder.container(keyedBy: CodingKeys.self).decodeIfPresent(String.self, forKey: .path)
  }

  /// - Throws: `ConfigurationErrors` with every value that does not fit.
  func limits() throws -> Limits {
    var limits = Limits()
    var problems: [ConfigurationProblem] = []
    do { limits = try http.limits() } catch let errors as ConfigurationErrors { problems = errors.problems }
    if http.webSocket != nil {
      problems.append(
        ConfigurationProblem(
          pointer: "/websocket", message: "websocket is a key of the HTTP transport: here its keys stand by themselves."
        ))
    }
    if let path, !path.hasPrefix("/") || path.utf8.contains(where: { $0 <= 0x20 || $0 >= 0x7F || $0 == 0x3F }) {
      problems.append(
        ConfigurationProblem(pointer: "/path", message: "path is the path of a URL: it begins with a slash."))
    }
    let (own, wrong) = webSocket.limits(over: http.webSocketDefaults(limits))
    let known = Set(problems.map(\.pointer))
    // Keys that both know are said once.
    problems += wrong.filter { !known.contains($0.pointer) }
    guard problems.isEmpty else { throw ConfigurationErrors(problems: problems) }
    limits.webSocket = own
    limits.isWebSocketOnly = true
    limits.webSocketPath = path
    return limits
  }
}

/// WebSocket on a port of its own: the HTTP transport's server with that one route.
public final class WebSocketPortTransport: Transport {
  private let server: ServerLife

  /// The executor only starts and stops the loops.
  public static var threads: Int { 1 }

  public init(_ configuration: WebSocketPortConfiguration, _ context: Context) throws {
    server = ServerLife(try configuration.limits(), context)
  }

  public func start() async throws { try server.start(on: "websocket") }
  public func quiesce(_ deadline: Deadline) async { await server.quiesce(deadline) }
  public func stop() async { await server.stop() }
  public func connections() -> Int { server.connections() }
}
