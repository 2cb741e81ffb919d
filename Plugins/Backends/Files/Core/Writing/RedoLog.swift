import BackendSupport
import Glibc
import PluginAPI

/// What makes a unit durable and all or nothing: it is here, whole, before the first of its files changes. Whatever is
/// here after a crash is put in place again.
///
/// The file begins with frames, one a unit, and ends where a frame is not whole or does not follow the one before. It is
/// written from the beginning again when everything in it is safely in place, so that it seldom changes its size. All
/// numbers are little-endian:
///
///     0  u64  checksum of the frame, seeded with that of the frame before: what an earlier round left never fits
///     8  u32  "BPfl"
///    12  u32  ops
///    16  u64  size of the ops
///    24  u64  ts_ms
///    32  u64  version
///        for each op:  u32 verb, u32 content, u32 size of the URI, u32 0, u64 size of the data, URI, data
final class RedoLog {
  static let headerSizeBytes = 40
  static let opSizeBytes = 24
  static let signature: UInt32 = 0x6c66_5042
  /// What the file has from the beginning: on a full disk something can still be deleted.
  private static let reservedSizeBytes = 1 << 20
  /// Larger data is written from where it is.
  private static let gatheredSizeBytesMax = 64 << 10

  /// Up to where frames are, and the checksum of the last.
  struct Mark: Equatable {
    var offset = 0
    var checksum: UInt64 = 0
  }

  let descriptor: Int32
  let path: String
  private let durability: Durability
  private(set) var end = Mark()
  private var gathered: [UInt8] = []
  private var gatheredOffset = 0

  init(_ root: OpenRoot, _ durability: Durability) {
    descriptor = root.log
    path = root.logPath
    self.durability = durability
    // Where it cannot be had, a full disk will be said when it is needed.
    _ = posix_fallocate(descriptor, 0, off_t(Self.reservedSizeBytes))
  }

  func problem(_ number: Int32, _ action: String = "writing") -> FilesProblem { FilesProblem(number, action, path) }

  // MARK: Writing

  /// Adds a unit. When this throws the log is as it was. It is durable after `sync`.
  func append(_ unit: some OpList) throws(FilesProblem) {
    let (checksum, size) = frame(unit)
    gathered.removeAll(keepingCapacity: true)
    gatheredOffset = end.offset
    withUnsafeBytes(of: checksum.littleEndian) { gathered.append(contentsOf: $0) }
    gathered.append(contentsOf: header(unit, size))
    for index in 0..<unit.count {
      let op = unit[index]
      gathered.append(contentsOf: opHeader(op))
      gathered.append(contentsOf: op.uri.bytes)
      if op.isDelete { continue }
      if op.data.size <= Self.gatheredSizeBytesMax {
        gathered.append(contentsOf: op.data.bytes)
      } else {
        try flush()
        try write(UnsafeRawBufferPointer(op.data.bytes))
      }
      if gathered.count > Self.gatheredSizeBytesMax { try flush() }
    }
    try flush()
    end = Mark(offset: gatheredOffset, checksum: checksum)
  }

  /// What was appended survives what the durability says.
  func sync() throws(FilesProblem) {
    if durability == .os { return }
    guard fdatasync(descriptor) == 0 else { throw problem(errno) }
  }

  /// After reading what a crash left.
  func resume(at mark: Mark) { end = mark }

  /// Takes back what was appended since.
  func rewind(to mark: Mark) {
    end = mark
    _ = invalidate(mark.offset)
  }

  /// Everything in the log is in place, and as safe there as it was here. A file that has become larger than `sizeBytesMax`
  /// gives space back.
  func reset(sizeBytesMax: Int) throws(FilesProblem) {
    guard invalidate(0), end.offset <= sizeBytesMax || ftruncate(descriptor, off_t(sizeBytesMax)) == 0 else {
      throw problem(errno)
    }
    end = Mark()
  }

  /// As `reset`, and gives all space back.
  func empty() throws(FilesProblem) {
    guard ftruncate(descriptor, 0) == 0 else { throw problem(errno) }
    try sync()
    end = Mark()
  }

  private func invalidate(_ offset: Int) -> Bool {
    var zeros: (UInt64, UInt64) = (0, 0)
    return pwrite(descriptor, &zeros, 16, offset) == 16
  }

  private func flush() throws(FilesProblem) {
    let result: Result<Void, FilesProblem> = gathered.withUnsafeBytes { bytes in
      do throws(FilesProblem) { return .success(try write(bytes)) } catch { return .failure(error) }
    }
    try result.get()
    gathered.removeAll(keepingCapacity: true)
  }

  private func write(_ bytes: UnsafeRawBufferPointer) throws(FilesProblem) {
    var rest = bytes
    while !rest.isEmpty {
      let count = pwrite(descriptor, rest.baseAddress!, rest.count, gatheredOffset)
      if count < 0 {
        if errno == EINTR { continue }
        throw problem(errno)
      }
      gatheredOffset += count
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
  }

  // MARK: Frames

  private func header(_ unit: some OpList, _ size: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Self.headerSizeBytes)
    bytes.append(Self.signature)
    bytes.append(UInt32(unit.count))
    bytes.append(UInt64(size))
    bytes.append(unit.timestampMs)
    bytes.append(unit.version)
    return bytes
  }

  private func opHeader(_ op: bp_op) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Self.opSizeBytes)
    bytes.append(op.verb)
    bytes.append(op.content)
    bytes.append(UInt32(op.uri.size))
    bytes.append(UInt32(0))
    bytes.append(op.isDelete ? 0 : op.data.size)
    return bytes
  }

  private func frame(_ unit: some OpList) -> (checksum: UInt64, size: Int) {
    var sum = end.checksum
    var size = 0
    for index in 0..<unit.count {
      let op = unit[index]
      sum = opHeader(op).withUnsafeBytes { Checksum.mix(sum, $0) }
      sum = Checksum.mix(sum, UnsafeRawBufferPointer(op.uri.bytes))
      size += Self.opSizeBytes + Int(op.uri.size)
      if op.isDelete { continue }
      sum = Checksum.mix(sum, UnsafeRawBufferPointer(op.data.bytes))
      size += Int(op.data.size)
    }
    return (header(unit, size).withUnsafeBytes { Checksum.mix(sum, $0) }, size)
  }
}

extension [UInt8] {
  fileprivate mutating func append(_ number: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: number.littleEndian) { append(contentsOf: $0) }
  }
}
