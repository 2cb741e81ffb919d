import BackplaneABI
import Glibc

/// Where the views of a message lie, so that a verdict that points into it need not carry it back.
public struct MessageViews: Sendable {
  // The pointers are compared and measured from; whoever owns the message follows them.
  public nonisolated(unsafe) var uri: bp_view
  public nonisolated(unsafe) var uriReceived: bp_view
  public nonisolated(unsafe) var data: bp_view

  public init(_ message: UnsafePointer<bp_message>) {
    uri = message.pointee.uri
    uriReceived = message.pointee.uri_received
    data = message.pointee.data
  }

  public init() {
    uri = bp_view()
    uriReceived = bp_view()
    data = bp_view()
  }

  fileprivate func view(_ part: UInt32) -> bp_view? {
    switch part {
    case 1: uri
    case 2: uriReceived
    case 3: data
    default: nil
    }
  }

  /// Which part holds `view`, and from where.
  @inline(__always)
  fileprivate func part(holding inner: bp_view) -> (part: UInt32, offset: UInt32)? {
    guard inner.size > 0, let start = inner.data else { return nil }
    for part: UInt32 in [3, 1, 2] {
      let whole = view(part)!
      guard let begin = whole.data, start >= begin, start + Int(inner.size) <= begin + Int(whole.size) else { continue }
      return (part, UInt32(start - begin))
    }
    return nil
  }
}

extension Connection {
  /// A plugin completed `token`. `shape` is what its kind of call is completed with; a result that is too short for it
  /// counts as a bare one. `message`: what a verdict may point into.
  public func sendCompleted(
    _ token: bp_token, _ shape: ResultShape, _ result: UnsafePointer<bp_result>, message: MessageViews? = nil
  ) -> Outcome {
    sendResult(.completed, token, shape, result, message)
  }

  /// The node completed a call of the plugin's.
  public func sendNodeCompleted(_ id: UInt64, _ shape: ResultShape, _ result: UnsafePointer<bp_result>) -> Outcome {
    sendResult(.nodeCompleted, id, shape, result, nil)
  }

  private func sendResult(
    _ kind: FrameKind, _ id: UInt64, _ shape: ResultShape, _ result: UnsafePointer<bp_result>, _ message: MessageViews?
  ) -> Outcome {
    let raw = UnsafeRawPointer(result)
    func holds<T>(_ type: T.Type) -> Bool { Int(result.pointee.size) >= MemoryLayout<T>.size }
    switch shape {
    case .write where holds(bp_write_result.self):
      return send(kind, id, WriteResultPayload(raw.assumingMemoryBound(to: bp_write_result.self)), isUrgent: true)
    case .read where holds(bp_read_result.self):
      return send(kind, id, ReadResultPayload(raw.assumingMemoryBound(to: bp_read_result.self)), isUrgent: true)
    case .scan where holds(bp_scan_result.self):
      return send(kind, id, ScanResultPayload(raw.assumingMemoryBound(to: bp_scan_result.self)), isUrgent: true)
    case .query where holds(bp_query_result.self):
      return send(kind, id, QueryResultPayload(raw.assumingMemoryBound(to: bp_query_result.self)), isUrgent: true)
    case .verdict where holds(bp_verdict.self):
      return send(
        kind, id, VerdictPayload(raw.assumingMemoryBound(to: bp_verdict.self), message ?? MessageViews()),
        isUrgent: true)
    case .list where holds(bp_list_result.self):
      return send(kind, id, ListResultPayload(raw.assumingMemoryBound(to: bp_list_result.self)), isUrgent: true)
    case .proposal where holds(bp_proposal_result.self):
      return send(
        kind, id, ProposalResultPayload(raw.assumingMemoryBound(to: bp_proposal_result.self)), isUrgent: true)
    default:
      return send(kind, id, PlainResultPayload(result), isUrgent: true)
    }
  }
}

private struct PlainResultPayload: WirePayload {
  let result: UnsafePointer<bp_result>
  init(_ result: UnsafePointer<bp_result>) { self.result = result }

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(ResultShape.plain.rawValue)
    sink.put(result.pointee)
  }
}

private struct ProposalResultPayload: WirePayload {
  let result: UnsafePointer<bp_proposal_result>
  init(_ result: UnsafePointer<bp_proposal_result>) { self.result = result }

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(ResultShape.proposal.rawValue)
    sink.put(result.pointee.result)
    sink.put(result.pointee.receipt)
    sink.put(result.pointee.generation)
  }
}

private struct WriteResultPayload: WirePayload {
  let result: UnsafePointer<bp_write_result>
  init(_ result: UnsafePointer<bp_write_result>) { self.result = result }

  @inline(__always)
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(ResultShape.write.rawValue)
    sink.put(result.pointee.result)
    sink.put(result.pointee.durability)
    sink.put(result.pointee.absent_count)
    sink.put(result.pointee.failed_op)
    sink.put(result.pointee.ts_ms)
  }
}

private struct ReadResultPayload: WirePayload {
  let result: UnsafePointer<bp_read_result>
  init(_ result: UnsafePointer<bp_read_result>) { self.result = result }

  @inline(__always)
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(ResultShape.read.rawValue)
    sink.put(result.pointee.result)
    sink.put(result.pointee.record)
  }
}

extension WireSink {
  @inline(__always)
  mutating func put(_ record: bp_record) {
    put(record.content)
    put(record.ts_ms)
    put(record.version)
    put(record.data)
  }
}

private struct ScanResultPayload: WirePayload {
  let result: UnsafePointer<bp_scan_result>
  init(_ result: UnsafePointer<bp_scan_result>) { self.result = result }

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(ResultShape.scan.rawValue)
    sink.put(result.pointee.result)
    sink.put(items: result.pointee.items, result.pointee.items_count, result.pointee.item_size)
    sink.put(result.pointee.cursor)
  }

  static let itemBytesMin = 32
}

private struct QueryResultPayload: WirePayload {
  let result: UnsafePointer<bp_query_result>
  init(_ result: UnsafePointer<bp_query_result>) { self.result = result }

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(ResultShape.query.rawValue)
    sink.put(result.pointee.result)
    sink.put(items: result.pointee.items, result.pointee.items_count, result.pointee.item_size)
    sink.put(result.pointee.total)
  }
}

extension WireSink {
  fileprivate mutating func put(items: UnsafePointer<bp_scan_item>?, _ count: UInt32, _ stride: UInt32) {
    // A result without items may leave the stride out.
    guard let items, Int(stride) >= MemoryLayout<bp_scan_item>.size else { return put(UInt32(0)) }
    put(count)
    for index in 0..<Int(count) {
      let item = UnsafeRawPointer(items).loadUnaligned(fromByteOffset: index * Int(stride), as: bp_scan_item.self)
      put(item.uri)
      put(item.ts_ms)
      put(item.version)
      put(item.size_bytes)
      put(item.content)
    }
  }
}

private struct VerdictPayload: WirePayload {
  let verdict: UnsafePointer<bp_verdict>
  let message: MessageViews
  init(_ verdict: UnsafePointer<bp_verdict>, _ message: MessageViews) {
    self.verdict = verdict
    self.message = message
  }

  @inline(__always)
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(ResultShape.verdict.rawValue)
    sink.put(verdict.pointee.result)
    let stride = Int(verdict.pointee.ops?.pointee.size ?? 0)
    let count = stride >= MemoryLayout<bp_op>.size ? verdict.pointee.ops_count : 0
    sink.put(count)
    for index in 0..<Int(count) {
      let op = UnsafeRawPointer(verdict.pointee.ops!).loadUnaligned(fromByteOffset: index * stride, as: bp_op.self)
      sink.put(op.verb)
      sink.put(op.condition)
      sink.put(op.content)
      sink.put(op.flags)
      sink.put(op.if_version)
      put(op.uri, into: &sink)
      put(op.data, into: &sink)
      sink.put(op.refusal)
    }
  }

  /// The part of the message, or 0 and the bytes.
  @inline(__always)
  private func put<Sink: WireSink>(_ view: bp_view, into sink: inout Sink) {
    if let (part, offset) = message.part(holding: view) {
      sink.put(part)
      sink.put(offset)
      sink.put(UInt32(truncatingIfNeeded: view.size))
    } else {
      sink.put(UInt32(0))
      sink.put(view)
    }
  }

  static let opBytesMin = 44
}

private struct ListResultPayload: WirePayload {
  let result: UnsafePointer<bp_list_result>
  init(_ result: UnsafePointer<bp_list_result>) { self.result = result }

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(ResultShape.list.rawValue)
    sink.put(result.pointee.result)
    let count = result.pointee.uris == nil ? 0 : result.pointee.uris_count
    sink.put(UInt32(truncatingIfNeeded: count))
    for index in 0..<Int(count) { sink.put(result.pointee.uris[index]) }
    sink.put(result.pointee.total)
    sink.put(result.pointee.page)
    sink.put(result.pointee.limit)
  }
}

/// Results as they were received.
public enum ReceivedResult {
  /// Calls `body` with the result that `payload` holds; false, without calling it, when that breaks the rules or is not
  /// of `expected` shape (or plain, which any call may be completed with). The result is large enough for `expected` in
  /// any case. `message`: what a verdict's views may refer to; nil when the call is not known any more.
  public static func with(
    _ payload: UnsafeRawBufferPointer, expected: ResultShape, message: MessageViews?,
    _ body: (UnsafePointer<bp_result>) -> Void
  ) -> Bool {
    var reader = WireReader(payload)
    guard let shape = ResultShape(rawValue: reader.u32()), shape == expected || shape == .plain else { return false }
    switch expected {
    case .plain:
      let result = reader.result(of: bp_result.self)
      guard reader.isWhole else { return false }
      withUnsafePointer(to: result, body)
      return true
    case .write:
      var result = bp_write_result()
      result.result = reader.result(of: bp_write_result.self)
      if shape == expected {
        result.durability = reader.u32()
        result.absent_count = reader.u32()
        result.failed_op = reader.u32()
        result.ts_ms = reader.u64()
      }
      guard accept(shape, expected, reader, &result.result) else { return false }
      lend(&result, body)
      return true
    case .read:
      var result = bp_read_result()
      result.result = reader.result(of: bp_read_result.self)
      result.record.size = UInt32(MemoryLayout<bp_record>.size)
      if shape == expected { result.record = reader.record() }
      guard accept(shape, expected, reader, &result.result) else { return false }
      lend(&result, body)
      return true
    case .scan: return scan(&reader, shape, body)
    case .query: return query(&reader, shape, body)
    case .verdict: return verdict(&reader, shape, message, body)
    case .list: return list(&reader, shape, body)
    case .proposal:
      var result = bp_proposal_result()
      result.result = reader.result(of: bp_proposal_result.self)
      if shape == expected {
        result.receipt = reader.u64()
        result.generation = reader.u64()
      }
      guard accept(shape, expected, reader, &result.result) else { return false }
      lend(&result, body)
      return true
    }
  }

  /// Success needs the whole struct: a bare BP_OK is made a failure.
  @inline(__always)
  private static func accept(
    _ shape: ResultShape, _ expected: ResultShape, _ reader: WireReader, _ result: inout bp_result
  ) -> Bool {
    if shape != expected, result.code == BP_OK { result.code = BP_INTERNAL }
    return reader.isWhole
  }

  @inline(__always)
  private static func lend<T>(_ value: inout T, _ body: (UnsafePointer<bp_result>) -> Void) {
    withUnsafePointer(to: &value) { body(UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self)) }
  }

  private static func scan(
    _ reader: inout WireReader, _ shape: ResultShape, _ body: (UnsafePointer<bp_result>) -> Void
  ) -> Bool {
    var result = bp_scan_result()
    result.result = reader.result(of: bp_scan_result.self)
    let items = items(&reader, isThere: shape == .scan)
    defer { items.deallocate() }
    result.items = UnsafePointer(items.baseAddress)
    result.items_count = UInt32(items.count)
    result.item_size = UInt32(MemoryLayout<bp_scan_item>.stride)
    if shape == .scan { result.cursor = reader.view() }
    guard accept(shape, .scan, reader, &result.result) else { return false }
    lend(&result, body)
    return true
  }

  private static func query(
    _ reader: inout WireReader, _ shape: ResultShape, _ body: (UnsafePointer<bp_result>) -> Void
  ) -> Bool {
    var result = bp_query_result()
    result.result = reader.result(of: bp_query_result.self)
    let items = items(&reader, isThere: shape == .query)
    defer { items.deallocate() }
    result.items = UnsafePointer(items.baseAddress)
    result.items_count = UInt32(items.count)
    result.item_size = UInt32(MemoryLayout<bp_scan_item>.stride)
    if shape == .query { result.total = reader.u64() }
    guard accept(shape, .query, reader, &result.result) else { return false }
    lend(&result, body)
    return true
  }

  /// The caller deallocates them.
  private static func items(_ reader: inout WireReader, isThere: Bool) -> UnsafeMutableBufferPointer<bp_scan_item> {
    let count = isThere ? reader.count(bytesEach: ScanResultPayload.itemBytesMin) : 0
    let items = UnsafeMutableBufferPointer<bp_scan_item>.allocate(capacity: count)
    for index in 0..<count {
      var item = bp_scan_item()
      item.uri = reader.view()
      item.ts_ms = reader.u64()
      item.version = reader.u64()
      item.size_bytes = reader.u64()
      item.content = reader.u32()
      items.initializeElement(at: index, to: item)
    }
    return items
  }

  private static func verdict(
    _ reader: inout WireReader, _ shape: ResultShape, _ message: MessageViews?,
    _ body: (UnsafePointer<bp_result>) -> Void
  ) -> Bool {
    var verdict = bp_verdict()
    verdict.result = reader.result(of: bp_verdict.self)
    let count = shape == .verdict ? reader.count(bytesEach: VerdictPayload.opBytesMin) : 0
    // Nearly every verdict is one op.
    return withUnsafeTemporaryAllocation(of: bp_op.self, capacity: max(1, count)) { ops in
      var isKnown = true
      func view(_ reader: inout WireReader) -> bp_view {
        let part = reader.u32()
        guard part != 0 else { return reader.view() }
        let offset = UInt64(reader.u32())
        let size = UInt64(reader.u32())
        guard let message, let whole = message.view(part), let start = whole.data, offset <= whole.size,
          size <= whole.size - offset
        else {
          isKnown = false
          return bp_view()
        }
        return bp_view(data: start + Int(offset), size: size)
      }
      for index in 0..<count {
        var op = bp_op()
        op.size = UInt32(MemoryLayout<bp_op>.size)
        op.verb = reader.u32()
        op.condition = reader.u32()
        op.content = reader.u32()
        op.flags = reader.u32()
        op.if_version = reader.u64()
        op.uri = view(&reader)
        op.data = view(&reader)
        op.refusal = reader.view()
        ops.baseAddress!.advanced(by: index).initialize(to: op)
      }
      verdict.ops = UnsafePointer(ops.baseAddress!)
      verdict.ops_count = UInt32(count)
      guard accept(shape, .verdict, reader, &verdict.result), isKnown else { return false }
      lend(&verdict, body)
      return true
    }
  }

  private static func list(
    _ reader: inout WireReader, _ shape: ResultShape, _ body: (UnsafePointer<bp_result>) -> Void
  ) -> Bool {
    var result = bp_list_result()
    result.result = reader.result(of: bp_list_result.self)
    let count = shape == .list ? reader.count(bytesEach: 4) : 0
    let uris = UnsafeMutablePointer<bp_view>.allocate(capacity: max(1, count))
    defer { uris.deallocate() }
    for index in 0..<count { (uris + index).initialize(to: reader.view()) }
    result.uris = UnsafePointer(uris)
    result.uris_count = UInt64(count)
    if shape == .list {
      result.total = reader.u64()
      result.page = reader.u64()
      result.limit = reader.u64()
    }
    guard accept(shape, .list, reader, &result.result) else { return false }
    lend(&result, body)
    return true
  }
}

extension WireReader {
  @inline(__always)
  mutating func record() -> bp_record {
    var record = bp_record()
    record.size = UInt32(MemoryLayout<bp_record>.size)
    record.content = u32()
    record.ts_ms = u64()
    record.version = u64()
    record.data = view()
    return record
  }
}
