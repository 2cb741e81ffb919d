import BackplaneABI

// What a plugin asks of the node. The frame's id is the caller's name for the call; its end comes as `nodeCompleted`.

extension Connection {
  public func sendNodeReceive(_ id: UInt64, _ call: bp_call, _ request: UnsafePointer<bp_receive>) -> Outcome {
    send(.nodeReceive, id, NodeReceivePayload(call: call, request: request), isUrgent: false)
  }

  public func sendNodeRead(_ id: UInt64, _ call: bp_call, _ uri: bp_view) -> Outcome {
    send(.nodeRead, id, NodeURIPayload(call: call, uri: uri), isUrgent: false)
  }

  public func sendNodeRemove(_ id: UInt64, _ call: bp_call, _ uri: bp_view) -> Outcome {
    send(.nodeRemove, id, NodeURIPayload(call: call, uri: uri), isUrgent: false)
  }

  public func sendNodeReadMulti(
    _ id: UInt64, _ call: bp_call, _ uris: UnsafePointer<bp_view>?, _ count: UInt32
  ) -> Outcome {
    send(.nodeReadMulti, id, NodeReadMultiPayload(call: call, uris: uris, count: count), isUrgent: false)
  }

  public func sendNodeList(_ id: UInt64, _ call: bp_call, _ request: UnsafePointer<bp_list>) -> Outcome {
    send(.nodeList, id, NodeListPayload(call: call, request: request), isUrgent: false)
  }

  /// Asks to be woken at `dueNs` (CLOCK_MONOTONIC).
  public func sendNodeTimer(_ id: UInt64, dueNs: UInt64) -> Outcome {
    send(.nodeTimer, id, NumberPayload(value: dueNs), isUrgent: false)
  }

  /// A configuration of the node that a service proposes.
  public func sendNodePropose(_ id: UInt64, flags: UInt32, json: bp_view) -> Outcome {
    send(.nodePropose, id, NodeProposePayload(flags: flags, json: json), isUrgent: false)
  }

  @discardableResult
  public func sendCancelNode(_ id: UInt64) -> Outcome { send(.cancelNode, id, NoPayload(), isUrgent: true) }

  /// One answer of a read of many.
  @discardableResult
  public func sendNodeItem(_ id: UInt64, _ item: UnsafePointer<bp_read_item>) -> Outcome {
    send(.nodeChunk, id, NodeItemPayload(item: item), isUrgent: true)
  }

  /// A chunk that a plugin emits for `token`.
  public func sendChunk(_ token: bp_token, _ chunk: UnsafePointer<bp_chunk>) -> Outcome {
    send(.chunk, token, ChunkPayload(chunk: chunk), isUrgent: true)
  }
}

private struct NodeReceivePayload: WirePayload {
  let call: bp_call
  let request: UnsafePointer<bp_receive>

  @inline(__always)
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(call)
    sink.put(request.pointee.content)
    sink.put(request.pointee.uri)
    sink.put(bp_view(data: request.pointee.data.data, size: request.pointee.data.size))
  }
}

private struct NodeProposePayload: WirePayload {
  let flags: UInt32
  let json: bp_view

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(flags)
    sink.put(json)
  }
}

private struct NodeURIPayload: WirePayload {
  let call: bp_call
  let uri: bp_view

  @inline(__always)
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(call)
    sink.put(uri)
  }
}

private struct NodeReadMultiPayload: WirePayload {
  let call: bp_call
  let uris: UnsafePointer<bp_view>?
  let count: UInt32

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(call)
    sink.put(count)
    for index in 0..<Int(count) { sink.put(uris![index]) }
  }
}

private struct NodeListPayload: WirePayload {
  let call: bp_call
  let request: UnsafePointer<bp_list>

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(call)
    sink.put(request.pointee.flags)
    sink.put(request.pointee.sort)
    sink.put(request.pointee.page)
    sink.put(request.pointee.limit)
    sink.put(request.pointee.uri)
    sink.put(request.pointee.pattern)
  }
}

private struct NodeItemPayload: WirePayload {
  let item: UnsafePointer<bp_read_item>

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(item.pointee.index)
    sink.put(item.pointee.read.pointee.result)
    sink.put(item.pointee.read.pointee.record)
  }
}

private struct ChunkPayload: WirePayload {
  let chunk: UnsafePointer<bp_chunk>

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(chunk.pointee.count)
    sink.put(chunk.pointee.bytes)
  }
}

/// What a plugin asks of the node, as it was received. Views point into the payload. Each answers nil when the payload
/// breaks the rules.
public enum ReceivedNodeCall {
  public static func proposal(_ payload: UnsafeRawBufferPointer) -> bp_proposal? {
    var reader = WireReader(payload)
    let flags = reader.u32()
    let json = reader.view()
    guard reader.isWhole else { return nil }
    return bp_proposal(size: UInt32(MemoryLayout<bp_proposal>.size), flags: flags, json: json)
  }

  public static func receive(_ payload: UnsafeRawBufferPointer) -> (
    call: bp_call, content: UInt32, uri: bp_view, data: bp_view
  )? {
    var reader = WireReader(payload)
    let received = (reader.call(), reader.u32(), reader.view(), reader.view())
    return reader.isWhole ? received : nil
  }

  /// A read or a removal.
  public static func uri(_ payload: UnsafeRawBufferPointer) -> (call: bp_call, uri: bp_view)? {
    var reader = WireReader(payload)
    let received = (reader.call(), reader.view())
    return reader.isWhole ? received : nil
  }

  public static func readMulti(_ payload: UnsafeRawBufferPointer) -> (call: bp_call, uris: [bp_view])? {
    var reader = WireReader(payload)
    let call = reader.call()
    let uris = (0..<reader.count(bytesEach: 4)).map { _ in reader.view() }
    return reader.isWhole ? (call, uris) : nil
  }

  public static func list(_ payload: UnsafeRawBufferPointer) -> (call: bp_call, request: bp_list)? {
    var reader = WireReader(payload)
    let call = reader.call()
    var request = bp_list()
    request.size = UInt32(MemoryLayout<bp_list>.size)
    request.flags = reader.u32()
    request.sort = reader.u32()
    request.page = reader.u64()
    request.limit = reader.u64()
    request.uri = reader.view()
    request.pattern = reader.view()
    return reader.isWhole ? (call, request) : nil
  }

  /// One answer of a read of many, valid during `body`.
  public static func item(
    _ payload: UnsafeRawBufferPointer, _ body: (UnsafePointer<bp_read_item>) -> Void
  ) -> Bool {
    var reader = WireReader(payload)
    var item = bp_read_item()
    item.chunk.size = UInt32(MemoryLayout<bp_read_item>.size)
    item.chunk.count = 1
    item.index = reader.u32()
    var read = bp_read_result()
    read.result = reader.result(of: bp_read_result.self)
    read.record = reader.record()
    guard reader.isWhole else { return false }
    withUnsafePointer(to: &read) {
      item.read = $0
      body(&item)
    }
    return true
  }

  /// A chunk of a stream, valid during `body`.
  public static func chunk(_ payload: UnsafeRawBufferPointer, _ body: (UnsafePointer<bp_chunk>) -> Void) -> Bool {
    var reader = WireReader(payload)
    var chunk = bp_chunk()
    chunk.size = UInt32(MemoryLayout<bp_chunk>.size)
    chunk.count = reader.u32()
    chunk.bytes = reader.view()
    guard reader.isWhole else { return false }
    body(&chunk)
    return true
  }

  /// A payload that is one number: credits, connections.
  public static func number(_ payload: UnsafeRawBufferPointer) -> UInt64? {
    var reader = WireReader(payload)
    let number = reader.u64()
    return reader.isWhole ? number : nil
  }
}
