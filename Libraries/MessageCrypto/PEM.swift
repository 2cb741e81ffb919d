/// The text in which private keys are kept (RFC 7468), read as leniently as the reference reads it and written as it
/// writes it. Neither way leaves a copy of the key in ordinary memory.
public enum PEM {
  /// More is no private key.
  public static let textSizeBytesMax = 64 << 10
  private static let lineLength = 64
  private static let head: StaticString = "-----BEGIN PRIVATE KEY-----\n"
  private static let tail: StaticString = "-----END PRIVATE KEY-----"

  /// The bytes that `text` holds.
  ///
  /// Line breaks of any kind, also those of a text in which they became `\n` and `\r`, and white space around lines pass.
  /// The label is not looked at, base64 alone passes too, and what stands before the first BEGIN line or after the first
  /// END line is passed over: a key file may say more.
  public static func decode(_ text: UnsafeRawBufferPointer) throws(KeyFormatError) -> SecretBytes {
    guard text.count <= textSizeBytesMax else { throw .tooLong(limitBytes: textSizeBytesMax) }
    let body = try body(of: text)
    var digits = 0
    forEachDataByte(of: body) { _ in digits += 1 }
    guard digits > 0 else { throw .noKeyData }
    var reader = Base64Reader()
    let decoded = try SecretBytes(count: (digits + 3) / 4 * 3) { bytes throws(KeyFormatError) in
      forEachDataByte(of: body) { reader.take($0, into: bytes) }
      guard reader.finish(into: bytes) else { throw .notBase64 }
    }
    return decoded.withUnsafeBytes { bytes in
      SecretBytes(copying: UnsafeRawBufferPointer(rebasing: bytes[..<reader.written]))
    }
  }

  /// The text of a PEM with the label PRIVATE KEY: lines of 64 characters, no line break at the end.
  public static func encode(_ bytes: SecretBytes) -> SecretBytes {
    let digits = (bytes.count + 2) / 3 * 4
    let lines = (digits + lineLength - 1) / lineLength
    let size = head.utf8CodeUnitCount + digits + lines + tail.utf8CodeUnitCount
    return SecretBytes(count: size) { text in
      var place = 0
      func put(_ byte: UInt8) {
        text[place] = byte
        place += 1
      }
      func put(_ line: StaticString) { for index in 0..<line.utf8CodeUnitCount { put(line.utf8Start[index]) } }
      put(head)
      bytes.withUnsafeBytes { bytes in
        for digit in 0..<digits {
          put(Base64Reader.digit(digit, of: bytes))
          if digit % lineLength == lineLength - 1 || digit == digits - 1 { put(UInt8(ascii: "\n")) }
        }
      }
      put(tail)
    }
  }

  /// The lines that may hold data.
  private static func body(of text: UnsafeRawBufferPointer) throws(KeyFormatError) -> UnsafeRawBufferPointer {
    var lower = 0
    var upper = text.count
    var beginnings = 0
    forEachLine(of: text) { line in
      if starts(text[line], "-----BEGIN ") {
        beginnings += 1
        if beginnings == 1 { lower = line.upperBound }
      } else if starts(text[line], "-----END "), upper == text.count {
        upper = line.lowerBound
      }
    }
    guard beginnings < 2 else { throw .severalKeys }
    guard lower <= upper else { throw .noKeyData }
    return UnsafeRawBufferPointer(rebasing: text[lower..<upper])
  }

  private static func forEachDataByte(of text: UnsafeRawBufferPointer, _ body: (UInt8) -> Void) {
    forEachLine(of: text) { line in
      if starts(text[line], "---") { return }
      for byte in text[line] { body(byte) }
    }
  }

  /// Without white space around them, and without empty ones.
  private static func forEachLine(of text: UnsafeRawBufferPointer, _ body: (Range<Int>) -> Void) {
    var start = 0
    while start < text.count {
      var end = start
      var breakLength = 0
      while end < text.count {
        breakLength = lineBreakLength(in: text, at: end)
        if breakLength > 0 { break }
        end += 1
      }
      var line = start..<end
      while let first = line.first, isSpace(text[first]) { line = (first + 1)..<line.upperBound }
      while let last = line.last, isSpace(text[last]) { line = line.lowerBound..<last }
      if !line.isEmpty { body(line) }
      start = end + max(breakLength, 1)
    }
  }

  /// 1 for a line break, 2 for the text of one, 0 for anything else.
  private static func lineBreakLength(in text: UnsafeRawBufferPointer, at index: Int) -> Int {
    let byte = text[index]
    if byte == 0x0A || byte == 0x0D { return 1 }
    guard byte == UInt8(ascii: "\\"), index + 1 < text.count else { return 0 }
    return text[index + 1] == UInt8(ascii: "n") || text[index + 1] == UInt8(ascii: "r") ? 2 : 0
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

  private static func starts(_ line: Slice<UnsafeRawBufferPointer>, _ text: StaticString) -> Bool {
    line.starts(with: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }
}
