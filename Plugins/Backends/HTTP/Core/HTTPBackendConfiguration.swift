import PluginAPI

/// The keys of a slot with the HTTP backend. Documented in docs/http-backend.md.
public struct HTTPBackendConfiguration: Decodable, Sendable {
  var url: String?
  var timeoutMs: Int?
  var connectTimeoutMs: Int?
  var idleTimeoutMs: Int?
  var healthIntervalMs: Int?
  var connectionsMax: Int?
  var queueUnitsMax: Int?
  var responseSizeBytesMax: Int?
  var scanURIsMax: Int?
  var tlsCAFile: String?
  var tlsServerName: String?
  var tlsCertificateFile: String?
  var tlsPrivateKeyFile: String?

  enum CodingKeys: String, CodingKey {
    case url
    case timeoutMs = "timeout_ms"
    case connectTimeoutMs = "connect_timeout_ms"
    case idleTimeoutMs = "idle_timeout_ms"
    case healthIntervalMs = "health_interval_ms"
    case connectionsMax = "connections_max"
    case queueUnitsMax = "queue_units_max"
    case responseSizeBytesMax = "response_size_bytes_max"
    case scanURIsMax = "scan_uris_max"
    case tlsCAFile = "tls_ca_file"
    case tlsServerName = "tls_server_name"
    case tlsCertificateFile = "tls_certificate_file"
    case tlsPrivateKeyFile = "tls_private_key_file"
  }
}

/// The same, checked, with nothing left to decide.
struct Settings: Sendable {
  var remote = RemoteURL()
  /// From the request to the whole of its answer.
  var timeoutMs = 30_000
  var connectTimeoutMs = 5_000
  /// How long a connection without work is kept.
  var idleTimeoutMs = 60_000
  var healthIntervalMs = 5_000
  var connectionsMax = 32
  /// Units, reads and scans that wait for a connection or for an earlier write to the same URI.
  var queueUnitsMax = 16_384
  var responseSizeBytesMax = 128 << 20
  var scanURIsMax = 100_000
  var tls: TLSSettings?

  init() {}

  /// Checks syntax and ranges and reads the files that are named. Throws `ConfigurationErrors` with all that is wrong.
  init(_ configuration: HTTPBackendConfiguration) throws {
    var problems: [ConfigurationProblem] = []
    func take(_ key: HTTPBackendConfiguration.CodingKeys, _ value: Int?, _ range: ClosedRange<Int>, _ into: inout Int) {
      guard let value else { return }
      if range.contains(value) {
        into = value
      } else {
        problems.append(
          ConfigurationProblem(
            pointer: "/\(key.rawValue)",
            message: "\(key.rawValue) is \(value); give \(range.lowerBound) to \(range.upperBound)"))
      }
    }
    do throws(ConfigurationProblem) { remote = try RemoteURL(configuration.url) } catch { problems.append(error) }
    take(.timeoutMs, configuration.timeoutMs, 1...3_600_000, &timeoutMs)
    take(.connectTimeoutMs, configuration.connectTimeoutMs, 1...600_000, &connectTimeoutMs)
    take(.idleTimeoutMs, configuration.idleTimeoutMs, 1...86_400_000, &idleTimeoutMs)
    take(.healthIntervalMs, configuration.healthIntervalMs, 50...86_400_000, &healthIntervalMs)
    take(.connectionsMax, configuration.connectionsMax, 1...1_024, &connectionsMax)
    take(.queueUnitsMax, configuration.queueUnitsMax, 1...1_000_000, &queueUnitsMax)
    take(.responseSizeBytesMax, configuration.responseSizeBytesMax, 1_024...(4 << 30), &responseSizeBytesMax)
    take(.scanURIsMax, configuration.scanURIsMax, 1...10_000_000, &scanURIsMax)
    do throws(ConfigurationErrors) {
      tls = try TLSSettings(configuration, isTLS: remote.isTLS, knowsURL: !remote.host.isEmpty)
    } catch {
      problems += error.problems
    }
    if !problems.isEmpty { throw ConfigurationErrors(problems: problems) }
  }
}
