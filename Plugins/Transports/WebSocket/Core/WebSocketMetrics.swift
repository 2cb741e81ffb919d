import PluginAPI

/// What one loop has counted since it last reported.
struct WebSocketCounters {
  var requests = [UInt64](repeating: 0, count: RequestKind.allCases.count)
  var closed = [UInt64](repeating: 0, count: CloseCause.allCases.count)
  var failures: UInt64 = 0
  var events: UInt64 = 0
  var gaps: UInt64 = 0
  var sentBytes: UInt64 = 0
}

/// Why this side closed a connection. The raw value is the index of its counter.
enum CloseCause: Int, CaseIterable {
  case protocolError, malformed, messageTooLarge, overloaded, slowReader, outputTooLarge, noPong, idle, goingAway

  var label: String {
    switch self {
    case .protocolError: "protocol_error"
    case .malformed: "malformed"
    case .messageTooLarge: "message_size_bytes_max"
    case .overloaded: "messages_size_bytes_max"
    case .slowReader: "write_timeout_ms"
    case .outputTooLarge: "output_size_bytes_max"
    case .noPong: "ping_timeout_ms"
    case .idle: "idle_timeout_ms"
    case .goingAway: "going_away"
    }
  }
}

/// The handles of the time series. Defined in `start`, recorded once a second.
public struct WebSocketSeries: Sendable {
  private let requests: [Counter]
  private let closed: [Counter]
  private let failures: Counter
  private let events: Counter
  private let gaps: Counter
  private let sentBytes: Counter
  private let connections: Gauge
  private let subscriptions: Gauge

  public init(_ metrics: Metrics) {
    requests = RequestKind.allCases.map {
      metrics.counter("websocket_requests_total", help: "Requests by type.", labels: [("type", $0.label)])
    }
    closed = CloseCause.allCases.map {
      metrics.counter(
        "websocket_closed_total", help: "Connections that this side closed; the cause of a bound is its key.",
        labels: [("cause", $0.label)])
    }
    failures = metrics.counter("websocket_failures_total", help: "Requests answered with success false.")
    events = metrics.counter("websocket_events_total", help: "Events sent to subscribers.")
    gaps = metrics.counter("websocket_gaps_total", help: "Events that said that something before them was lost.")
    sentBytes = metrics.counter("websocket_sent_bytes_total", help: "Bytes of frames sent.", unit: "bytes")
    connections = metrics.gauge("websocket_connections", help: "Open connections.")
    subscriptions = metrics.gauge("websocket_subscriptions", help: "Subscriptions of all connections.")
  }

  func report(_ counters: inout WebSocketCounters, connectionsOpen: Int, subscriptionsOpen: Int) {
    func add(_ value: UInt64, _ counter: Counter) {
      if value > 0 { counter.add(Double(value)) }
    }
    for (index, count) in counters.requests.enumerated() { add(count, requests[index]) }
    for (index, count) in counters.closed.enumerated() { add(count, closed[index]) }
    add(counters.failures, failures)
    add(counters.events, events)
    add(counters.gaps, gaps)
    add(counters.sentBytes, sentBytes)
    connections.set(Double(connectionsOpen))
    subscriptions.set(Double(subscriptionsOpen))
    counters = WebSocketCounters()
  }
}
