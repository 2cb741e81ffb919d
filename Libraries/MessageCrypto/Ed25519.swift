import SodiumShim

/// Ed25519 signatures (RFC 8032) by libsodium. Any thread.
///
/// Stricter than the RFC where that matters: a signature whose second half is not reduced, a key or a first half that is
/// not canonical or of small order are refused, so that one message has no second signature that anybody can make.
public enum Ed25519 {
  public static let seedSizeBytes = 32
  public static let publicKeySizeBytes = 32
  public static let signatureSizeBytes = 64

  /// Whether `signature` is by the owner of `publicKey` over `message`. Copies and allocates nothing; false for a
  /// signature or a key of another length. Costs some 50 us of processor and one pass over `message`.
  public static func verify(
    signature: UnsafeRawBufferPointer, message: UnsafeRawBufferPointer, publicKey: UnsafeRawBufferPointer
  ) -> Bool {
    guard Sodium.isReady, signature.count == signatureSizeBytes, publicKey.count == publicKeySizeBytes,
      let signature = signature.baseAddress, let publicKey = publicKey.baseAddress
    else { return false }
    return crypto_sign_verify_detached(
      signature.assumingMemoryBound(to: UInt8.self), message.baseAddress?.assumingMemoryBound(to: UInt8.self),
      UInt64(message.count), publicKey.assumingMemoryBound(to: UInt8.self)) == 0
  }

  /// As above, over typed bytes.
  public static func verify(
    signature: UnsafeBufferPointer<UInt8>, message: UnsafeBufferPointer<UInt8>, publicKey: UnsafeBufferPointer<UInt8>
  ) -> Bool {
    verify(
      signature: UnsafeRawBufferPointer(signature), message: UnsafeRawBufferPointer(message),
      publicKey: UnsafeRawBufferPointer(publicKey))
  }

  /// Who signs: a seed, and what follows from it.
  public struct KeyPair: Sendable {
    /// 32 bytes, from which everything else follows: this is what is kept.
    public let seed: SecretBytes
    /// 32 bytes.
    public let publicKey: [UInt8]
    /// Seed and public key, as libsodium wants them.
    private let signingKey: SecretBytes

    /// A new one.
    public init() { self.init(checked: SecretBytes(randomCount: seedSizeBytes)) }

    /// From a seed; nil unless it has 32 bytes.
    public init?(seed: SecretBytes) {
      guard seed.count == seedSizeBytes else { return nil }
      self.init(checked: seed)
    }

    private init(checked seed: SecretBytes) {
      var publicKey = [UInt8](repeating: 0, count: publicKeySizeBytes)
      signingKey = SecretBytes(count: 64) { target in
        seed.withUnsafeBytes { seed in
          // The secrets' addresses are never nil, and the call cannot fail: it hashes and multiplies.
          _ = crypto_sign_seed_keypair(
            &publicKey, target.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self),
            seed.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self))
        }
      }
      self.publicKey = publicKey
      self.seed = seed
    }

    /// 64 lower-case digits.
    public var publicKeyHex: String { Hexadecimal.text(publicKey) }

    /// The 64 bytes of a signature over `message`; the same for the same message.
    public func sign(_ message: UnsafeRawBufferPointer) -> [UInt8] {
      [UInt8](unsafeUninitializedCapacity: signatureSizeBytes) { signature, initialised in
        signingKey.withUnsafeBytes { key in
          _ = crypto_sign_detached(
            signature.baseAddress.unsafelyUnwrapped, nil, message.baseAddress?.assumingMemoryBound(to: UInt8.self),
            UInt64(message.count), key.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: UInt8.self))
        }
        initialised = signatureSizeBytes
      }
    }
  }
}
