/// A path segment that tells nothing about what it was made from, to those who have not the secret.
public enum ObfuscatedPath {
  /// The first 32 hexadecimal digits of HMAC-SHA256 of the parts joined by `|`, as the reference makes them: the parts
  /// `a`, `b` and the one part `a|b` come out alike.
  public static func text(secret: UnsafeRawBufferPointer, parts: [String]) -> String {
    let joined = Array(parts.joined(separator: "|").utf8)
    return Hexadecimal.text(joined.withUnsafeBytes { HMACSHA256.code(of: $0, key: secret) }.prefix(16))
  }
}
