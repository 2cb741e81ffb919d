import Glibc
import PluginAPI

/// What stands in the column `data` of a record of ours, where the peer reads it. The record itself is kept beside it.
enum PeerValue {
  /// How the statement makes the value.
  enum Form: UInt16 {
    /// From the record's own text.
    case text = 0
    /// The peer's marker object, made of the record's bytes.
    case bytes = 1
    /// Another text, given with the record.
    case other = 2
  }

  /// Records that are larger are not shown to the peer: as jsonb, or in base64, they would take several times as much.
  static let sizeBytesMax = 64 << 20

  /// A JSON text for records that `jsonb` cannot keep.
  static func standIn(_ reason: String, sizeBytes: Int) -> [UInt8] {
    Array(#"{"__backplane_stand_in__":true,"reason":"\#(reason)","size_bytes":\#(sizeBytes)}"#.utf8)
  }

  static let refused = "PostgreSQL's jsonb cannot keep this value; read it through Backplane"
  static let large = "larger than 64 MiB; read it through Backplane"

  /// A JSON text with U+FFFD in place of escapes that `jsonb` refuses, U+0000 and halves of surrogate pairs; nil when
  /// there are none, which is nearly always.
  static func replacingEscapes(_ text: BorrowedBytes) -> [UInt8]? {
    var output: [UInt8] = []
    var copied = 0
    var place = next(text, after: 0)
    // A backslash is only found inside strings, and each escape is stepped over whole.
    while place + 1 < text.count {
      guard text[place + 1] == 0x75 else {
        place = next(text, after: place + 2)
        continue
      }
      guard let unit = codeUnit(text, at: place) else { return nil }
      var length = 6
      var isRefused = unit == 0 || (0xdc00...0xdfff).contains(unit)
      if (0xd800...0xdbff).contains(unit) {
        if let low = codeUnit(text, at: place + 6), (0xdc00...0xdfff).contains(low) {
          length = 12
        } else {
          isRefused = true
        }
      }
      if isRefused {
        output += text[copied..<place]
        output += #"\ufffd"#.utf8
        copied = place + length
      }
      place = next(text, after: place + length)
    }
    if copied == 0 { return nil }
    output += text[copied...]
    return output
  }

  private static func next(_ text: BorrowedBytes, after place: Int) -> Int {
    guard place < text.count, let start = text.baseAddress,
      let found = memchr(start + place, 0x5c, text.count - place)
    else { return text.count }
    return UnsafeRawPointer(found) - UnsafeRawPointer(start)
  }

  private static func codeUnit(_ text: BorrowedBytes, at place: Int) -> UInt16? {
    guard place + 6 <= text.count, text[place] == 0x5c, text[place + 1] == 0x75 else { return nil }
    var unit: UInt16 = 0
    for byte in text[place + 2..<place + 6] {
      switch byte {
      case 0x30...0x39: unit = unit << 4 | UInt16(byte - 0x30)
      case 0x41...0x46: unit = unit << 4 | UInt16(byte - 0x37)
      case 0x61...0x66: unit = unit << 4 | UInt16(byte - 0x57)
      default: return nil
      }
    }
    return unit
  }
}
