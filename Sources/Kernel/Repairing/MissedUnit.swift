import BackplaneABI
import SodiumShim

/// A unit that a backend missed, as its repair journal keeps it, or that waits for a peer: what is needed to apply it later.
///
/// A record of the journal is a head of 16 bytes and a payload, everything little-endian. Head: the payload's size (4),
/// four zero bytes, the payload's SipHash-2-4 (8). Payload: version (8), ts_ms (8), number of ops (4), then for each op
/// its verb (1), content (1), two zero bytes, the URI's size (4), the data's size (8), the URI, the data.
struct MissedUnit {
  struct Op {
    var verb: UInt32
    var content: UInt32
    var uri: [UInt8]
    /// Where the data lies in the payload.
    var data: Range<Int>
  }

  var version: UInt64
  var timestampMs: UInt64
  var ops: [Op]
  var payload: [UInt8]

  static let headSize = 16
  private static let fixedSize = 20
  private static let opSize = 16
  /// The size is kept in four bytes.
  static let payloadSizeMax = Int(UInt32.max)

  /// What a unit takes in the journal, in bytes.
  static func recordSize(_ ops: UnsafeBufferPointer<bp_op>) -> Int {
    ops.reduce(headSize + fixedSize) { $0 + opSize + Int($1.uri.size) + Int($1.data.size) }
  }

  /// A whole record. Conditions are left out: another backend has decided them.
  static func record(_ ops: UnsafeBufferPointer<bp_op>, timestampMs: UInt64, version: UInt64) -> [UInt8] {
    let size = recordSize(ops)
    return [UInt8](unsafeUninitializedCapacity: size) { bytes, count in
      var writer = Writer(bytes, at: headSize)
      writer.put(version)
      writer.put(timestampMs)
      writer.put(UInt32(ops.count))
      for op in ops {
        writer.put(UInt8(truncatingIfNeeded: op.verb))
        writer.put(UInt8(truncatingIfNeeded: op.content))
        writer.put(UInt16(0))
        writer.put(UInt32(op.uri.size))
        writer.put(op.data.size)
        writer.put(op.uri.bytes)
        writer.put(op.data.bytes)
      }
      let payload = UnsafeBufferPointer(rebasing: UnsafeBufferPointer(bytes)[headSize..<size])
      var head = Writer(bytes, at: 0)
      head.put(UInt32(payload.count))
      head.put(UInt32(0))
      head.put(checksum(payload))
      count = size
    }
  }

  /// The payload's size that a head tells, and its checksum; nil when it is none.
  static func head(_ bytes: [UInt8]) -> (payloadSize: Int, checksum: UInt64)? {
    guard bytes.count == headSize else { return nil }
    return bytes.withUnsafeBytes { bytes in
      let size = Int(UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self)))
      guard size >= fixedSize, bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self) == 0 else { return nil }
      return (size, UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }
  }

  static func checksum(_ payload: UnsafeBufferPointer<UInt8>) -> UInt64 {
    var sum: UInt64 = 0
    withUnsafeMutableBytes(of: &sum) { sum in
      // The key is no secret: this finds what a disk or a crash has damaged.
      _ = crypto_shorthash(
        sum.baseAddress!.assumingMemoryBound(to: UInt8.self), payload.baseAddress, UInt64(payload.count), key)
    }
    return UInt64(littleEndian: sum)
  }
  private static let key = [UInt8](repeating: 0xB4, count: 16)

  /// Nil when the payload is not one of `record`'s.
  init?(payload: [UInt8]) {
    var at = 0
    func take<T: FixedWidthInteger>(_ type: T.Type) -> T? {
      guard payload.count - at >= MemoryLayout<T>.size else { return nil }
      defer { at += MemoryLayout<T>.size }
      return payload.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: at, as: T.self)) }
    }
    guard let version = take(UInt64.self), let timestampMs = take(UInt64.self), let count = take(UInt32.self),
      Int(count) * MissedUnit.opSize <= payload.count
    else { return nil }
    var ops: [Op] = []
    ops.reserveCapacity(Int(count))
    for _ in 0..<count {
      guard let verb = take(UInt8.self), let content = take(UInt8.self), take(UInt16.self) != nil,
        let uriSize = take(UInt32.self), let dataSize = take(UInt64.self), Int(uriSize) <= payload.count - at,
        dataSize <= UInt64(payload.count - at - Int(uriSize))
      else { return nil }
      let uri = Array(payload[at..<(at + Int(uriSize))])
      at += Int(uriSize)
      ops.append(
        Op(verb: UInt32(verb), content: UInt32(content), uri: uri, data: at..<(at + Int(dataSize))))
      at += Int(dataSize)
    }
    guard at == payload.count else { return nil }
    (self.version, self.timestampMs, self.ops, self.payload) = (version, timestampMs, ops, payload)
  }

  private struct Writer {
    private let bytes: UnsafeMutableBufferPointer<UInt8>
    private var at: Int

    init(_ bytes: UnsafeMutableBufferPointer<UInt8>, at: Int) {
      self.bytes = bytes
      self.at = at
    }

    mutating func put<T: FixedWidthInteger>(_ value: T) {
      UnsafeMutableRawPointer(bytes.baseAddress! + at).storeBytes(of: value.littleEndian, as: T.self)
      at += MemoryLayout<T>.size
    }

    mutating func put(_ source: UnsafeBufferPointer<UInt8>) {
      guard let start = source.baseAddress else { return }
      UnsafeMutableRawPointer(bytes.baseAddress! + at).copyMemory(from: start, byteCount: source.count)
      at += source.count
    }
  }
}
