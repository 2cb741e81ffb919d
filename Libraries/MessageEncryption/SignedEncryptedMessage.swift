import JSONText
import MessageCrypto

/// A message whose payload is encrypted and then signed: everybody can verify who sent it, and only the recipient reads
/// it. The signatures are over the encrypted payload as it is printed.
public enum SignedEncryptedMessage {
  /// Appends the authenticated message of `payload` by `signers`, at least one.
  public static func append(_ payload: EncryptedPayload, signers: [Ed25519.KeyPair], to output: inout [UInt8]) {
    var text: [UInt8] = []
    payload.append(to: &text)
    text.withUnsafeBytes { text in
      do {
        let value = try JSONScanner().scan(text).get()
        try AuthenticatedMessage.append(payload: value, signers: signers, to: &output)
      } catch {
        // It is three texts without escapes.
        preconditionFailure("an encrypted payload cannot be signed: \(error)")
      }
    }
  }

  /// What a signed and encrypted message says, and who says so.
  public struct Opened: Sendable {
    /// The text that was encrypted.
    public let text: [UInt8]
    public let verification: AuthenticatedMessage.Verification
  }

  /// Verifies and decrypts. The text of a message that nobody signed is given as well: look at `verification`.
  public static func open(
    _ message: AuthenticatedMessage, with recipient: X25519.KeyPair
  ) throws -> Opened {
    let verification = try message.verify()
    return Opened(text: try EncryptedPayload(message.payload).decrypt(with: recipient), verification: verification)
  }
}
