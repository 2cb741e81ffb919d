import Glibc
import JSONText
import PluginAPI

/// Finds out whether a value is an envelope.
package enum EnvelopeText {
  /// The length of `{"payload":{"inputs":[],"outputs":[]}}`: nothing shorter is one.
  private static let sizeBytesMin = 38
  private static let name: StaticString = "payload"
  /// Names may be written with escapes, and a letter can be escaped in this way only.
  private static let escape: StaticString = "\\u"

  /// The envelope that `content` is, or nil for a plain value. A plain value is not scanned unless it could be an
  /// envelope by its first byte and by one search. Borrows from `content`.
  package static func find(in content: MessageContent) throws(Refusal) -> MessageEnvelope? {
    guard content.isJSON, isCandidate(content.bytes) else { return nil }
    // Finding the outputs needs no memory worth a bound: one bit for each level.
    switch JSONScanner(depthMax: .max).scan(content.bytes) {
    case .success(let value): return MessageEnvelope.find(in: value)
    case .failure(let problem): throw Refusal(problem)
    }
  }

  static func isCandidate(_ bytes: BorrowedBytes) -> Bool {
    guard bytes.count >= sizeBytesMin, firstCharacter(bytes) == UInt8(ascii: "{") else { return false }
    return contains(name, anchor: 2, bytes) || contains(escape, anchor: 0, bytes)
  }

  /// After a byte-order mark and whitespace.
  private static func firstCharacter(_ bytes: BorrowedBytes) -> UInt8? {
    var index = bytes[0] == 0xEF ? 3 : 0
    while index < bytes.count {
      let byte = bytes[index]
      guard byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D else { return byte }
      index += 1
    }
    return nil
  }

  /// memchr goes from one occurrence of the byte at `anchor` (the rarest of the text's) to the next.
  private static func contains(_ text: StaticString, anchor: Int, _ bytes: BorrowedBytes) -> Bool {
    let count = text.utf8CodeUnitCount
    guard let base = bytes.baseAddress, bytes.count >= count else { return false }
    // The anchor of a whole occurrence lies within these.
    var place = base + anchor
    let end = base + (bytes.count - count + anchor + 1)
    while place < end, let found = memchr(place, Int32(text.utf8Start[anchor]), end - place) {
      let candidate = found.assumingMemoryBound(to: UInt8.self)
      if memcmp(candidate - anchor, text.utf8Start, count) == 0 { return true }
      place = UnsafePointer(candidate) + 1
    }
    return false
  }
}
