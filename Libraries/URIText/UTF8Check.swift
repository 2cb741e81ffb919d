enum UTF8Check {
  /// Whether the bytes are well-formed UTF-8 (no overlong forms, no surrogates, nothing above U+10FFFF).
  static func isValid<Bytes: RandomAccessCollection>(_ bytes: Bytes) -> Bool
  where Bytes.Element == UInt8, Bytes.Index == Int {
    var index = bytes.startIndex
    let end = bytes.endIndex
    while index < end {
      let first = bytes[index]
      index += 1
      if first < 0x80 { continue }
      var secondMin: UInt8 = 0x80
      var secondMax: UInt8 = 0xBF
      let more: Int
      switch first {
      case 0xC2...0xDF: more = 1
      case 0xE0: (more, secondMin) = (2, 0xA0)
      case 0xED: (more, secondMax) = (2, 0x9F)
      case 0xE1...0xEF: more = 2
      case 0xF0: (more, secondMin) = (3, 0x90)
      case 0xF1...0xF3: more = 3
      case 0xF4: (more, secondMax) = (3, 0x8F)
      default: return false
      }
      guard end - index >= more, bytes[index] >= secondMin, bytes[index] <= secondMax else { return false }
      for offset in 1..<max(more, 1) where bytes[index + offset] & 0xC0 != 0x80 { return false }
      index += more
    }
    return true
  }
}
