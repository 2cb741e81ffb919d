import BackendSupport
import PluginAPI

/// The format of exported state, version 1: frames, one after the other, all numbers little-endian.
///
///     0  u64  checksum of the frame, seeded with its number in the phase
///     8  u32  kind, a `Kind`
///    12  u32  content of a put
///    16  u64  put: ts_ms      begin and end: records held
///    24  u64  put: version    begin: bytes held, as size_bytes_max counts them
///    32  u64  size of the data
///    40  u32  size of the URI
///    44  u16  levels of the order that a put shares with the put before it
///    46  u16  levels of its own
///    48  u64  for each level of its own: the sequence number of its node; begin: the next sequence number
///        ...  URI, data
///
/// A phase is a `begin`, then deletes, then puts, then an `end`. The URI of `begin` is `StateFrame.signature`. Sequence
/// numbers make the successor's order the same as the predecessor's, so that a list is not shuffled by a reload and a
/// cursor stays good.
struct StateFrame {
  static let headerSizeBytes = 48
  static let signature: StaticString = "org.backplane.memory"

  enum Kind: UInt32 {
    // Not small numbers: a foreign stream shall not look like one of ours.
    case begin = 0x4250_4d01
    case delete = 0x4250_4d02
    case put = 0x4250_4d03
    case end = 0x4250_4d04
  }

  var kind: Kind
  var content: UInt32 = 0
  var first: UInt64 = 0
  var second: UInt64 = 0
  var dataCount: UInt64 = 0
  var uriCount: UInt32 = 0
  var levelsShared: UInt16 = 0
  var levelsOwn: UInt16 = 0

  /// Bytes of the header, the sequence numbers and the URI: what stands before the data.
  var headCount: Int { Self.headerSizeBytes + Int(levelsOwn) * 8 + Int(uriCount) }

  /// Writes everything but the checksum.
  @inline(__always)
  func store(into raw: UnsafeMutableRawBufferPointer) {
    raw.storeBytes(of: kind.rawValue.littleEndian, toByteOffset: 8, as: UInt32.self)
    raw.storeBytes(of: content.littleEndian, toByteOffset: 12, as: UInt32.self)
    raw.storeBytes(of: first.littleEndian, toByteOffset: 16, as: UInt64.self)
    raw.storeBytes(of: second.littleEndian, toByteOffset: 24, as: UInt64.self)
    raw.storeBytes(of: dataCount.littleEndian, toByteOffset: 32, as: UInt64.self)
    raw.storeBytes(of: uriCount.littleEndian, toByteOffset: 40, as: UInt32.self)
    raw.storeBytes(of: levelsShared.littleEndian, toByteOffset: 44, as: UInt16.self)
    raw.storeBytes(of: levelsOwn.littleEndian, toByteOffset: 46, as: UInt16.self)
  }

  /// nil: these 48 bytes are no header of this format.
  @inline(__always)
  init?(reading raw: UnsafeRawBufferPointer) {
    guard let kind = Kind(rawValue: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 8, as: UInt32.self))) else {
      return nil
    }
    self.kind = kind
    content = UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
    first = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
    second = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
    dataCount = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 32, as: UInt64.self))
    uriCount = UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 40, as: UInt32.self))
    levelsShared = UInt16(littleEndian: raw.loadUnaligned(fromByteOffset: 44, as: UInt16.self))
    levelsOwn = UInt16(littleEndian: raw.loadUnaligned(fromByteOffset: 46, as: UInt16.self))
  }

  init(_ kind: Kind) { self.kind = kind }

  // MARK: Checksum

  /// The checksum of frame `number`, from what stands before the data (without the checksum itself) and the data.
  @inline(__always)
  static func checksum(_ number: UInt64, head: UnsafeRawBufferPointer, data: UnsafeRawBufferPointer) -> UInt64 {
    Checksum.mix(Checksum.mix(number &+ 0x9e37_79b9_7f4a_7c15, head), data)
  }
}
