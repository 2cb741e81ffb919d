import SodiumShim

/// The tokens that clients may show. Only their digests are kept.
struct Tokens: Sendable {
  struct Token: Sendable {
    let name: String
    let digest: [UInt8]
    let rights: Rights
  }

  static let digestCount = 32
  private let tokens: [Token]

  init(_ tokens: [Token]) { self.tokens = tokens }

  subscript(index: Int) -> Token { tokens[index] }

  static func digest(_ text: String) -> [UInt8] {
    var text = text
    var digest = [UInt8](repeating: 0, count: digestCount)
    text.withUTF8 { _ = crypto_hash_sha256(&digest, $0.baseAddress, UInt64($0.count)) }
    return digest
  }

  /// The place of the token that an `Authorization` header shows; nil: no such token. Takes as long whichever it is, and
  /// whatever is shown in its place: each digest is compared, each in constant time.
  func find(authorization value: String) -> Int? {
    Self.bearer(value).flatMap { find($0) }
  }

  /// The place of a token by its text; likewise.
  func find(_ shown: String) -> Int? {
    let digest = Self.digest(shown)
    var found: Int?
    for (index, token) in tokens.enumerated() where sodium_memcmp(digest, token.digest, Self.digestCount) == 0 {
      found = index
    }
    return found
  }

  /// What follows "Bearer " (in any case).
  private static func bearer(_ value: String) -> String? {
    let bytes = value.utf8
    guard bytes.count > 7, bytes.count <= 8192 else { return nil }
    let split = bytes.index(bytes.startIndex, offsetBy: 7)
    guard String(bytes[..<split])?.matches("bearer ") == true else { return nil }
    return String(bytes[split...])?.drop { $0 == " " }.description
  }
}
