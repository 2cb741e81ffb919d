import SodiumShim

/// The library underneath. `sodium_init` picks the fastest code for this processor and opens the source of randomness;
/// it runs once, before the first use, on whichever thread comes first.
enum Sodium {
  /// False only where the system gives no randomness. Whoever needs the library then fails, and says so.
  static let isReady: Bool = sodium_init() >= 0
}

/// Random bytes from the system, as keys and nonces need them. Any thread.
public enum RandomBytes {
  /// Fills `buffer`.
  public static func fill(_ buffer: UnsafeMutableRawBufferPointer) {
    precondition(Sodium.isReady, "libsodium cannot be initialised: this system gives no random bytes")
    guard let base = buffer.baseAddress else { return }
    randombytes_buf(base, buffer.count)
  }

  /// So many bytes, for what is not secret: a nonce. Secrets are made by `SecretBytes(randomCount:)`.
  public static func bytes(_ count: Int) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: count) { buffer, initialised in
      fill(UnsafeMutableRawBufferPointer(buffer))
      initialised = count
    }
  }
}
