import PluginAPI

/// What one loop has counted since it last reported.
struct Counters {
  var requests = [UInt64](repeating: 0, count: Route.allCases.count)
  var clientErrors: UInt64 = 0
  var serverErrors: UInt64 = 0
  var timeouts: UInt64 = 0
  var connectionsRefused: UInt64 = 0
  var sentBytes: UInt64 = 0
}

/// The handles of this transport's time series. Defined in `start`, recorded once a second.
struct Series: Sendable {
  private let requests: [Counter]
  private let clientErrors: Counter
  private let serverErrors: Counter
  private let timeouts: Counter
  private let connectionsRefused: Counter
  private let sentBytes: Counter
  private let connections: Gauge

  init(_ metrics: Metrics) {
    requests = Route.allCases.map {
      metrics.counter(
        "http_requests_total", help: "Requests by route; options are CORS preflights.", labels: [("route", $0.label)])
    }
    clientErrors = metrics.counter("http_client_errors_total", help: "Answers with a status of 400 to 499.")
    serverErrors = metrics.counter("http_server_errors_total", help: "Answers with a status of 500 to 599.")
    timeouts = metrics.counter(
      "http_timeouts_total",
      help: "Connections closed because a header, a body or the reading of an answer took too long."
    )
    connectionsRefused = metrics.counter(
      "http_connections_refused_total", help: "Connections above connections_max, answered 503 and closed.")
    sentBytes = metrics.counter("http_sent_bytes_total", help: "Bytes of answers, heads included.", unit: "bytes")
    connections = metrics.gauge("http_connections", help: "Open connections.")
  }

  func report(_ counters: inout Counters, host: HostHandle, connectionsOpen: Int) {
    func add(_ value: UInt64, _ counter: Counter) {
      if value > 0 { counter.add(Double(value)) }
    }
    for (index, count) in counters.requests.enumerated() { add(count, requests[index]) }
    add(counters.clientErrors, clientErrors)
    add(counters.serverErrors, serverErrors)
    add(counters.timeouts, timeouts)
    add(counters.connectionsRefused, connectionsRefused)
    add(counters.sentBytes, sentBytes)
    connections.set(Double(max(0, connectionsOpen)))
    counters = Counters()
  }
}
