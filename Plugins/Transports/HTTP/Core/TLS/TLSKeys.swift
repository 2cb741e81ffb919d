/// The slot's `tls` mapping. docs/http.md has the table.
struct TLSKeys: Decodable, Sendable {
  var certificateFile: String?
  var privateKeyFile: String?
  /// PEM text, as a secret.
  var privateKey: String?
  var privateKeyPassphrase: String?
  var minimumVersion: String?
  var clientAuthorityFile: String?
  var handshakeTimeoutMs: Int?
  var certificateCheckIntervalMs: Int?

  enum CodingKeys: String, CodingKey {
    case certificateFile = "certificate_file"
    case privateKeyFile = "private_key_file"
    case privateKey = "private_key"
    case privateKeyPassphrase = "private_key_passphrase"
    case minimumVersion = "minimum_version"
    case clientAuthorityFile = "client_authority_file"
    case handshakeTimeoutMs = "handshake_timeout_ms"
    case certificateCheckIntervalMs = "certificate_check_interval_ms"
  }
}
