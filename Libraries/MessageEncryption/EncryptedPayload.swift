import JSONText
import MessageCrypto

/// A value that only some can read: `{"data":base64,"nonce":base64,"ephemeralPublicKey":hex}`, the last member only when
/// it is encrypted to a public key.
///
/// What is encrypted is text, usually JSON as the reference would print it. Nothing here knows whether it is.
public struct EncryptedPayload: Equatable, Sendable {
  /// AES-256-GCM: the encrypted text and 16 bytes of tag.
  public let data: [UInt8]
  /// 12 bytes.
  public let nonce: [UInt8]
  /// 32 bytes; nil when the key is not agreed upon but known.
  public let ephemeralPublicKey: [UInt8]?

  /// Whether `value` says of itself that it is encrypted: an object whose `data` and `nonce` are strings.
  public static func isEncrypted(_ value: JSONSlice) -> Bool {
    value.member("data")?.kind == .string && value.member("nonce")?.kind == .string
  }

  /// Reads what `append` writes. Base64 and hexadecimal are read strictly: what is not, was not encrypted by anybody.
  public init(_ value: JSONSlice) throws(EncryptionError) {
    guard let data = value.member("data"), let nonce = value.member("nonce"), data.kind == .string,
      nonce.kind == .string
    else { throw .notEncrypted }
    var scratch: [UInt8] = []
    guard let data = data.withText(scratch: &scratch, { Base64Reader.decode($0) }),
      let nonce = nonce.withText(scratch: &scratch, { Base64Reader.decode($0) })
    else { throw .decryptionFailed }
    self.data = data
    self.nonce = nonce
    guard let key = value.member("ephemeralPublicKey"), key.kind != .null else {
      ephemeralPublicKey = nil
      return
    }
    guard key.kind == .string, let bytes = key.withText(scratch: &scratch, { Hexadecimal.decode($0) }) else {
      throw .decryptionFailed
    }
    // As in JavaScript, where an empty text is as good as none.
    ephemeralPublicKey = bytes.isEmpty ? nil : bytes
  }

  private init(data: [UInt8], nonce: [UInt8], ephemeralPublicKey: [UInt8]?) {
    self.data = data
    self.nonce = nonce
    self.ephemeralPublicKey = ephemeralPublicKey
  }

  /// Appends the value, byte for byte as the reference prints it.
  public func append(to output: inout [UInt8]) {
    output.append(contentsOf: #"{"data":""#.utf8)
    data.withUnsafeBytes { Base64.encode($0, into: &output) }
    output.append(contentsOf: #"","nonce":""#.utf8)
    nonce.withUnsafeBytes { Base64.encode($0, into: &output) }
    if let ephemeralPublicKey {
      output.append(contentsOf: #"","ephemeralPublicKey":""#.utf8)
      ephemeralPublicKey.withUnsafeBytes { Hexadecimal.append($0, to: &output) }
    }
    output.append(contentsOf: #""}"#.utf8)
  }

  // MARK: - With a key that both sides have

  /// Encrypts with a key of 32 bytes. The nonce is random: one key is good for some four thousand million texts.
  public static func encrypt(
    _ text: UnsafeRawBufferPointer, key: SecretBytes
  ) throws(EncryptionError) -> EncryptedPayload {
    try encrypt(text, key: key, ephemeralPublicKey: nil)
  }

  /// The text. An ephemeral public key does not matter.
  public func decrypt(key: SecretBytes) throws(EncryptionError) -> [UInt8] {
    try AuthenticatedCipher.open(data, key: key, nonce: nonce)
  }

  // MARK: - To a public key

  /// Encrypts to the owner of an X25519 key (32 bytes). The key of AES is the shared secret with a pair made for this
  /// text alone, as it is: the reference derives nothing from it.
  public static func encrypt(
    _ text: UnsafeRawBufferPointer, to publicKey: UnsafeRawBufferPointer
  ) throws(EncryptionError) -> EncryptedPayload {
    let ephemeral = X25519.KeyPair()
    guard let key = ephemeral.sharedSecret(with: publicKey) else { throw .unusablePublicKey }
    return try encrypt(text, key: key, ephemeralPublicKey: ephemeral.publicKey)
  }

  /// The text, for the owner of the key that it was encrypted to.
  public func decrypt(with recipient: X25519.KeyPair) throws(EncryptionError) -> [UInt8] {
    guard let ephemeralPublicKey else { throw .missingEphemeralPublicKey }
    guard let key = ephemeralPublicKey.withUnsafeBytes({ recipient.sharedSecret(with: $0) }) else {
      throw .decryptionFailed
    }
    return try AuthenticatedCipher.open(data, key: key, nonce: nonce)
  }

  private static func encrypt(
    _ text: UnsafeRawBufferPointer, key: SecretBytes, ephemeralPublicKey: [UInt8]?
  ) throws(EncryptionError) -> EncryptedPayload {
    let nonce = RandomBytes.bytes(AuthenticatedCipher.nonceSizeBytes)
    return EncryptedPayload(
      data: try AuthenticatedCipher.seal(text, key: key, nonce: nonce), nonce: nonce,
      ephemeralPublicKey: ephemeralPublicKey)
  }
}
