import Glibc
import PluginAPI

/// What one loop has counted since it last reported.
struct Counters {
  var requests = [UInt64](repeating: 0, count: Route.allCases.count)
  var clientErrors: UInt64 = 0
  var serverErrors: UInt64 = 0
  var timeouts: UInt64 = 0
  var connectionsRefused: UInt64 = 0
  var sentBytes: UInt64 = 0
  var handshakesFailed: UInt64 = 0
  var floods: UInt64 = 0
  var rateLimited: UInt64 = 0
  var denied: UInt64 = 0
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
  private let http2Connections: Gauge
  private let floods: Counter
  private let handshakesFailed: Counter
  private let certificateExpiry: Gauge?
  private let rateLimited: Counter
  private let denied: Counter

  /// - Parameter hasTLS: whether there is a certificate that can expire.
  init(_ metrics: Metrics, hasTLS: Bool) {
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
    http2Connections = metrics.gauge("http_http2_connections", help: "Open connections that carry HTTP/2.")
    floods = metrics.counter(
      "http_http2_floods_total",
      help: "HTTP/2 connections ended because of too many resets, pings, settings, empty frames or errors.")
    handshakesFailed = metrics.counter(
      "http_tls_handshakes_failed_total", help: "Connections whose TLS handshake failed or took too long.")
    certificateExpiry =
      hasTLS
      ? metrics.gauge(
        "http_tls_certificate_expiry_seconds",
        help: "Time until the certificate that is shown expires; below 0: since it has.", unit: "seconds") : nil
    rateLimited = metrics.counter(
      "http_rate_limited_total", help: "Requests answered 429 because their client sent more than rate_limit allows.")
    denied = metrics.counter(
      "http_denied_total", help: "Requests answered 401 or 403 because of tokens, anonymous or origins.")
  }

  /// - Parameter certificateExpiry: seconds since 1970.
  func report(certificateExpiry seconds: Int) { certificateExpiry?.set(Double(seconds - time(nil))) }

  func report(
    _ counters: inout Counters, host: HostHandle, connectionsOpen: Int, multiplexedOpen: Int
  ) {
    func add(_ value: UInt64, _ counter: Counter) {
      if value > 0 { counter.add(Double(value)) }
    }
    for (index, count) in counters.requests.enumerated() { add(count, requests[index]) }
    add(counters.clientErrors, clientErrors)
    add(counters.serverErrors, serverErrors)
    add(counters.timeouts, timeouts)
    add(counters.connectionsRefused, connectionsRefused)
    add(counters.sentBytes, sentBytes)
    add(counters.handshakesFailed, handshakesFailed)
    add(counters.floods, floods)
    add(counters.rateLimited, rateLimited)
    add(counters.denied, denied)
    http2Connections.set(Double(max(0, multiplexedOpen)))
    connections.set(Double(max(0, connectionsOpen)))
    counters = Counters()
  }
}
