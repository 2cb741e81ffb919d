/// Hexadecimal text: both cases on the way in, lower case on the way out. What is not two digits for each byte is
/// refused: a lenient reader would take one key for another.
public enum Hexadecimal {
  /// Writes the bytes that `text` stands for into `bytes`.
  /// - Returns: false when `text` is not exactly two digits for each byte of `bytes`; `bytes` is then undefined.
  @inlinable
  public static func decode(_ text: UnsafeRawBufferPointer, into bytes: UnsafeMutableRawBufferPointer) -> Bool {
    guard text.count == 2 * bytes.count else { return false }
    guard let source = text.baseAddress, let target = bytes.baseAddress else { return true }
    // Without a branch for each digit: which of them are letters nobody can predict.
    var all: UInt8 = 0
    var index = 0
    while index < bytes.count {
      let high = value(source.load(fromByteOffset: 2 &* index, as: UInt8.self))
      let low = value(source.load(fromByteOffset: 2 &* index &+ 1, as: UInt8.self))
      all |= high | low
      target.storeBytes(of: high &<< 4 | low, toByteOffset: index, as: UInt8.self)
      index &+= 1
    }
    return all < 16
  }

  /// As `decode(_:into:)`, over typed bytes.
  @inlinable
  public static func decode(_ text: UnsafeBufferPointer<UInt8>, into bytes: UnsafeMutableBufferPointer<UInt8>) -> Bool {
    decode(UnsafeRawBufferPointer(text), into: UnsafeMutableRawBufferPointer(bytes))
  }

  /// The bytes that `text` stands for; nil for an odd number of digits or anything that is no digit.
  public static func decode(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
    guard text.count % 2 == 0 else { return nil }
    var isDecoded = false
    let bytes = [UInt8](unsafeUninitializedCapacity: text.count / 2) { buffer, initialised in
      isDecoded = decode(
        text,
        into: UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: buffer.prefix(text.count / 2))))
      initialised = isDecoded ? text.count / 2 : 0
    }
    return isDecoded ? bytes : nil
  }

  /// The bytes that `text` stands for; nil for an odd number of digits or anything that is no digit.
  public static func decode(_ text: String) -> [UInt8]? {
    var text = text
    return text.withUTF8 { decode(UnsafeRawBufferPointer($0)) }
  }

  /// Appends two lower-case digits for each byte.
  public static func append(_ bytes: UnsafeRawBufferPointer, to output: inout [UInt8]) {
    output.reserveCapacity(output.count + 2 * bytes.count)
    for byte in bytes {
      output.append(digit(byte >> 4))
      output.append(digit(byte & 0x0F))
    }
  }

  /// Writes two lower-case digits for each byte into `text`, which has room for exactly them: for secrets, which no
  /// array may hold.
  public static func write(_ bytes: UnsafeRawBufferPointer, into text: UnsafeMutableRawBufferPointer) {
    precondition(text.count == 2 * bytes.count, "two digits for each byte, and no more room")
    for index in 0..<bytes.count {
      text[2 * index] = digit(bytes[index] >> 4)
      text[2 * index + 1] = digit(bytes[index] & 0x0F)
    }
  }

  /// Two lower-case digits for each byte.
  public static func text(_ bytes: some Sequence<UInt8>) -> String {
    var output: [UInt8] = []
    for byte in bytes {
      output.append(digit(byte >> 4))
      output.append(digit(byte & 0x0F))
    }
    return String(decoding: output, as: UTF8.self)
  }

  /// 0 to 15, or 255 for a byte that is no digit.
  @inlinable
  public static func value(_ byte: UInt8) -> UInt8 {
    let decimal = byte &- 0x30
    let letter = (byte | 0x20) &- 0x61
    let other: UInt8 = letter < 6 ? letter &+ 10 : 255
    return decimal < 10 ? decimal : other
  }

  /// Requires a value below 16.
  @inline(__always)
  private static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x57 + value }
}
