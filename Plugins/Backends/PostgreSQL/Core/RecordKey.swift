import PluginAPI
import SodiumShim

/// What stands in the column `uri` for a record: its URI, or for a long one its beginning and the digest of all of it. The
/// peer's column has 2,048 characters, and an index entry of PostgreSQL's at most 2,704 bytes.
enum RecordKey {
  /// The longest URI that a record may have.
  static let uriSizeBytesMax = 65_536
  /// The longest that stands in the column as it is.
  static let plainSizeBytesMax = 2_048
  /// How much of a longer one does: prefixes up to here are those of the column.
  static let headSizeBytesMax = 1_920
  /// No URI in normal form has a `#`.
  private static let mark: StaticString = "#sha256:"

  /// Calls `body` with the key of `uri`, which is borrowed.
  @inline(__always)
  static func with<R, E: Error>(_ uri: BorrowedBytes, _ body: (BorrowedBytes) throws(E) -> R) throws(E) -> R {
    if uri.count <= plainSizeBytesMax { return try body(uri) }
    return try long(uri).withView { view throws(E) in try body(view.bytes) }
  }

  static func copy(_ uri: BorrowedBytes) -> [UInt8] {
    uri.count <= plainSizeBytesMax ? Array(uri) : long(uri)
  }

  private static func long(_ uri: BorrowedBytes) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: Int(crypto_hash_sha256_BYTES))
    crypto_hash_sha256(&digest, uri.baseAddress, UInt64(uri.count))
    var key = Array(head(uri))
    key += UnsafeBufferPointer(start: mark.utf8Start, count: mark.utf8CodeUnitCount)
    for byte in digest {
      for digit in [byte >> 4, byte & 15] { key.append(digit < 10 ? 0x30 + digit : 0x57 + digit) }
    }
    return key
  }

  /// The beginning that a key shares with its URI, cut between characters.
  static func head(_ uri: BorrowedBytes) -> BorrowedBytes {
    var end = min(uri.count, headSizeBytesMax)
    while end > 0, end < uri.count, uri[end] & 0xc0 == 0x80 { end -= 1 }
    return BorrowedBytes(rebasing: uri[..<end])
  }

  /// Text that PostgreSQL takes: UTF-8 without U+0000.
  static func isText(_ bytes: BorrowedBytes) -> Bool {
    var others: UInt8 = 0
    for byte in bytes {
      if byte == 0 { return false }
      others |= byte
    }
    return others < 0x80 || String(validating: bytes, as: UTF8.self) != nil
  }
}
