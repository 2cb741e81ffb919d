/// A private key as it is kept: PKCS#8 (RFC 8410), in bytes, hexadecimal or PEM.
public enum PrivateKey: Sendable {
  case ed25519(Ed25519.KeyPair)
  case x25519(X25519.KeyPair)

  /// The fixed prefix and 32 bytes of key.
  public static let pkcs8SizeBytes = 48

  /// Everything before the key itself: version 0, the algorithm's identifier, two octet strings around the key.
  private static let ed25519Prefix: [UInt8] = [
    0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
  ]
  private static let x25519Prefix: [UInt8] = [
    0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x6E, 0x04, 0x22, 0x04, 0x20,
  ]

  /// From PKCS#8 bytes: one of the two prefixes and 32 bytes, nothing else.
  public init(pkcs8: UnsafeRawBufferPointer) throws(KeyFormatError) {
    guard pkcs8.count == Self.pkcs8SizeBytes else { throw .notPrivateKey(sizeBytes: pkcs8.count) }
    let key = UnsafeRawBufferPointer(rebasing: pkcs8[Self.ed25519Prefix.count...])
    if pkcs8.starts(with: Self.ed25519Prefix), let pair = Ed25519.KeyPair(seed: SecretBytes(copying: key)) {
      self = .ed25519(pair)
    } else if pkcs8.starts(with: Self.x25519Prefix),
      let pair = X25519.KeyPair(privateKey: SecretBytes(copying: key))
    {
      self = .x25519(pair)
    } else {
      throw .notPrivateKey(sizeBytes: pkcs8.count)
    }
  }

  /// From the text of a PEM, or base64 alone (see `PEM.decode`).
  public init(pem: UnsafeRawBufferPointer) throws(KeyFormatError) {
    let bytes = try PEM.decode(pem)
    self = try bytes.withUnsafeBytes { bytes throws(KeyFormatError) in try PrivateKey(pkcs8: bytes) }
  }

  /// From PKCS#8 bytes in hexadecimal, 96 digits: the reference's `privateKeyHex`.
  public init(pkcs8Hex: UnsafeRawBufferPointer) throws(KeyFormatError) {
    guard pkcs8Hex.count == 2 * Self.pkcs8SizeBytes else {
      throw pkcs8Hex.count % 2 == 0 ? .notPrivateKey(sizeBytes: pkcs8Hex.count / 2) : .notHexadecimal
    }
    let bytes = try SecretBytes(count: Self.pkcs8SizeBytes) { bytes throws(KeyFormatError) in
      guard Hexadecimal.decode(pkcs8Hex, into: bytes) else { throw .notHexadecimal }
    }
    self = try bytes.withUnsafeBytes { bytes throws(KeyFormatError) in try PrivateKey(pkcs8: bytes) }
  }

  /// The 32 bytes of seed (Ed25519) or scalar (X25519).
  public var secret: SecretBytes {
    switch self {
    case .ed25519(let pair): pair.seed
    case .x25519(let pair): pair.privateKey
    }
  }

  /// 32 bytes.
  public var publicKey: [UInt8] {
    switch self {
    case .ed25519(let pair): pair.publicKey
    case .x25519(let pair): pair.publicKey
    }
  }

  /// The 48 bytes of PKCS#8.
  public var pkcs8: SecretBytes {
    let prefix = if case .ed25519 = self { Self.ed25519Prefix } else { Self.x25519Prefix }
    return SecretBytes(count: Self.pkcs8SizeBytes) { bytes in
      bytes.copyBytes(from: prefix)
      secret.withUnsafeBytes { key in
        UnsafeMutableRawBufferPointer(rebasing: bytes[prefix.count...]).copyMemory(from: key)
      }
    }
  }

  /// The text of a PEM with the label PRIVATE KEY, without a line break at its end.
  public var pem: SecretBytes { PEM.encode(pkcs8) }
}

extension PrivateKey: CustomStringConvertible, CustomDebugStringConvertible {
  /// The algorithm and the public key.
  public var description: String {
    switch self {
    case .ed25519(let pair): "ed25519 private key of \(pair.publicKeyHex)"
    case .x25519(let pair): "x25519 private key of \(pair.publicKeyHex)"
    }
  }

  public var debugDescription: String { description }
}
