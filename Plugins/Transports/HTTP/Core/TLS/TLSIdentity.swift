import Glibc
import NIOCore
import NIOSSL
import PluginAPI

/// A certificate with its key, read from the configured files and ready for handshakes.
struct TLSIdentity: Sendable {
  let context: NIOSSLContext
  /// Seconds since 1970, of the certificate that is shown first.
  let notValidBefore: Int
  let notValidAfter: Int
  /// Nobody but the owner and the group should be able to read the key.
  let isKeyReadableByOthers: Bool

  /// Reads every file anew. Blocks.
  /// - Throws: `ConfigurationErrors` that name key and file. What is in a key never shows.
  static func read(_ settings: TLSSettings) throws(ConfigurationErrors) -> TLSIdentity {
    var reader = Reader()
    let chain = reader.certificates("certificate_file", settings.certificateFile)
    let (key, isReadableByOthers) = reader.key(settings)
    let authorities = settings.clientAuthorityFile.flatMap { reader.certificates("client_authority_file", $0) }
    guard reader.problems.isEmpty, let chain, let leaf = chain.first, let key else {
      throw ConfigurationErrors(problems: reader.problems)
    }
    var configuration = TLSConfiguration.makeServerConfiguration(
      certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
    configuration.minimumTLSVersion = settings.minimumVersion
    configuration.applicationProtocols = ["h2", "http/1.1"]
    configuration.shutdownTimeout = .milliseconds(Int64(settings.shutdownTimeoutMs))
    if let authorities {
      configuration.trustRoots = .certificates(authorities)
      configuration.certificateVerification = .noHostnameVerification
    }
    do {
      return TLSIdentity(
        context: try NIOSSLContext(configuration: configuration), notValidBefore: Int(leaf.notValidBefore),
        notValidAfter: Int(leaf.notValidAfter), isKeyReadableByOthers: isReadableByOthers)
    } catch {
      let name = settings.privateKeyFile == nil ? "private_key" : "private_key_file"
      throw ConfigurationErrors(problems: [
        ConfigurationProblem(
          pointer: "/tls/\(name)",
          message: "\(name) is not the key of the certificate in \(settings.certificateFile); give the two that belong "
            + "together.")
      ])
    }
  }

  /// What an operator should look at; nil: nothing.
  func warning(_ settings: TLSSettings, nowSeconds: Int) -> String? {
    if notValidAfter < nowSeconds {
      return "the certificate in \(settings.certificateFile) expired on "
        + "\(HTTPDate.text(secondsSince1970: notValidAfter)); clients will refuse it"
    }
    if notValidBefore > nowSeconds {
      return "the certificate in \(settings.certificateFile) is not valid before "
        + "\(HTTPDate.text(secondsSince1970: notValidBefore)); clients will refuse it"
    }
    if isKeyReadableByOthers, let file = settings.privateKeyFile {
      return "\(file) can be read by every user of this machine; chmod o-r it"
    }
    return nil
  }
}

private struct Reader {
  var problems: [ConfigurationProblem] = []

  mutating func certificates(_ key: String, _ file: String) -> [NIOSSLCertificate]? {
    guard let (bytes, _) = contents(key, file) else { return nil }
    if let found = try? NIOSSLCertificate.fromPEMBytes(bytes), !found.isEmpty { return found }
    refuse(key, "\(file) holds no certificate in PEM form (-----BEGIN CERTIFICATE-----).")
    return nil
  }

  mutating func key(_ settings: TLSSettings) -> (key: NIOSSLPrivateKey?, isReadableByOthers: Bool) {
    var bytes = settings.privateKey
    var mode: mode_t = 0
    let name = settings.privateKeyFile == nil ? "private_key" : "private_key_file"
    if let file = settings.privateKeyFile {
      guard let read = contents(name, file) else { return (nil, false) }
      (bytes, mode) = read
    }
    defer { bytes.withUnsafeMutableBytes { memory in memory.baseAddress.map { explicit_bzero($0, memory.count) } } }
    let passphrase = settings.privateKeyPassphrase
    // Always with a passphrase: without one BoringSSL would ask for it on the terminal.
    let key = try? NIOSSLPrivateKey(bytes: bytes, format: .pem) { set in set(passphrase) }
    if key == nil {
      refuse(
        name,
        "\(settings.privateKeyFile ?? name) holds no private key in PEM form that can be read"
          + (passphrase.isEmpty
            ? "; if it is encrypted, give private_key_passphrase." : " with private_key_passphrase."))
    }
    return (key, mode & S_IROTH != 0)
  }

  private mutating func contents(_ key: String, _ file: String) -> (bytes: [UInt8], mode: mode_t)? {
    guard !file.isEmpty else { return nil }
    let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      refuse(key, "\(file), which is \(key), cannot be read: \(String(cString: strerror(errno))).")
      return nil
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= 1 << 20 else {
      refuse(key, "\(file), which is \(key), is not a file of at most 1 MiB.")
      return nil
    }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size) + 1)
    var count = 0
    while count < bytes.count {
      let got = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count) }
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else {
        refuse(key, "\(file), which is \(key), cannot be read: \(String(cString: strerror(errno))).")
        return nil
      }
      if got == 0 { break }
      count += got
    }
    bytes.removeLast(bytes.count - count)
    return (bytes, status.st_mode)
  }

  private mutating func refuse(_ key: String, _ message: String) {
    problems.append(ConfigurationProblem(pointer: "/tls/\(key)", message: message))
  }
}
