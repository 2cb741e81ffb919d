import JSONText
import MessageCrypto
import PluginAPI

/// The one rule that permissive mode keeps: what is stored at `hash://sha256/<digest>` has that digest. The digest is
/// over the bytes, or over the canonical JSON text (RFC 8785) of any other value. Reference: sections 6 and 10.
///
/// It looks at the normal form, which is where the record will stand: query, fragment, port and empty segments are not
/// part of it.
package enum DigestRule {
  /// Deepest nesting that is put into canonical form, in arrays and objects open at once. The walk does not recurse; the
  /// bound is there for the 64 or so bytes of memory that each open level costs.
  package static let depthMax = 10_000

  private static let scheme: StaticString = "hash:"
  private static let authority: StaticString = "hash://"
  private static let algorithm: StaticString = "sha256"

  /// Whether a URI in normal form is under the rule.
  package static func covers(_ uri: BorrowedBytes) -> Bool { uri.starts(with: scheme) }

  /// Whether a text that is no URI begins with the scheme all the same, as the URL parser would have read it: in any
  /// case, after leading control characters and spaces, without tabs and newlines.
  package static func coversUnparsable(_ text: BorrowedBytes) -> Bool {
    var wanted = 0
    for byte in text {
      if byte == 0x09 || byte == 0x0A || byte == 0x0D || (wanted == 0 && byte <= 0x20) { continue }
      let lowered = byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte
      guard lowered == scheme.utf8Start[wanted] else { return false }
      wanted += 1
      if wanted == scheme.utf8CodeUnitCount { return true }
    }
    return false
  }

  /// What the rule says to a text that begins with the scheme and is no URI.
  package static var invalid: Refusal { Refusal("Invalid hash URI format") }

  /// Checks `content` against a URI in normal form that the rule covers. Allocates for JSON only.
  package static func check(_ uri: BorrowedBytes, _ content: MessageContent) throws(Refusal) {
    guard uri.starts(with: authority) else { throw invalid }
    let rest = BorrowedBytes(rebasing: uri[authority.utf8CodeUnitCount...])
    guard let slash = rest.firstIndex(of: UInt8(ascii: "/")), slash + 1 < rest.count else { throw invalid }
    let host = BorrowedBytes(rebasing: rest[..<slash])
    guard host.count == algorithm.utf8CodeUnitCount, host.starts(with: algorithm) else {
      throw Refusal("Unsupported algorithm: \(String(decoding: host, as: UTF8.self))")
    }
    guard try isDigest(BorrowedBytes(rebasing: rest[(slash + 1)...]), of: content) else {
      throw Refusal("Content hash mismatch")
    }
  }

  /// For self-tests: checks the digest of `{"b":1,"a":2}`, by RFC 8785 text and SHA-256.
  package static func checkKnownDigest() throws(Refusal) {
    let uri: StaticString = "hash://sha256/d3626ac30a87e6f7a6428233b3c68299976865fa5508e4267c5415c76af7a772"
    let value: StaticString = "{\"b\": 1, \"a\": 2}"
    try check(
      BorrowedBytes(start: uri.utf8Start, count: uri.utf8CodeUnitCount),
      MessageContent(BorrowedBytes(start: value.utf8Start, count: value.utf8CodeUnitCount), isJSON: true))
  }

  private static func isDigest(_ digest: BorrowedBytes, of content: MessageContent) throws(Refusal) -> Bool {
    let digest = UnsafeRawBufferPointer(digest)
    guard content.isJSON else { return SHA256.isDigest(digest, of: UnsafeRawBufferPointer(content.bytes)) }
    var canonical: [UInt8] = []
    do throws(JSONError) {
      try CanonicalText.append(
        UnsafeRawBufferPointer(content.bytes), order: .canonical, to: &canonical, depthMax: depthMax)
    } catch {
      throw Refusal(error)
    }
    return canonical.withUnsafeBytes { SHA256.isDigest(digest, of: $0) }
  }
}

extension BorrowedBytes {
  func starts(with text: StaticString) -> Bool {
    guard count >= text.utf8CodeUnitCount else { return false }
    for index in 0..<text.utf8CodeUnitCount where self[index] != text.utf8Start[index] { return false }
    return true
  }
}
