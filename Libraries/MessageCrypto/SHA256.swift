import SodiumShim

/// SHA-256 by libsodium, of bytes at once or in pieces. Any thread, one at a time for one value.
public struct SHA256: Sendable {
  public static let digestSizeBytes = 32

  private var state = crypto_hash_sha256_state()

  public init() { crypto_hash_sha256_init(&state) }

  /// The next piece.
  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress else { return }
    crypto_hash_sha256_update(&state, base.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count))
  }

  /// The 32 bytes of the digest of all pieces up to here. More may follow.
  public func digest() -> [UInt8] {
    var state = state
    var digest = [UInt8](repeating: 0, count: Self.digestSizeBytes)
    crypto_hash_sha256_final(&state, &digest)
    return digest
  }

  /// The 32 bytes of the digest of `bytes`.
  public static func digest(of bytes: UnsafeRawBufferPointer) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: digestSizeBytes)
    crypto_hash_sha256(&digest, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count))
    return digest
  }

  /// Whether `hexadecimal`, 64 digits in either case, is the digest of `bytes`. Allocates nothing.
  public static func isDigest(_ hexadecimal: UnsafeRawBufferPointer, of bytes: UnsafeRawBufferPointer) -> Bool {
    withUnsafeTemporaryAllocation(byteCount: 2 * digestSizeBytes, alignment: 1) { room in
      let stated = UnsafeMutableRawBufferPointer(rebasing: room[..<digestSizeBytes])
      let digest = UnsafeMutableRawBufferPointer(rebasing: room[digestSizeBytes...])
      guard Hexadecimal.decode(hexadecimal, into: stated), let target = digest.baseAddress else { return false }
      crypto_hash_sha256(
        target.assumingMemoryBound(to: UInt8.self), bytes.baseAddress?.assumingMemoryBound(to: UInt8.self),
        UInt64(bytes.count))
      return stated.elementsEqual(digest)
    }
  }
}

/// HMAC-SHA256 (RFC 2104) by libsodium, for keys of any length.
public enum HMACSHA256 {
  /// The 32 bytes of the code of `message` under `key`.
  public static func code(of message: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer) -> [UInt8] {
    // A short key is filled up with zeros, so one zero is the same key as none.
    guard let keyStart = key.baseAddress else {
      return [UInt8(0)].withUnsafeBytes { Self.code(of: message, key: $0) }
    }
    var state = crypto_auth_hmacsha256_state()
    crypto_auth_hmacsha256_init(&state, keyStart.assumingMemoryBound(to: UInt8.self), key.count)
    crypto_auth_hmacsha256_update(
      &state, message.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt64(message.count))
    var code = [UInt8](repeating: 0, count: SHA256.digestSizeBytes)
    crypto_auth_hmacsha256_final(&state, &code)
    // What the key became is in it.
    withUnsafeMutableBytes(of: &state) { sodium_memzero($0.baseAddress.unsafelyUnwrapped, $0.count) }
    return code
  }
}
