import SodiumShim

/// X25519 key agreement (RFC 7748) by libsodium. Any thread.
public enum X25519 {
  public static let keySizeBytes = 32

  /// A private key and what follows from it.
  public struct KeyPair: Sendable {
    /// 32 bytes.
    public let privateKey: SecretBytes
    /// 32 bytes.
    public let publicKey: [UInt8]

    /// A new one.
    public init() { self.init(checked: SecretBytes(randomCount: keySizeBytes)) }

    /// From a private key; nil unless it has 32 bytes.
    public init?(privateKey: SecretBytes) {
      guard privateKey.count == keySizeBytes else { return nil }
      self.init(checked: privateKey)
    }

    private init(checked privateKey: SecretBytes) {
      precondition(Sodium.isReady, "libsodium cannot be initialised: this system gives no random bytes")
      var publicKey = [UInt8](repeating: 0, count: keySizeBytes)
      privateKey.withUnsafeBytes { key in
        // The secret's address is never nil, and the call cannot fail: the base point is fixed.
        _ = crypto_scalarmult_base(
          &publicKey, key.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self))
      }
      self.privateKey = privateKey
      self.publicKey = publicKey
    }

    /// 64 lower-case digits.
    public var publicKeyHex: String { Hexadecimal.text(publicKey) }

    /// The 32 bytes that only the owners of both private keys can compute. Nil for a `publicKey` that has not 32 bytes,
    /// and for one of small order: with it everybody would know the result, which is all zeros.
    public func sharedSecret(with publicKey: UnsafeRawBufferPointer) -> SecretBytes? {
      guard publicKey.count == keySizeBytes, let other = publicKey.baseAddress else { return nil }
      var isShared = false
      let secret = SecretBytes(count: keySizeBytes) { target in
        privateKey.withUnsafeBytes { key in
          isShared =
            crypto_scalarmult(
              target.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self),
              key.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self),
              other.assumingMemoryBound(to: UInt8.self)) == 0
        }
      }
      return isShared ? secret : nil
    }
  }
}
