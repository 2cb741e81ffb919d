import PluginAPI

/// The keys of WebSocket in a slot's configuration. Every key is optional; docs/websocket.md has the table.
public struct WebSocketConfiguration: Decodable, Sendable {
  public var origins: Origins?
  public var messageSizeBytesMax: Int?
  public var messagesSizeBytesMax: Int?
  public var requestsInFlightMax: Int?
  public var connectionsMax: Int?
  public var subscriptionsMax: Int?
  public var subscriptionEventsMax: Int?
  public var outputSizeBytesMax: Int?
  public var jsonDepthMax: Int?
  public var readMultiSizeBytesMax: Int?
  public var requestTimeoutMs: Int?
  public var writeTimeoutMs: Int?
  public var idleTimeoutMs: Int?
  public var pingIntervalMs: Int?
  public var pingTimeoutMs: Int?
  public var closeTimeoutMs: Int?

  enum CodingKeys: String, CodingKey {
    case origins
    case messageSizeBytesMax = "message_size_bytes_max"
    case messagesSizeBytesMax = "messages_size_bytes_max"
    case requestsInFlightMax = "requests_in_flight_max"
    case connectionsMax = "connections_max"
    case subscriptionsMax = "subscriptions_max"
    case subscriptionEventsMax = "subscription_events_max"
    case outputSizeBytesMax = "output_size_bytes_max"
    case jsonDepthMax = "json_depth_max"
    case readMultiSizeBytesMax = "read_multi_size_bytes_max"
    case requestTimeoutMs = "request_timeout_ms"
    case writeTimeoutMs = "write_timeout_ms"
    case idleTimeoutMs = "idle_timeout_ms"
    case pingIntervalMs = "ping_interval_ms"
    case pingTimeoutMs = "ping_timeout_ms"
    case closeTimeoutMs = "close_timeout_ms"
  }

  /// `*`, or a list of origins.
  public struct Origins: Decodable, Sendable, ExpressibleByArrayLiteral {
    public var rule: OriginRule
    /// Nil: any.
    public var list: [String]? { if case .listed(let origins) = rule { origins } else { nil } }

    public init(_ rule: OriginRule) { self.rule = rule }

    public init(arrayLiteral elements: String...) { rule = .listed(elements) }

    public init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let text = try? container.decode(String.self) {
        rule = text == "*" ? .any : .listed([text])
      } else {
        rule = .listed(try container.decode([String].self))
      }
    }
  }

  public init() {}

  /// Puts what is configured over `defaults`.
  /// - Parameter prefix: of the JSON pointers in the problems: where these keys stand in the slot's configuration.
  /// - Returns: the limits, and every value that is out of range.
  public func limits(
    over defaults: WebSocketLimits, prefix: String = ""
  ) -> (limits: WebSocketLimits, problems: [ConfigurationProblem]) {
    var limits = defaults
    var problems: [ConfigurationProblem] = []
    func take(_ value: Int?, _ key: CodingKeys, _ range: ClosedRange<Int>, _ unit: String, into target: inout Int) {
      guard let value else { return }
      if range.contains(value) {
        target = value
      } else {
        problems.append(
          ConfigurationProblem(
            pointer: "\(prefix)/\(key.rawValue)",
            message:
              "\(key.rawValue) is \(value); set it to between \(range.lowerBound) and \(range.upperBound)\(unit)."
          ))
      }
    }
    let size = 1...(1 << 30)
    let time = 1...86_400_000
    take(messageSizeBytesMax, .messageSizeBytesMax, size, " bytes", into: &limits.messageSizeBytesMax)
    take(messagesSizeBytesMax, .messagesSizeBytesMax, 1...(1 << 40), " bytes", into: &limits.messagesSizeBytesMax)
    take(requestsInFlightMax, .requestsInFlightMax, 1...10_000, " requests", into: &limits.requestsInFlightMax)
    take(connectionsMax, .connectionsMax, 1...1_000_000, " connections", into: &limits.connectionsMax)
    take(subscriptionsMax, .subscriptionsMax, 0...100_000, " subscriptions", into: &limits.subscriptionsMax)
    take(subscriptionEventsMax, .subscriptionEventsMax, 2...10_000, " events", into: &limits.subscriptionEventsMax)
    take(outputSizeBytesMax, .outputSizeBytesMax, 65_536...(1 << 40), " bytes", into: &limits.outputSizeBytesMax)
    take(jsonDepthMax, .jsonDepthMax, 8...1_000_000, " levels", into: &limits.jsonDepthMax)
    take(readMultiSizeBytesMax, .readMultiSizeBytesMax, size, " bytes", into: &limits.readMultiSizeBytesMax)
    take(requestTimeoutMs, .requestTimeoutMs, time, " ms", into: &limits.requestTimeoutMs)
    take(writeTimeoutMs, .writeTimeoutMs, time, " ms", into: &limits.writeTimeoutMs)
    take(idleTimeoutMs, .idleTimeoutMs, time, " ms", into: &limits.idleTimeoutMs)
    take(pingIntervalMs, .pingIntervalMs, time, " ms", into: &limits.pingIntervalMs)
    take(pingTimeoutMs, .pingTimeoutMs, time, " ms", into: &limits.pingTimeoutMs)
    take(closeTimeoutMs, .closeTimeoutMs, time, " ms", into: &limits.closeTimeoutMs)
    if let origins {
      limits.origins = origins.rule
      if case .listed(let listed) = origins.rule {
        for (index, origin) in listed.enumerated() where origin.isEmpty || origin.utf8.contains(where: { $0 <= 0x20 }) {
          problems.append(
            ConfigurationProblem(
              pointer: "\(prefix)/origins/\(index)",
              message: "an origin is written as a browser sends it: https://app.example.org"))
        }
      }
    }
    return (limits, problems)
  }
}
