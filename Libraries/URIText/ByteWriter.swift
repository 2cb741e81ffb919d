/// Appends to a caller's buffer and never past its end: what does not fit is dropped and remembered.
struct ByteWriter {
  private let buffer: UnsafeMutableBufferPointer<UInt8>
  private(set) var count = 0
  private(set) var overflowed = false

  init(_ buffer: UnsafeMutableBufferPointer<UInt8>) {
    self.buffer = buffer
  }

  subscript(index: Int) -> UInt8 {
    get { buffer[index] }
    nonmutating set { buffer[index] = newValue }
  }

  /// What has been appended so far.
  var written: UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(rebasing: buffer[..<count]) }

  mutating func append(_ byte: UInt8) {
    guard count < buffer.count else {
      overflowed = true
      return
    }
    buffer[count] = byte
    count += 1
  }

  mutating func appendEscaped(_ byte: UInt8) {
    append(UInt8(ascii: "%"))
    append(Self.upperHexDigit(byte >> 4))
    append(Self.upperHexDigit(byte & 0x0F))
  }

  /// - Parameter count: at most the present count.
  mutating func truncate(to count: Int) {
    self.count = count
  }

  private static func upperHexDigit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + value - 10
  }
}
