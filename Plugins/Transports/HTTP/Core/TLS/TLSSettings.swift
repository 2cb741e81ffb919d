import NIOSSL
import PluginAPI

/// What `tls` asks for, checked: where certificate and key come from, and who may shake hands.
struct TLSSettings: Sendable {
  var certificateFile = ""
  /// Nil: the key is `privateKey`.
  var privateKeyFile: String?
  var privateKey: [UInt8] = []
  var privateKeyPassphrase: [UInt8] = []
  var minimumVersion = TLSVersion.tlsv12
  /// Clients must show a certificate that one of the authorities in this file has signed.
  var clientAuthorityFile: String?
  var shutdownTimeoutMs = 2_000
  var certificateCheckIntervalMs = 10_000

  /// Every file that is read, in the order in which they are.
  var files: [String] { [certificateFile] + [privateKeyFile, clientAuthorityFile].compactMap { $0 } }

  /// - Parameter problems: gets what is wrong with the keys, not with what is in the files.
  init(_ keys: TLSKeys, problems: inout [ConfigurationProblem]) {
    func refuse(_ key: String, _ message: String) {
      problems.append(ConfigurationProblem(pointer: "/tls/\(key)", message: message))
    }
    func path(_ key: String, _ value: String?) -> String? {
      guard let value else { return nil }
      if value.hasPrefix("/"), !value.utf8.contains(0) { return value }
      refuse(key, "\(key) must be an absolute path.")
      return nil
    }
    if keys.certificateFile == nil {
      refuse("certificate_file", "certificate_file is missing: name the PEM file of the certificate.")
    }
    certificateFile = path("certificate_file", keys.certificateFile) ?? ""
    privateKeyFile = path("private_key_file", keys.privateKeyFile)
    clientAuthorityFile = path("client_authority_file", keys.clientAuthorityFile)
    privateKey = Array((keys.privateKey ?? "").utf8)
    privateKeyPassphrase = Array((keys.privateKeyPassphrase ?? "").utf8)
    switch (keys.privateKeyFile, keys.privateKey) {
    case (nil, nil):
      refuse(
        "private_key_file",
        "private_key_file is missing: name the PEM file with the certificate's key, or give it as private_key.")
    case (_?, _?): refuse("private_key", "Give private_key or private_key_file, not both.")
    default: break
    }
    switch keys.minimumVersion {
    case nil, "1.2": minimumVersion = .tlsv12
    case "1.3": minimumVersion = .tlsv13
    default: refuse("minimum_version", "minimum_version must be \"1.2\" or \"1.3\", as a text in quotes.")
    }
    if let interval = keys.certificateCheckIntervalMs {
      if (10...86_400_000).contains(interval) {
        certificateCheckIntervalMs = interval
      } else {
        refuse(
          "certificate_check_interval_ms",
          "certificate_check_interval_ms is \(interval); set it to between 10 and 86400000 ms.")
      }
    }
  }
}
