import PluginAPI
import WebSocketTransport

/// The slot's configuration. Every key is optional; docs/http.md has the table.
public struct HTTPConfiguration: Decodable, Sendable {
  var port: Int?
  var loops: Int?
  var corsOrigin: String?
  var bodySizeBytesMax: Int?
  var bodiesSizeBytesMax: Int?
  var headerSizeBytesMax: Int?
  var uriSizeBytesMax: Int?
  var jsonDepthMax: Int?
  var headerTimeoutMs: Int?
  var bodyTimeoutMs: Int?
  var idleTimeoutMs: Int?
  var writeTimeoutMs: Int?
  var requestTimeoutMs: Int?
  var lingerTimeoutMs: Int?
  var connectionsMax: Int?
  var pipelinedRequestsMax: Int?
  var readMultiSizeBytesMax: Int?
  var http2StreamsMax: Int?
  var http2AnswersSizeBytesMax: Int?
  var tls: TLSKeys?
  var tokens: [TokenKeys]?
  var anonymous: [String]?
  var origins: WebSocketConfiguration.Origins?
  var rateLimit: RateLimitKeys?
  var trustedProxies: [String]?
  var clientAddressHeader: String?
  var webSocket: WebSocketChoice?

  enum CodingKeys: String, CodingKey {
    case port
    case loops
    case corsOrigin = "cors_origin"
    case bodySizeBytesMax = "body_size_bytes_max"
    case bodiesSizeBytesMax = "bodies_size_bytes_max"
    case headerSizeBytesMax = "header_size_bytes_max"
    case uriSizeBytesMax = "uri_size_bytes_max"
    case jsonDepthMax = "json_depth_max"
    case headerTimeoutMs = "header_timeout_ms"
    case bodyTimeoutMs = "body_timeout_ms"
    case idleTimeoutMs = "idle_timeout_ms"
    case writeTimeoutMs = "write_timeout_ms"
    case requestTimeoutMs = "request_timeout_ms"
    case lingerTimeoutMs = "linger_timeout_ms"
    case connectionsMax = "connections_max"
    case pipelinedRequestsMax = "pipelined_requests_max"
    case readMultiSizeBytesMax = "read_multi_size_bytes_max"
    case http2StreamsMax = "http2_streams_max"
    case http2AnswersSizeBytesMax = "http2_answers_size_bytes_max"
    case tls
    case tokens
    case anonymous
    case origins
    case rateLimit = "rate_limit"
    case trustedProxies = "trusted_proxies"
    case clientAddressHeader = "client_address_header"
    case webSocket = "websocket"
  }

  public init() {}

  /// The limits this configuration stands for.
  /// - Throws: `ConfigurationErrors` with every value that is out of range.
  func limits() throws -> Limits {
    var limits = Limits()
    var problems: [ConfigurationProblem] = []
    func take(_ value: Int?, _ key: CodingKeys, _ range: ClosedRange<Int>, _ unit: String, into target: inout Int) {
      guard let value else { return }
      if range.contains(value) {
        target = value
      } else {
        problems.append(
          ConfigurationProblem(
            pointer: "/\(key.rawValue)",
            message:
              "\(key.rawValue) is \(value); set it to between \(range.lowerBound) and \(range.upperBound)\(unit)."
          ))
      }
    }
    var ignoredPort = 0
    take(port, .port, 0...65_535, "", into: &ignoredPort)
    take(loops, .loops, 1...64, " event loops", into: &limits.loops)
    take(bodySizeBytesMax, .bodySizeBytesMax, 1...(1 << 30), " bytes", into: &limits.bodySizeBytesMax)
    take(bodiesSizeBytesMax, .bodiesSizeBytesMax, 1...(1 << 40), " bytes", into: &limits.bodiesSizeBytesMax)
    take(headerSizeBytesMax, .headerSizeBytesMax, 256...(1 << 20), " bytes", into: &limits.headerSizeBytesMax)
    take(uriSizeBytesMax, .uriSizeBytesMax, 64...(1 << 20), " bytes", into: &limits.uriSizeBytesMax)
    take(jsonDepthMax, .jsonDepthMax, 8...1_000_000, " levels", into: &limits.jsonDepthMax)
    let time = 1...86_400_000
    take(headerTimeoutMs, .headerTimeoutMs, time, " ms", into: &limits.headerTimeoutMs)
    take(bodyTimeoutMs, .bodyTimeoutMs, time, " ms", into: &limits.bodyTimeoutMs)
    take(idleTimeoutMs, .idleTimeoutMs, time, " ms", into: &limits.idleTimeoutMs)
    take(writeTimeoutMs, .writeTimeoutMs, time, " ms", into: &limits.writeTimeoutMs)
    take(requestTimeoutMs, .requestTimeoutMs, time, " ms", into: &limits.requestTimeoutMs)
    take(lingerTimeoutMs, .lingerTimeoutMs, time, " ms", into: &limits.lingerTimeoutMs)
    take(connectionsMax, .connectionsMax, 1...1_000_000, " connections", into: &limits.connectionsMax)
    take(pipelinedRequestsMax, .pipelinedRequestsMax, 1...10_000, " requests", into: &limits.pipelinedRequestsMax)
    take(readMultiSizeBytesMax, .readMultiSizeBytesMax, 1...(1 << 30), " bytes", into: &limits.readMultiSizeBytesMax)
    if let corsOrigin {
      if corsOrigin.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7F }), corsOrigin.utf8.count <= 1024 {
        limits.corsOrigin = corsOrigin
      } else {
        problems.append(
          ConfigurationProblem(
            pointer: "/cors_origin",
            message: "cors_origin must be at most 1024 printable ASCII characters: it is sent as a header."))
      }
    }
    take(http2StreamsMax, .http2StreamsMax, 1...10_000, " streams", into: &limits.streamsMax)
    take(
      http2AnswersSizeBytesMax, .http2AnswersSizeBytesMax, 65_536...(1 << 30), " bytes",
      into: &limits.answersSizeBytesMax)
    if let tls { takeTLS(tls, &limits, &problems) }
    let access = AccessKeys(
      tokens: tokens, anonymous: anonymous, origins: origins?.list, rateLimit: rateLimit,
      trustedProxies: trustedProxies, clientAddressHeader: clientAddressHeader)
    limits.access = AccessPolicy(access, problems: &problems)
    applyWebSocket(to: &limits, &problems)
    guard problems.isEmpty else { throw ConfigurationErrors(problems: problems) }
    return limits
  }

  /// Reads the files, so that what is wrong in them is known before anything is replaced.
  private func takeTLS(_ keys: TLSKeys, _ limits: inout Limits, _ problems: inout [ConfigurationProblem]) {
    let count = problems.count
    var settings = TLSSettings(keys, problems: &problems)
    settings.shutdownTimeoutMs = limits.lingerTimeoutMs
    if let timeout = keys.handshakeTimeoutMs {
      if (1...86_400_000).contains(timeout) {
        limits.handshakeTimeoutMs = timeout
      } else {
        problems.append(
          ConfigurationProblem(
            pointer: "/tls/handshake_timeout_ms",
            message: "handshake_timeout_ms is \(timeout); set it to between 1 and 86400000 ms."))
      }
    }
    guard problems.count == count else { return }
    do { _ = try TLSIdentity.read(settings) } catch { problems += error.problems }
    limits.tls = settings
  }
}
