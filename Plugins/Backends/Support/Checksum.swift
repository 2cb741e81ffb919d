/// A checksum against accidents, not against adversaries: a folded multiplication for each 16 bytes.
public enum Checksum {
  /// Adds `bytes` to the checksum of what came before (`seed`). The same pieces in the same order give the same number.
  @inlinable @inline(__always)
  public static func mix(_ seed: UInt64, _ bytes: UnsafeRawBufferPointer) -> UInt64 {
    @inline(__always)
    func fold(_ left: UInt64, _ right: UInt64) -> UInt64 {
      let product = left.multipliedFullWidth(by: right)
      return product.high ^ product.low
    }
    @inline(__always)
    func word(_ offset: Int) -> UInt64 {
      UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    var sum = seed ^ 0xa076_1d64_78bd_642f
    var offset = 0
    while offset + 16 <= bytes.count {
      sum = fold(word(offset) ^ 0xe703_7ed1_a0b4_28db, word(offset + 8) ^ sum)
      offset += 16
    }
    var left: UInt64 = 0
    if offset + 8 <= bytes.count {
      left = word(offset)
      offset += 8
    }
    var last: UInt64 = 0
    var shift: UInt64 = 0
    while offset < bytes.count {
      last |= UInt64(bytes[offset]) << shift
      shift += 8
      offset += 1
    }
    sum = fold(left ^ 0xe703_7ed1_a0b4_28db, last ^ sum)
    return fold(sum ^ UInt64(bytes.count), 0x8ebc_6af0_9c88_c6e3)
  }
}
