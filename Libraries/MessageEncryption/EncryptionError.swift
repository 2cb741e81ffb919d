/// Why something is not encrypted or decrypted. The first two texts are the reference's.
public enum EncryptionError: Error, Equatable, Sendable, CustomStringConvertible {
  case missingEphemeralPublicKey
  /// The key is another one, or the text is not what was encrypted. It does not say which: nobody can know.
  case decryptionFailed
  /// Not an object with the strings `data` and `nonce`.
  case notEncrypted
  /// The recipient's key has not 32 bytes, or is one with which everybody could decrypt.
  case unusablePublicKey
  /// A key for AES-256 has 32 bytes.
  case keySize(sizeBytes: Int)
  case iterations(limit: Int)
  case emptySecret
  /// Encrypted text is the text for AES-GCM's one nonce; it has a most.
  case tooLarge(limitBytes: Int)

  /// One sentence for a person.
  public var description: String {
    switch self {
    case .missingEphemeralPublicKey: return "Missing ephemeral public key"
    case .decryptionFailed: return "Decryption failed"
    case .notEncrypted: return "The value is not encrypted: it has no members data and nonce that are strings."
    case .unusablePublicKey:
      return "The public key to encrypt to is none of X25519: it must be 32 bytes (64 hexadecimal digits) of one that "
        + "keeps secrets."
    case .keySize(let sizeBytes): return "The key has \(sizeBytes) bytes, and AES-256 needs 32 (64 hexadecimal digits)."
    case .iterations(let limit): return "The number of iterations must be from 1 to \(limit)."
    case .emptySecret: return "The password is empty: give one that is not."
    case .tooLarge(let limitBytes): return "The text is longer than \(limitBytes) bytes, the most that is encrypted."
    }
  }
}
