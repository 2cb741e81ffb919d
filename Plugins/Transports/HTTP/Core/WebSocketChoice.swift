import PluginAPI
import WebSocketTransport

/// The key `websocket`: true, false, or an object with bounds of its own.
enum WebSocketChoice: Decodable, Sendable {
  case off
  case on(WebSocketConfiguration)

  init(from decoder: any Decoder) throws {
    if let isOn = try? decoder.singleValueContainer().decode(Bool.self) {
      self = isOn ? .on(WebSocketConfiguration()) : .off
    } else {
      self = .on(try WebSocketConfiguration(from: decoder))
    }
  }
}

extension HTTPConfiguration {
  /// What WebSocket has no key of its own for holds as it does for HTTP.
  func applyWebSocket(to limits: inout Limits, _ problems: inout [ConfigurationProblem]) {
    guard case .on(let configuration) = webSocket ?? .on(WebSocketConfiguration()) else {
      limits.webSocket = nil
      return
    }
    let (own, wrong) = configuration.limits(over: webSocketDefaults(limits), prefix: "/websocket")
    limits.webSocket = own
    problems += wrong
  }

  func webSocketDefaults(_ limits: Limits) -> WebSocketLimits {
    var defaults = WebSocketLimits()
    defaults.loops = limits.loops
    defaults.origins = origins?.rule ?? (limits.corsOrigin == "*" ? .any : .listed([limits.corsOrigin]))
    defaults.messageSizeBytesMax = limits.bodySizeBytesMax
    defaults.messagesSizeBytesMax = limits.bodiesSizeBytesMax
    defaults.connectionsMax = limits.connectionsMax
    defaults.jsonDepthMax = limits.jsonDepthMax
    defaults.readMultiSizeBytesMax = limits.readMultiSizeBytesMax
    defaults.requestTimeoutMs = limits.requestTimeoutMs
    defaults.writeTimeoutMs = limits.writeTimeoutMs
    return defaults
  }
}
