import PluginAPI

/// Writes the frames of one phase. Nothing waits here: the caller drains the writer when it is full.
struct StateEncoder {
  /// Data above this size is not copied into the writer's buffer by `put`: the caller writes it in pieces.
  static let dataAtOnceBytesMax = 64 << 10

  private let writer: StateWriter
  private var number: UInt64 = 0
  /// Where the put before stands in the order.
  private var path: [UInt64] = []

  init(_ writer: StateWriter) { self.writer = writer }

  mutating func begin(_ totals: RecordStore.Totals, nextSequence: UInt64) {
    var frame = StateFrame(.begin)
    frame.first = UInt64(totals.records)
    frame.second = UInt64(totals.sizeBytes)
    let signature = BorrowedBytes(
      start: StateFrame.signature.utf8Start, count: StateFrame.signature.utf8CodeUnitCount)
    withUnsafePointer(to: nextSequence) {
      append(frame, signature, own: UnsafeBufferPointer(start: $0, count: 1))
    }
  }

  mutating func delete(_ uri: BorrowedBytes) {
    path.removeAll(keepingCapacity: true)
    append(StateFrame(.delete), uri, own: UnsafeBufferPointer(start: nil, count: 0))
  }

  /// False: the record's data is large and still has to be written, all of it and at once after this.
  @inline(__always)
  mutating func put(_ record: RecordBlock, path own: UnsafeBufferPointer<UInt64>) -> Bool {
    let header = record.header
    let shared = path.withUnsafeBufferPointer { before in
      var count = 0
      let most = min(before.count, own.count)
      while count < most, before[count] == own[count] { count += 1 }
      return count
    }
    path.removeSubrange(shared...)
    path.append(contentsOf: own[shared...])
    var frame = StateFrame(.put)
    frame.content = header.content
    frame.first = header.timestampMs
    frame.second = header.version
    frame.levelsShared = UInt16(shared)
    return append(frame, record.key, own: UnsafeBufferPointer(rebasing: own[shared...]), data: record.data)
  }

  mutating func end(records: Int) {
    var frame = StateFrame(.end)
    frame.first = UInt64(records)
    append(frame, BorrowedBytes(start: nil, count: 0), own: UnsafeBufferPointer(start: nil, count: 0))
  }

  @inline(__always)
  @discardableResult
  private mutating func append(
    _ frame: StateFrame, _ uri: BorrowedBytes, own: UnsafeBufferPointer<UInt64>,
    data: BorrowedBytes = BorrowedBytes(start: nil, count: 0)
  ) -> Bool {
    var frame = frame
    frame.uriCount = UInt32(uri.count)
    frame.levelsOwn = UInt16(own.count)
    frame.dataCount = UInt64(data.count)
    let headCount = frame.headCount
    let isWhole = data.count <= Self.dataAtOnceBytesMax
    let number = number
    self.number += 1
    writer.append(headCount + (isWhole ? data.count : 0)) { raw in
      frame.store(into: raw)
      var offset = StateFrame.headerSizeBytes
      for sequence in own {
        raw.storeBytes(of: sequence.littleEndian, toByteOffset: offset, as: UInt64.self)
        offset += 8
      }
      if let base = uri.baseAddress { (raw.baseAddress! + offset).copyMemory(from: base, byteCount: uri.count) }
      if isWhole, let base = data.baseAddress {
        (raw.baseAddress! + headCount).copyMemory(from: base, byteCount: data.count)
      }
      let checksum = StateFrame.checksum(
        number, head: UnsafeRawBufferPointer(rebasing: raw[8..<headCount]), data: UnsafeRawBufferPointer(data))
      raw.storeBytes(of: checksum.littleEndian, toByteOffset: 0, as: UInt64.self)
    }
    return isWhole
  }
}
