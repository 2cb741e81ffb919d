import PluginAPI

/// Writes into memory that was reserved for it. Writing past the end is a mistake of this module and traps.
@frozen
public struct ByteCursor {
  /// Where the next byte goes.
  public var next: UnsafeMutablePointer<UInt8>
  @usableFromInline let end: UnsafeMutablePointer<UInt8>

  @inlinable
  public init(_ buffer: UnsafeMutableRawBufferPointer) {
    next = buffer.baseAddress!.assumingMemoryBound(to: UInt8.self)
    end = next + buffer.count
  }

  @inlinable @inline(__always)
  public mutating func put(_ text: StaticString) {
    put(text.utf8Start, text.utf8CodeUnitCount)
  }

  @inlinable @inline(__always)
  public mutating func put(_ start: UnsafePointer<UInt8>, _ count: Int) {
    precondition(end - next >= count, "a response was longer than the room reserved for it")
    next.update(from: start, count: count)
    next += count
  }

  @inlinable @inline(__always)
  public mutating func put(_ view: bp_view) {
    if let data = view.data { put(data, Int(view.size)) }
  }

  @inlinable @inline(__always)
  public mutating func put(_ bytes: UnsafeRawBufferPointer) {
    if let start = bytes.baseAddress { put(start.assumingMemoryBound(to: UInt8.self), bytes.count) }
  }

  @inlinable @inline(__always)
  public mutating func put(_ bytes: [UInt8]) {
    bytes.withUnsafeBufferPointer { if let start = $0.baseAddress { put(start, $0.count) } }
  }

  @inlinable @inline(__always)
  public mutating func put(_ text: String) {
    _ = text.utf8.withContiguousStorageIfAvailable { if let start = $0.baseAddress { put(start, $0.count) } }
  }

  @inlinable @inline(__always)
  public mutating func put(byte: UInt8) {
    precondition(next < end, "a response was longer than the room reserved for it")
    next.pointee = byte
    next += 1
  }

  @inlinable @inline(__always)
  public mutating func put(decimal value: UInt64) {
    let count = Self.digits(value)
    precondition(end - next >= count, "a response was longer than the room reserved for it")
    var rest = value
    var place = next + count
    repeat {
      place -= 1
      place.pointee = UInt8(truncatingIfNeeded: rest % 10) &+ 0x30
      rest /= 10
    } while rest != 0
    next += count
  }

  /// Sixteen lower-case digits.
  @inlinable @inline(__always)
  public mutating func put(hex value: UInt64) {
    precondition(end - next >= 16, "a response was longer than the room reserved for it")
    var rest = value
    for index in stride(from: 15, through: 0, by: -1) {
      let digit = UInt8(truncatingIfNeeded: rest & 15)
      next[index] = digit < 10 ? 0x30 + digit : 0x57 + digit
      rest >>= 4
    }
    next += 16
  }

  /// How many decimal digits `value` has.
  @inlinable @inline(__always)
  public static func digits(_ value: UInt64) -> Int {
    var count = 1
    var bound: UInt64 = 10
    while value >= bound {
      count += 1
      let (product, overflow) = bound.multipliedReportingOverflow(by: 10)
      if overflow { return count }
      bound = product
    }
    return count
  }
}
