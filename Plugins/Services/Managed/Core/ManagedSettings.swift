import MessageCrypto
import NIOSSL
import PluginAPI

/// Whose node this is, and who it is.
struct NodeIdentity: Sendable {
  /// 64 lower-case digits.
  let operatorKey: String
  /// 64 lower-case digits: the public key of `signer`.
  let nodeID: String
  let signer: Ed25519.KeyPair
  /// Opens what is encrypted to this node.
  let recipient: X25519.KeyPair?
  /// 32 bytes: status and metrics are encrypted to it.
  let operatorEncryptionKey: [UInt8]?
}

/// The keys of the slot, checked, with nothing left to decide.
struct ManagedSettings: Sendable {
  let identity: NodeIdentity
  let place: ConfigurationPlace
  /// Who is trusted at `place`, instead of the system's authorities.
  let authorities: [NIOSSLCertificate]
  var updates = ManagedSlot.UpdatePolicy.announce
  var requiresNewerConfiguration = false
  var keepsLastConfiguration = true
  var requiresSchemaChecksum = true
  var requestTimeoutMs = 10_000
  var downloadTimeoutMs = 120_000
  var downloadSizeBytesMax = 64 << 20
  /// The next three hold as long as no configuration says otherwise.
  var configPollIntervalMs = 30_000
  var heartbeatIntervalMs = 60_000
  var metricsIntervalMs = 30_000
  var schemaPollIntervalMs = 60_000

  /// Checks syntax, ranges and keys and reads the file that is named. Throws `ConfigurationErrors` with all that is wrong.
  init(_ keys: ManagedSlot) throws {
    var problems: [ConfigurationProblem] = []
    func ranged(
      _ key: ManagedSlot.CodingKeys, _ value: Int?, _ range: ClosedRange<Int>, _ into: inout Int
    ) {
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
    let place = ConfigurationPlace(keys.configURL, token: keys.configToken, problems: &problems)
    let identity = NodeIdentity(keys, problems: &problems)
    authorities = Self.authorities(keys.configCAFile, isTLS: place?.isTLS, problems: &problems)
    updates = keys.updates ?? updates
    requiresNewerConfiguration = keys.requireNewerConfiguration ?? requiresNewerConfiguration
    keepsLastConfiguration = keys.keepLastConfiguration ?? keepsLastConfiguration
    requiresSchemaChecksum = keys.schemaChecksum != .optional
    ranged(.requestTimeoutMs, keys.requestTimeoutMs, 100...600_000, &requestTimeoutMs)
    ranged(.downloadTimeoutMs, keys.downloadTimeoutMs, 100...3_600_000, &downloadTimeoutMs)
    ranged(.downloadSizeBytesMax, keys.downloadSizeBytesMax, 1_024...(1 << 30), &downloadSizeBytesMax)
    ranged(.configPollIntervalMs, keys.configPollIntervalMs, 100...86_400_000, &configPollIntervalMs)
    ranged(.heartbeatIntervalMs, keys.heartbeatIntervalMs, 100...86_400_000, &heartbeatIntervalMs)
    ranged(.metricsIntervalMs, keys.metricsIntervalMs, 100...86_400_000, &metricsIntervalMs)
    ranged(.schemaPollIntervalMs, keys.schemaPollIntervalMs, 100...86_400_000, &schemaPollIntervalMs)
    guard problems.isEmpty, let place, let identity else { throw ConfigurationErrors(problems: problems) }
    self.place = place
    self.identity = identity
  }

  private static func authorities(
    _ file: String?, isTLS: Bool?, problems: inout [ConfigurationProblem]
  ) -> [NIOSSLCertificate] {
    guard let file else { return [] }
    func problem(_ message: String) {
      problems.append(ConfigurationProblem(pointer: "/config_ca_file", message: message))
    }
    guard file.hasPrefix("/") else {
      problem("config_ca_file must be an absolute path")
      return []
    }
    if isTLS == false { problem("config_ca_file is for https, and config_url begins with http://") }
    if let found = try? NIOSSLCertificate.fromPEMFile(file), !found.isEmpty { return found }
    problem("\(file), which is config_ca_file, is missing or holds no certificates; correct the path or the file")
    return []
  }
}

extension NodeIdentity {
  /// Nil when something is wrong, which is then among the problems. What is missing is said in the peer's words, with the
  /// variable that sets it.
  fileprivate init?(_ keys: ManagedSlot, problems: inout [ConfigurationProblem]) {
    func problem(_ key: ManagedSlot.CodingKeys, _ message: String) {
      problems.append(ConfigurationProblem(pointer: "/\(key.rawValue)", message: message))
    }
    func required(_ key: ManagedSlot.CodingKeys, _ value: String?, _ variable: String) -> String? {
      if let value, !value.isEmpty { return value }
      problem(key, "\(variable) env var required when CONFIG_URL is set (or \(key.rawValue) in the slot)")
      return nil
    }
    func publicKey(_ key: ManagedSlot.CodingKeys, _ text: String?) -> [UInt8]? {
      guard let text else { return nil }
      if let bytes = Hexadecimal.decode(text), bytes.count == 32 { return bytes }
      problem(key, "\(key.rawValue) must be 64 hexadecimal digits, the 32 bytes of a public key")
      return nil
    }
    let operatorKey = publicKey(.operatorKey, required(.operatorKey, keys.operatorKey, "OPERATOR_KEY"))
    let nodeID = publicKey(.nodeID, required(.nodeID, keys.nodeID, "NODE_ID"))
    let encryptionKey = publicKey(
      .operatorEncryptionPublicKeyHex,
      keys.operatorEncryptionPublicKeyHex.flatMap { $0.isEmpty ? nil : $0 })

    var signer: Ed25519.KeyPair?
    if var pem = required(.nodePrivateKeyPEM, keys.nodePrivateKeyPEM, "NODE_PRIVATE_KEY_PEM") {
      do {
        switch try pem.withUTF8({ text in try PrivateKey(pem: UnsafeRawBufferPointer(text)) }) {
        case .ed25519(let pair): signer = pair
        case .x25519:
          problem(.nodePrivateKeyPEM, "node_private_key_pem is a key for encryption (X25519); give the one that signs")
        }
      } catch {
        problem(.nodePrivateKeyPEM, "node_private_key_pem cannot be read: \(error)")
      }
    }
    if let signer, let nodeID, signer.publicKey != nodeID {
      problem(
        .nodeID,
        "node_id is not the public key of node_private_key_pem, which is \(signer.publicKeyHex); give that, or the other key"
      )
    }
    var recipient: X25519.KeyPair?
    if var hex = keys.nodeEncryptionPrivateKeyHex, !hex.isEmpty {
      do {
        switch try hex.withUTF8({ text in
          try PrivateKey(pkcs8Hex: UnsafeRawBufferPointer(text))
        }) {
        case .x25519(let pair): recipient = pair
        case .ed25519:
          problem(
            .nodeEncryptionPrivateKeyHex,
            "node_encryption_private_key_hex is a key that signs (Ed25519); give the one for encryption")
        }
      } catch {
        problem(.nodeEncryptionPrivateKeyHex, "node_encryption_private_key_hex cannot be read: \(error)")
      }
    }
    guard problems.isEmpty, let operatorKey, let nodeID, let signer else { return nil }
    self.init(
      operatorKey: Hexadecimal.text(operatorKey), nodeID: Hexadecimal.text(nodeID), signer: signer,
      recipient: recipient, operatorEncryptionKey: encryptionKey)
  }
}
