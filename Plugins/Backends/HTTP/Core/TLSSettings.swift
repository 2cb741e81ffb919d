import NIOSSL
import PluginAPI

/// How an https remote is recognised. Certificates are always verified; there is no key to switch that off.
struct TLSSettings: Sendable {
  let configuration: TLSConfiguration
  /// The name to ask for and to find in the certificate; nil: the host of the url.
  let serverName: String?

  /// Nil for http. Reads the files that are named.
  init?(
    _ keys: HTTPBackendConfiguration, isTLS: Bool, knowsURL: Bool
  ) throws(ConfigurationErrors) {
    var problems: [ConfigurationProblem] = []
    let given = [
      ("tls_ca_file", keys.tlsCAFile), ("tls_server_name", keys.tlsServerName),
      ("tls_certificate_file", keys.tlsCertificateFile), ("tls_private_key_file", keys.tlsPrivateKeyFile),
    ]
    guard isTLS else {
      if knowsURL {
        for (key, value) in given where value != nil {
          problems.append(
            ConfigurationProblem(pointer: "/\(key)", message: "\(key) is for https, and the url begins with http://"))
        }
      }
      if !problems.isEmpty { throw ConfigurationErrors(problems: problems) }
      return nil
    }
    var made = TLSConfiguration.makeClientConfiguration()
    made.minimumTLSVersion = .tlsv12
    made.certificateVerification = .fullVerification
    func read<T>(_ key: String, _ file: String?, _ body: (String) throws -> T) -> T? {
      guard let file else { return nil }
      guard file.hasPrefix("/") else {
        problems.append(ConfigurationProblem(pointer: "/\(key)", message: "\(key) must be an absolute path"))
        return nil
      }
      do { return try body(file) } catch {
        problems.append(
          ConfigurationProblem(
            pointer: "/\(key)",
            message: "\(file), which is \(key), is missing or is no PEM file of that kind; correct the path or the file"
          ))
        return nil
      }
    }
    if let authorities = read("tls_ca_file", keys.tlsCAFile, Self.certificates) {
      made.trustRoots = .certificates(authorities)
    }
    if let chain = read("tls_certificate_file", keys.tlsCertificateFile, Self.certificates) {
      made.certificateChain = chain.map { .certificate($0) }
    }
    if let key = read("tls_private_key_file", keys.tlsPrivateKeyFile, { try NIOSSLPrivateKey(file: $0, format: .pem) })
    {
      made.privateKey = .privateKey(key)
    }
    if (keys.tlsCertificateFile == nil) != (keys.tlsPrivateKeyFile == nil) {
      let missing = keys.tlsCertificateFile == nil ? "tls_certificate_file" : "tls_private_key_file"
      problems.append(
        ConfigurationProblem(
          pointer: "/\(missing)",
          message: "a client certificate is two files, its own and its key's; \(missing) is missing"))
    }
    if let name = keys.tlsServerName {
      let isName =
        !name.isEmpty && name.utf8.count <= 253
        && name.utf8.allSatisfy {
          ($0 >= 0x30 && $0 <= 0x39) || ($0 | 0x20 >= 0x61 && $0 | 0x20 <= 0x7a) || $0 == 0x2d || $0 == 0x2e
        }
      if !isName {
        problems.append(ConfigurationProblem(pointer: "/tls_server_name", message: "tls_server_name is no host name"))
      }
    }
    if !problems.isEmpty { throw ConfigurationErrors(problems: problems) }
    configuration = made
    serverName = keys.tlsServerName
  }

  private static func certificates(_ file: String) throws -> [NIOSSLCertificate] {
    let found = try NIOSSLCertificate.fromPEMFile(file)
    if found.isEmpty { throw Empty() }
    return found
  }

  private struct Empty: Error {}
}
