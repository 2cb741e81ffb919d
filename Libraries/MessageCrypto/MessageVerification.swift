import JSONText

extension AuthenticatedMessage {
  /// What became of every entry of a message.
  public struct Verification: Equatable, Sendable {
    /// The public keys (32 bytes each) with a valid signature, each once, in the order of their first.
    public var signers: [[UInt8]] = []
    /// Entries whose signature is wrong or that are no entries. A second valid signature by one key is not among them.
    public var invalidCount = 0

    /// At least one signature is valid. Never true without entries.
    public var isByAnyone: Bool { !signers.isEmpty }
    /// There are entries, and all of them are valid.
    public var isByAll: Bool { !signers.isEmpty && invalidCount == 0 }
  }

  /// Whether at least one entry is by `ownerKey` (64 hexadecimal digits, compared as text: case counts) with a valid
  /// signature; the other entries do not matter. False for a key that is none.
  /// - Parameter depthMax: most arrays and objects open at once in the payload.
  public func verifies(
    by ownerKey: UnsafeRawBufferPointer, depthMax: Int = 512
  ) throws(AuthenticationError) -> Bool {
    var verifier = EntryVerifier(payload, depthMax: depthMax)
    guard ownerKey.count == 2 * Ed25519.publicKeySizeBytes, verifier.setKey(ownerKey) else { return false }
    for entry in entries {
      guard let pubkey = entry.pubkey, let signature = entry.signature, verifier.isText(pubkey, ownerKey) else {
        continue
      }
      if try verifier.verify(signature) { return true }
    }
    return false
  }

  /// As above, over typed bytes.
  public func verifies(
    by ownerKey: UnsafeBufferPointer<UInt8>, depthMax: Int = 512
  ) throws(AuthenticationError) -> Bool {
    try verifies(by: UnsafeRawBufferPointer(ownerKey), depthMax: depthMax)
  }

  /// Verifies every entry. Keys count in either case of their digits; a key that has signed is not verified again.
  /// - Parameter depthMax: most arrays and objects open at once in the payload.
  public func verify(depthMax: Int = 512) throws(AuthenticationError) -> Verification {
    var verifier = EntryVerifier(payload, depthMax: depthMax)
    var verification = Verification()
    for entry in entries {
      guard let pubkey = entry.pubkey, let signature = entry.signature, verifier.setKey(pubkey) else {
        verification.invalidCount += 1
        continue
      }
      if verification.signers.contains(verifier.key) { continue }
      if try verifier.verify(signature) {
        verification.signers.append(verifier.key)
      } else {
        verification.invalidCount += 1
      }
    }
    return verification
  }
}

/// Verifies entries of one message one after the other. The payload is printed for signing when the first signature
/// needs it, and once.
private struct EntryVerifier {
  private let payload: JSONSlice
  private let depthMax: Int
  private(set) var key = [UInt8](repeating: 0, count: Ed25519.publicKeySizeBytes)
  private var signature = [UInt8](repeating: 0, count: Ed25519.signatureSizeBytes)
  private var signingText: [UInt8]?
  private var hashedSizeBytes = 0
  /// For texts with escapes.
  private var scratch: [UInt8] = []

  init(_ payload: JSONSlice, depthMax: Int) {
    self.payload = payload
    self.depthMax = depthMax
  }

  /// False unless `text` is 64 hexadecimal digits.
  mutating func setKey(_ text: UnsafeRawBufferPointer) -> Bool {
    key.withUnsafeMutableBytes { Hexadecimal.decode(text, into: $0) }
  }

  mutating func setKey(_ text: JSONSlice) -> Bool {
    text.withText(scratch: &scratch) { text in
      key.withUnsafeMutableBytes { Hexadecimal.decode(text, into: $0) }
    }
  }

  mutating func isText(_ text: JSONSlice, _ other: UnsafeRawBufferPointer) -> Bool {
    text.withText(scratch: &scratch) { $0.elementsEqual(other) }
  }

  /// Whether `text` is a signature by the key that was set.
  mutating func verify(_ text: JSONSlice) throws(AuthenticationError) -> Bool {
    let isDecoded = text.withText(scratch: &scratch) { text in
      signature.withUnsafeMutableBytes { Hexadecimal.decode(text, into: $0) }
    }
    guard isDecoded else { return false }
    let message = try printedPayload()
    // Subtracting cannot overflow, whatever the sizes are.
    guard hashedSizeBytes == 0 || message.count <= AuthenticatedMessage.hashedSizeBytesMax - hashedSizeBytes else {
      throw .tooMuchToVerify(limitBytes: AuthenticatedMessage.hashedSizeBytesMax)
    }
    hashedSizeBytes = min(hashedSizeBytes + message.count, AuthenticatedMessage.hashedSizeBytesMax)
    return message.withUnsafeBytes { message in
      signature.withUnsafeBytes { signature in
        key.withUnsafeBytes { Ed25519.verify(signature: signature, message: message, publicKey: $0) }
      }
    }
  }

  private mutating func printedPayload() throws(AuthenticationError) -> [UInt8] {
    if let signingText { return signingText }
    do throws(JSONError) {
      let text = try CanonicalText.signing(payload, depthMax: depthMax)
      signingText = text
      return text
    } catch {
      throw .payload(error)
    }
  }
}
