import PluginAPI

/// The keys of a slot with managed mode. Documented in docs/managed.md.
public struct ManagedSlot: Decodable, Sendable {
  /// What becomes of an update that the operator has published.
  enum UpdatePolicy: String, Decodable, Sendable {
    case announce
    case stage
    case apply
  }

  /// Whether a schema that comes over the network needs a digest in its URL.
  enum ChecksumPolicy: String, Decodable, Sendable {
    case required
    case optional
  }

  var configURL: String?
  var operatorKey: String?
  var nodeID: String?
  var nodePrivateKeyPEM: String?
  var nodeEncryptionPrivateKeyHex: String?
  var operatorEncryptionPublicKeyHex: String?
  var updates: UpdatePolicy?
  var requireNewerConfiguration: Bool?
  var keepLastConfiguration: Bool?
  var schemaChecksum: ChecksumPolicy?
  var configToken: String?
  var configCAFile: String?
  var requestTimeoutMs: Int?
  var downloadTimeoutMs: Int?
  var downloadSizeBytesMax: Int?
  var configPollIntervalMs: Int?
  var heartbeatIntervalMs: Int?
  var metricsIntervalMs: Int?
  var schemaPollIntervalMs: Int?

  enum CodingKeys: String, CodingKey {
    case configURL = "config_url"
    case operatorKey = "operator_key"
    case nodeID = "node_id"
    case nodePrivateKeyPEM = "node_private_key_pem"
    case nodeEncryptionPrivateKeyHex = "node_encryption_private_key_hex"
    case operatorEncryptionPublicKeyHex = "operator_encryption_public_key_hex"
    case updates
    case requireNewerConfiguration = "require_newer_configuration"
    case keepLastConfiguration = "keep_last_configuration"
    case schemaChecksum = "schema_checksum"
    case configToken = "config_token"
    case configCAFile = "config_ca_file"
    case requestTimeoutMs = "request_timeout_ms"
    case downloadTimeoutMs = "download_timeout_ms"
    case downloadSizeBytesMax = "download_size_bytes_max"
    case configPollIntervalMs = "config_poll_interval_ms"
    case heartbeatIntervalMs = "heartbeat_interval_ms"
    case metricsIntervalMs = "metrics_interval_ms"
    case schemaPollIntervalMs = "schema_poll_interval_ms"
  }
}
