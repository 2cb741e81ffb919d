import Crypto
import CryptoExtras
import Foundation
import MessageCrypto

/// Keys made of passwords by PBKDF2-HMAC-SHA256, as the reference makes them. libsodium has no PBKDF2.
public enum PasswordKey {
  public static let iterations = 100_000
  /// Half a minute or so of one processor; more is a slip of the keyboard.
  public static let iterationsMax = 100_000_000

  /// The 32 bytes of the key for `password` and `salt`. Takes as long as `iterations` say: some 20 ms of processor by
  /// default, so it is nothing for a shared thread.
  public static func derive(
    _ password: SecretBytes, salt: [UInt8], iterations: Int = iterations
  ) throws(EncryptionError) -> SecretBytes {
    guard (1...iterationsMax).contains(iterations) else { throw .iterations(limit: iterationsMax) }
    guard password.count > 0 else { throw .emptySecret }
    do {
      let key = try password.withUnsafeBytes { password in
        try KDF.Insecure.PBKDF2.deriveKey(
          from: password, salt: salt, using: .sha256, outputByteCount: AuthenticatedCipher.keySizeBytes,
          unsafeUncheckedRounds: iterations)
      }
      return key.withUnsafeBytes { SecretBytes(copying: $0) }
    } catch {
      preconditionFailure("PBKDF2 refused to derive a key: \(error)")
    }
  }
}
