import PluginAPI

/// SipHash-1-3 with a key of the store's own. URIs come from strangers: with a hash that can be predicted, a few thousand
/// chosen URIs would make every look-up walk the whole table.
struct ByteHash: Sendable {
  private let key0: UInt64
  private let key1: UInt64

  init(key0: UInt64 = .random(in: .min ... .max), key1: UInt64 = .random(in: .min ... .max)) {
    self.key0 = key0
    self.key1 = key1
  }

  @inline(__always)
  func callAsFunction(_ bytes: BorrowedBytes) -> UInt64 {
    var v0 = key0 ^ 0x736f_6d65_7073_6575
    var v1 = key1 ^ 0x646f_7261_6e64_6f6d
    var v2 = key0 ^ 0x6c79_6765_6e65_7261
    var v3 = key1 ^ 0x7465_6462_7974_6573

    @inline(__always)
    func round() {
      v0 &+= v1
      v1 = (v1 << 13 | v1 >> 51) ^ v0
      v0 = v0 << 32 | v0 >> 32
      v2 &+= v3
      v3 = (v3 << 16 | v3 >> 48) ^ v2
      v0 &+= v3
      v3 = (v3 << 21 | v3 >> 43) ^ v0
      v2 &+= v1
      v1 = (v1 << 17 | v1 >> 47) ^ v2
      v2 = v2 << 32 | v2 >> 32
    }

    let raw = UnsafeRawBufferPointer(bytes)
    let whole = raw.count & ~7
    var offset = 0
    while offset < whole {
      let word = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
      v3 ^= word
      round()
      v0 ^= word
      offset += 8
    }
    var last = UInt64(truncatingIfNeeded: raw.count) << 56
    var shift: UInt64 = 0
    while offset < raw.count {
      last |= UInt64(raw[offset]) << shift
      shift += 8
      offset += 1
    }
    v3 ^= last
    round()
    v0 ^= last
    v2 ^= 0xff
    round()
    round()
    round()
    return v0 ^ v1 ^ v2 ^ v3
  }
}
