/// A stream of records, for whoever keeps them as values: URI by URI, each with its record or with the word that it is
/// gone. A plugin that needs another format writes bytes.
///
/// One record is 29 bytes of header - size of the URI (u32), what follows (u8: 0 gone, 1 JSON, 2 bytes), ts_ms, version
/// and size of the data (u64 each), all little-endian - then the URI and the data.
extension StateWriter {
  /// Writes one record; nil: there is none (any more) at this URI.
  public func write(_ uri: String, _ record: Record?) async throws {
    var head: [UInt8] = []
    head.reserveCapacity(StateRecords.headSizeBytes + uri.utf8.count)
    func add<Number: FixedWidthInteger>(_ number: Number) {
      withUnsafeBytes(of: number.littleEndian) { head.append(contentsOf: $0) }
    }
    add(UInt32(uri.utf8.count))
    add(record.map { $0.content == .json ? StateRecords.json : StateRecords.bytes } ?? StateRecords.gone)
    add(record?.timestampMs ?? 0)
    add(record?.version ?? 0)
    add(UInt64(record?.data.count ?? 0))
    head.append(contentsOf: uri.utf8)
    try await write(head)
    if let record { try await write(record.data) }
  }
}

extension StateReader {
  /// The next URI and what is there: a record, or nil when it is gone. nil at the end of the phase. Throws a `Failure`
  /// when the stream is torn or not one of records.
  public func nextRecord() async throws -> (uri: String, record: Record?)? {
    guard let head = try await read(StateRecords.headSizeBytes) else { return nil }
    func number<Number: FixedWidthInteger>(_ offset: Int, _ type: Number.Type) -> Number {
      head.withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: type)) }
    }
    let (uriCount, kind, dataCount) = (number(0, UInt32.self), head[4], number(21, UInt64.self))
    guard uriCount > 0, uriCount <= StateRecords.uriBytesMax, kind <= StateRecords.bytes,
      dataCount <= (kind == StateRecords.gone ? 0 : StateRecords.dataBytesMax),
      let uri = try await read(Int(uriCount)).flatMap({ String(validating: $0, as: UTF8.self) }),
      let data = try await read(Int(dataCount))
    else { throw Failure(code: BP_DATA_LOSS, "the state is torn, or it is no stream of records") }
    guard kind != StateRecords.gone else { return (uri, nil) }
    let record = Record(
      data: data, content: kind == StateRecords.json ? .json : .bytes, timestampMs: number(5, UInt64.self),
      version: number(13, UInt64.self))
    return (uri, record)
  }
}

private enum StateRecords {
  static let headSizeBytes = 29
  static let gone: UInt8 = 0
  static let json: UInt8 = 1
  static let bytes: UInt8 = 2
  // More is a misread number.
  static let uriBytesMax: UInt32 = 1 << 24
  static let dataBytesMax: UInt64 = 1 << 40
}
