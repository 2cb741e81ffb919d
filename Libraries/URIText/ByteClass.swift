/// A set of ASCII bytes, as two words of bits: one shift and one test to ask.
struct ByteClass {
  private let low: UInt64
  private let high: UInt64

  private init(low: UInt64, high: UInt64) {
    self.low = low
    self.high = high
  }

  @inline(__always)
  func contains(_ byte: UInt8) -> Bool {
    // A shift by 64 or more gives 0, so bytes from 0x80 on are in no class.
    ((low >> UInt64(byte)) | (byte >= 64 ? high >> UInt64(byte - 64) : 0)) & 1 == 1
  }

  /// The printable bytes 0x21 to 0x7E, save those given.
  private static func printable(except excluded: StaticString) -> ByteClass {
    var low: UInt64 = 0
    var high: UInt64 = 0
    for byte in UInt8(0x21)...0x7E {
      var isExcluded = false
      for index in 0..<excluded.utf8CodeUnitCount where excluded.utf8Start[index] == byte { isExcluded = true }
      if isExcluded { continue }
      if byte < 64 { low |= 1 << UInt64(byte) } else { high |= 1 << UInt64(byte - 64) }
    }
    return ByteClass(low: low, high: high)
  }

  /// Bytes that an opaque host keeps as they are: all but the WHATWG "forbidden host code points".
  static let opaqueHost = printable(except: "#/:<>?@[\\]^|")

  /// Bytes that a path segment keeps as they are (a backslash only where it does not divide segments).
  static let pathSegment = printable(except: "\"#<>?`{}/")

  /// Bytes that a host of a special scheme may hold: "forbidden domain code points" left out.
  static let domain = printable(except: "#/:<>?@[\\]^|%")

  @inline(__always)
  static func isLowerLetter(_ byte: UInt8) -> Bool { byte &- 0x61 < 26 }

  @inline(__always)
  static func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) &- 0x61 < 26 }

  @inline(__always)
  static func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }

  @inline(__always)
  static func isSchemeTail(_ byte: UInt8) -> Bool {
    isLetter(byte) || isDigit(byte) || byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-")
      || byte == UInt8(ascii: ".")
  }

  static func lowered(_ byte: UInt8) -> UInt8 {
    byte &- 0x41 < 26 ? byte | 0x20 : byte
  }

  static func hexValue(_ byte: UInt8) -> UInt8? {
    if isDigit(byte) { return byte - 0x30 }
    let letter = byte | 0x20
    return letter &- 0x61 < 6 ? letter - 0x61 + 10 : nil
  }
}
