import BackendSupport
import Glibc
import PluginAPI

/// What the log says about one record in the end.
struct LoggedRecord {
  var op: LoggedOp
  /// The modification times that units in the log gave the record's file, this one's included.
  var times: [timespec]
}

struct LoggedOp {
  var isDelete: Bool
  var content: Content
  var stamp: Stamp
  /// Where the data is in the log.
  var dataOffset: Int
  var dataSizeBytes: Int
}

extension RedoLog {
  /// Reads the log as a crash left it, sets its end, and gives what it says of each record in the end.
  func readAll() throws(FilesProblem) -> [[UInt8]: LoggedRecord] {
    var records: [[UInt8]: LoggedRecord] = [:]
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw problem(errno, "reading") }
    let size = Int(status.st_size)
    var mark = Mark()
    while let header = try header(at: mark.offset, size) {
      let start = mark.offset + Self.headerSizeBytes
      let body = try read(start, header.size)
      guard let ops = ops(in: body, at: start, header, seed: mark.checksum) else { break }
      for (uri, op) in ops {
        let times = records[uri]?.times ?? []
        records[uri] = LoggedRecord(op: op, times: times + [op.stamp.time])
      }
      mark = Mark(offset: start + header.size, checksum: header.checksum)
    }
    resume(at: mark)
    return records
  }

  /// The data of an op.
  func data(of op: LoggedOp) throws(FilesProblem) -> [UInt8] { try read(op.dataOffset, op.dataSizeBytes) }

  private struct Header {
    var checksum: UInt64
    var bytes: [UInt8]
    var count: Int
    var size: Int
    var stamp: Stamp
  }

  private func header(at offset: Int, _ fileSize: Int) throws(FilesProblem) -> Header? {
    guard fileSize - offset >= Self.headerSizeBytes else { return nil }
    let bytes = try read(offset, Self.headerSizeBytes)
    guard bytes.number(at: 8, UInt32.self) == Self.signature else { return nil }
    let size = bytes.number(at: 16, UInt64.self)
    guard size <= UInt64(fileSize - offset - Self.headerSizeBytes) else { return nil }
    return Header(
      checksum: bytes.number(at: 0, UInt64.self), bytes: Array(bytes[8...]),
      count: Int(bytes.number(at: 12, UInt32.self)), size: Int(size),
      stamp: Stamp(timestampMs: bytes.number(at: 24, UInt64.self), version: bytes.number(at: 32, UInt64.self)))
  }

  /// nil: the frame is not whole.
  private func ops(in body: [UInt8], at start: Int, _ header: Header, seed: UInt64) -> [(uri: [UInt8], op: LoggedOp)]? {
    var ops: [(uri: [UInt8], op: LoggedOp)] = []
    var sum = seed
    var offset = 0
    func mix(_ range: Range<Int>) { sum = body.withUnsafeBytes { Checksum.mix(sum, .init(rebasing: $0[range])) } }
    for _ in 0..<header.count {
      guard body.count - offset >= Self.opSizeBytes else { return nil }
      let isDelete = body.number(at: offset, UInt32.self) == BP_VERB_DELETE
      let content = Content(rawValue: body.number(at: offset + 4, UInt32.self)) ?? .bytes
      let uriSize = Int(body.number(at: offset + 8, UInt32.self))
      let rest = body.count - offset - Self.opSizeBytes - uriSize
      let dataSize = body.number(at: offset + 16, UInt64.self)
      guard rest >= 0, dataSize <= UInt64(rest) else { return nil }
      mix(offset..<(offset + Self.opSizeBytes))
      offset += Self.opSizeBytes
      mix(offset..<(offset + uriSize))
      let uri = Array(body[offset..<(offset + uriSize)])
      offset += uriSize
      if !isDelete { mix(offset..<(offset + Int(dataSize))) }
      ops.append(
        (
          uri,
          LoggedOp(
            isDelete: isDelete, content: content, stamp: header.stamp, dataOffset: start + offset,
            dataSizeBytes: Int(dataSize))
        ))
      offset += Int(dataSize)
    }
    sum = header.bytes.withUnsafeBytes { Checksum.mix(sum, $0) }
    return offset == body.count && sum == header.checksum ? ops : nil
  }

  private func read(_ offset: Int, _ size: Int) throws(FilesProblem) -> [UInt8] {
    var error: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      while count < size {
        let got = pread(descriptor, buffer.baseAddress! + count, size - count, off_t(offset + count))
        if got < 0, errno == EINTR { continue }
        if got <= 0 {
          error = got < 0 ? errno : EIO
          return
        }
        count += got
      }
    }
    if error != 0 { throw problem(error, "reading") }
    return bytes
  }
}

extension [UInt8] {
  fileprivate func number<N: FixedWidthInteger>(at offset: Int, _ type: N.Type) -> N {
    withUnsafeBytes { N(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: N.self)) }
  }
}
