/// Why a text or bytes hold no private key that can be used. No case carries any part of the key.
public enum KeyFormatError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The text of a PEM has no line of data.
  case noKeyData
  case tooLong(limitBytes: Int)
  case severalKeys
  case notBase64
  case notHexadecimal
  /// Bytes that are no PKCS#8 of an Ed25519 or X25519 key.
  case notPrivateKey(sizeBytes: Int)

  /// One sentence for the person whose key it is.
  public var description: String {
    switch self {
    case .noKeyData: return "Invalid PEM: no key data"
    case .tooLong(let limitBytes): return "Invalid PEM: it is longer than \(limitBytes) bytes, so it holds no key."
    case .severalKeys: return "Invalid PEM: it holds several blocks: leave only that of the private key in it."
    case .notBase64: return "Invalid PEM: the key data is not base64."
    case .notHexadecimal: return "The key is not hexadecimal: it needs an even number of digits and nothing else."
    case .notPrivateKey(let sizeBytes):
      return "The \(sizeBytes) bytes are not an unencrypted PKCS#8 private key of Ed25519 or X25519, which has "
        + "\(PrivateKey.pkcs8SizeBytes): make one with `backplane keys generate`."
    }
  }
}
