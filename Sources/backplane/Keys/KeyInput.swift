import ArgumentParser
import MessageCrypto

/// What a private key is for.
enum KeyType: String, ExpressibleByArgument, CaseIterable {
  case ed25519, x25519
}

/// How a private key is written down.
enum KeyFormat: String {
  case pem
  case pkcs8Hex = "pkcs8-hex"
  case seedHex = "seed-hex"
}

/// A private key and how it stood where it was read.
struct KeyInput {
  let key: PrivateKey
  let format: KeyFormat

  /// Reads a key from a file, `-` or `env:NAME`: a PEM, base64 alone, or PKCS#8 in hexadecimal.
  /// - Parameter seedType: read 64 digits as the bare key of this type. Without it they are refused: a public key looks
  ///   the same, and what is signed with one nobody can verify.
  static func read(_ place: String, seedType: KeyType? = nil) throws -> KeyInput {
    let text = try SecretInput.read(place, what: "the key").trimmed
    do throws(KeyFormatError) {
      return try text.withUnsafeBytes { text throws(KeyFormatError) in try KeyInput(text, seedType: seedType) }
    } catch {
      if case .notPrivateKey(let sizeBytes) = error, sizeBytes == X25519.keySizeBytes {
        throw CommandFailure(
          .usage,
          "the key in \(place) is 64 hexadecimal digits alone, which may be a public key. If they are a private one, say "
            + "so: backplane keys convert --seed ed25519 --to pem \(place)")
      }
      throw CommandFailure(.usage, "the key in \(place) cannot be used: \(error)")
    }
  }

  private init(_ text: UnsafeRawBufferPointer, seedType: KeyType?) throws(KeyFormatError) {
    let isHexadecimal = text.allSatisfy { Hexadecimal.value($0) < 16 }
    if isHexadecimal, text.count == 2 * PrivateKey.pkcs8SizeBytes {
      key = try PrivateKey(pkcs8Hex: text)
      format = .pkcs8Hex
    } else if isHexadecimal, text.count == 2 * X25519.keySizeBytes {
      guard let seedType else { throw .notPrivateKey(sizeBytes: X25519.keySizeBytes) }
      let bytes = SecretBytes(count: X25519.keySizeBytes) { _ = Hexadecimal.decode(text, into: $0) }
      switch seedType {
      case .ed25519: key = try Self.require(Ed25519.KeyPair(seed: bytes).map { .ed25519($0) })
      case .x25519: key = try Self.require(X25519.KeyPair(privateKey: bytes).map { .x25519($0) })
      }
      format = .seedHex
    } else {
      key = try PrivateKey(pem: text)
      format = .pem
    }
  }

  private static func require(_ key: PrivateKey?) throws(KeyFormatError) -> PrivateKey {
    guard let key else { throw .notPrivateKey(sizeBytes: X25519.keySizeBytes) }
    return key
  }

  /// The keys that sign.
  static func signers(_ places: [String]) throws -> [Ed25519.KeyPair] {
    try places.map { place in
      guard case .ed25519(let pair) = try read(place).key else {
        throw CommandFailure(
          .usage, "the key in \(place) is an x25519 key, which decrypts. Signing needs an ed25519 key.")
      }
      return pair
    }
  }

  /// The key that decrypts.
  static func recipient(_ place: String) throws -> X25519.KeyPair {
    guard case .x25519(let pair) = try read(place).key else {
      throw CommandFailure(
        .usage, "the key in \(place) is an ed25519 key, which signs. Decrypting needs an x25519 key.")
    }
    return pair
  }

  /// The 32 bytes of a public key that stands among the arguments.
  static func publicKey(_ text: String, option: String) throws -> [UInt8] {
    guard let key = Hexadecimal.decode(text), key.count == X25519.keySizeBytes else {
      throw CommandFailure(.usage, "\(option) needs a public key: 64 hexadecimal digits.")
    }
    return key
  }
}

extension PrivateKey {
  var type: KeyType {
    switch self {
    case .ed25519: .ed25519
    case .x25519: .x25519
    }
  }

  var publicKeyHex: String { Hexadecimal.text(publicKey) }

  /// The private key written down, without a line break at the end.
  func text(_ format: KeyFormat) -> SecretBytes {
    switch format {
    case .pem: pem
    case .pkcs8Hex: Self.hexadecimal(pkcs8)
    case .seedHex: Self.hexadecimal(secret)
    }
  }

  private static func hexadecimal(_ bytes: SecretBytes) -> SecretBytes {
    SecretBytes(count: 2 * bytes.count) { text in
      bytes.withUnsafeBytes { Hexadecimal.write($0, into: text) }
    }
  }
}
