import JSONText
import NIOCore
import PluginAPI
import TransportSupport

/// From a message to the node.
extension WebSocketConnection {
  /// Answers the message, or submits its request to the node.
  func execute(_ message: ByteBuffer) {
    noteRequest()
    message.withUnsafeReadableBytesWithStorageManagement { bytes, storage in
      switch loop.scanner.scanRequest(bytes) {
      case .failure(let error) where error.kind == .tooDeep:
        close(.malformed, 1008, "\(error.description) (json_depth_max)")
      case .failure(let error): close(.malformed, 1007, error.description)
      case .success(nil): close(.malformed, 1007, "A message is a JSON object: {\"id\",\"type\",\"payload\"}.")
      case .success(.some(let frame)): execute(frame, message, storage)
      }
    }
  }

  private func execute(_ frame: RequestFrame, _ message: ByteBuffer, _ storage: Unmanaged<AnyObject>) {
    let id = frame.id?.bytes ?? Self.noID
    let kind = RequestKind(frame.type)
    loop.counters.requests[kind.rawValue] += 1
    guard admission.rights.isSuperset(of: kind.right) else { return fail(id, "The right to do this is missing.") }
    if let seconds = admission.meter?(), seconds > 0 {
      return fail(id, "Too many requests; wait \(seconds) s before sending more.")
    }
    switch kind {
    case .read: read(id, frame.payload)
    case .receive: receive(id, frame.payload, storage)
    case .delete: remove(id, frame.payload)
    case .list: list(id, frame.payload)
    case .readMulti: readMulti(id, frame.payload, message)
    case .health: answer(id, NodeReport(loop.table).healthObject())
    case .getSchema: answer(id, NodeReport.programs(loop.table))
    case .observe: observe(id, frame.payload)
    case .unobserve: unobserve(id, frame.payload)
    case .unknown: fail(id, "Unknown request type")
    }
  }

  /// A request without an id is answered with null.
  private static var noID: UnsafeRawBufferPointer {
    let text: StaticString = "null"
    return UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
  }

  // MARK: Submitting

  /// The header of a call to the node. Its views are valid during `body`.
  func withCallHeader<Value>(deadline: Bool, _ body: (inout bp_call) -> Value) -> Value {
    peer.withUnsafeBufferPointer { peer in
      var header = bp_call()
      header.size = .size(of: bp_call.self)
      if deadline { header.deadline_ns = coarseMonotonicNs() &+ UInt64(loop.limits.requestTimeoutMs) &* 1_000_000 }
      if admission.isForwarded { header.flags = BP_CALL_FORWARDED }
      header.peer = bp_view(peer)
      return body(&header)
    }
  }

  /// Submits one call. `body` gets the context for the completion, which it must pass on to exactly one call.
  private func submit(
    _ kind: RequestKind, _ id: UnsafeRawBufferPointer, uri: UnsafeRawBufferPointer, message: ByteBuffer? = nil,
    _ body: (NodeCall, UnsafeMutableRawPointer, inout bp_call) -> bp_token
  ) {
    let call = loop.takeCall()
    call.connection = self
    call.kind = kind
    call.idView = id
    call.uriView = uri
    call.message = message
    call.isSubmitting = true
    // Balanced by the completion, which comes exactly once.
    let token = withCallHeader(deadline: true) { body(call, Unmanaged.passRetained(call).toOpaque(), &$0) }
    if call.completedInline { return loop.recycle(call) }
    call.keep()
    call.token = token
    call.index = calls.count
    calls.append(call)
    loop.callBegan()
  }

  private static func take(_ context: UnsafeMutableRawPointer?) -> NodeCall {
    Unmanaged<NodeCall>.fromOpaque(context!).takeRetainedValue()
  }

  // MARK: Types

  private func read(_ id: UnsafeRawBufferPointer, _ payload: JSONSlice?) {
    guard let uri = uri(in: payload) else { return fail(id, Self.uriNeeded) }
    uri.withText(scratch: &loop.textScratch) { text in
      submit(.read, id, uri: uri.rawContent) { _, context, header in
        loop.table.node.pointee.read(
          loop.table.host.instance, &header, bp_view(text),
          bp_completion(
            context: context,
            complete: { context, result in
              let read = UnsafeRawPointer(result!).assumingMemoryBound(to: bp_read_result.self)
              WebSocketConnection.complete(context, { $0.answerRead($1, read) }, later: { .read(read) }) {
                $0.answerRead($1, $2.read)
              }
            }, chunk: nil))
      }
    }
  }

  private func remove(_ id: UnsafeRawBufferPointer, _ payload: JSONSlice?) {
    guard let uri = uri(in: payload) else { return fail(id, Self.uriNeeded) }
    uri.withText(scratch: &loop.textScratch) { text in
      submit(.delete, id, uri: uri.rawContent) { _, context, header in
        loop.table.node.pointee.remove(
          loop.table.host.instance, &header, bp_view(text), Self.writeCompletion(context))
      }
    }
  }

  private func receive(_ id: UnsafeRawBufferPointer, _ payload: JSONSlice?, _ storage: Unmanaged<AnyObject>) {
    let body = payload?.bytes ?? UnsafeRawBufferPointer(start: nil, count: 0)
    switch loop.scanner.scanMessage(body) {
    case .failure(let rejection): answerAccepted(id, error: rejection.text)
    case .success(let message):
      if message.dataMayBeBinary, let marked = BinaryMarker.find(in: message.data, needsEncoding: false) {
        var decoded: [UInt8] = []
        BinaryMarker.decode(marked, into: &decoded)
        submitReceive(id, message.uri, BP_CONTENT_BYTES, Self.owned(decoded))
      } else {
        // The node gets the bytes where they lie, and a reference that keeps them there.
        let data = message.data.bytes
        submitReceive(
          id, message.uri, BP_CONTENT_JSON,
          bp_buffer(
            data: data.baseAddress!.assumingMemoryBound(to: UInt8.self), size: UInt64(data.count),
            owner: storage.retain().toOpaque(),
            release: { Unmanaged<AnyObject>.fromOpaque($0!).release() }))
      }
    }
  }

  private func submitReceive(
    _ id: UnsafeRawBufferPointer, _ uri: JSONSlice, _ content: UInt32, _ data: bp_buffer
  ) {
    uri.withText(scratch: &loop.textScratch) { text in
      var request = bp_receive(size: .size(of: bp_receive.self), content: content, uri: bp_view(text), data: data)
      submit(.receive, id, uri: uri.rawContent) { _, context, header in
        loop.table.node.pointee.receive(
          loop.table.host.instance, &header, &request, Self.writeCompletion(context))
      }
    }
  }

  /// A copy that the receiver frees.
  private static func owned(_ bytes: [UInt8]) -> bp_buffer {
    let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, bytes.count))
    bytes.withUnsafeBufferPointer { if let start = $0.baseAddress { memory.update(from: start, count: $0.count) } }
    return bp_buffer(
      data: memory, size: UInt64(bytes.count), owner: memory,
      release: { $0!.assumingMemoryBound(to: UInt8.self).deallocate() })
  }

  private func list(_ id: UnsafeRawBufferPointer, _ payload: JSONSlice?) {
    guard let uri = uri(in: payload) else { return fail(id, Self.uriNeeded) }
    let options = ListOptions(payload?.member("options"))
    uri.withText(scratch: &loop.textScratch) { text in
      options.withPattern(scratch: &loop.patternScratch) { pattern in
        var request = bp_list(
          size: .size(of: bp_list.self), flags: options.flags, uri: bp_view(text), pattern: bp_view(pattern),
          sort: options.sort, reserved: 0, page: options.page, limit: options.limit)
        submit(.list, id, uri: uri.rawContent) { _, context, header in
          loop.table.node.pointee.list(
            loop.table.host.instance, &header, &request,
            bp_completion(
              context: context,
              complete: { context, result in
                let list = UnsafeRawPointer(result!).assumingMemoryBound(to: bp_list_result.self)
                WebSocketConnection.complete(context, { $0.answerList($1, list) }, later: { .list(list) }) {
                  $0.answerList($1, $2.list)
                }
              }, chunk: nil))
        }
      }
    }
  }

  private func readMulti(_ id: UnsafeRawBufferPointer, _ payload: JSONSlice?, _ message: ByteBuffer) {
    // One more than is allowed is not an error: the peer's answer to it counts the URIs.
    switch loop.scanner.scanURIs(payload?.bytes ?? UnsafeRawBufferPointer(start: nil, count: 0), countMax: 10_000) {
    case .failure(let rejection): fail(id, rejection.text)
    case .success(let uris) where uris.isEmpty || uris.count > MultiReadShape.urisCountMax:
      answer(id, MultiReadShape.refused(count: uris.count))
    case .success(let uris): submitMulti(id, uris, message)
    }
  }

  private func submitMulti(_ id: UnsafeRawBufferPointer, _ uris: [JSONSlice], _ message: ByteBuffer) {
    var joined: [UInt8] = []
    let ends = uris.map { uri in
      uri.appendText(to: &joined)
      return joined.count
    }
    joined.withUnsafeBufferPointer { all in
      var start = 0
      let views = ends.map { end in
        defer { start = end }
        return bp_view(UnsafeBufferPointer(rebasing: all[start..<end]))
      }
      let none = UnsafeRawBufferPointer(start: nil, count: 0)
      submit(.readMulti, id, uri: none, message: message) { call, context, header in
        // The collector stands in for the call: it holds it, so the reference that was meant for the call goes.
        Unmanaged<NodeCall>.fromOpaque(context).release()
        let multi = MultiRead(call, count: uris.count, sizeBytesMax: loop.limits.readMultiSizeBytesMax)
        return loop.table.node.pointee.read_multi(
          loop.table.host.instance, &header, views, UInt32(views.count),
          bp_completion(
            context: Unmanaged.passRetained(multi).toOpaque(),
            complete: { context, result in
              let multi = Unmanaged<MultiRead<NodeCall>>.fromOpaque(context!).takeRetainedValue()
              let call = Unmanaged.passRetained(multi.owner).toOpaque()
              WebSocketConnection.complete(call, { $0.answerMulti($1, multi, result!) }, later: { .plain(result!) }) {
                $0.answerMulti($1, multi, $2.plain)
              }
            },
            chunk: { context, chunk in
              let multi = Unmanaged<MultiRead<NodeCall>>.fromOpaque(context!).takeUnretainedValue()
              multi.take(UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_read_item.self))
            }))
      }
    }
  }

  // MARK: Completing

  private static func writeCompletion(_ context: UnsafeMutableRawPointer) -> bp_completion {
    bp_completion(
      context: context,
      complete: { context, result in
        let write = UnsafeRawPointer(result!).assumingMemoryBound(to: bp_write_result.self)
        WebSocketConnection.complete(context, { $0.answerWrite($1, write) }, later: { .write(write) }) {
          $0.answerWrite($1, $2.write)
        }
      }, chunk: nil)
  }

  /// Answers a completion: there and then when it runs inside `submit`, else with a copy on the loop. Any thread.
  @inline(__always)
  private static func complete(
    _ context: UnsafeMutableRawPointer?, _ inline: (WebSocketConnection, NodeCall) -> Void,
    later copy: () -> OwnedResult,
    _ answer: @escaping @Sendable (WebSocketConnection, NodeCall, OwnedResult) -> Void
  ) {
    let call = take(context)
    let connection = call.connection!
    let loop = connection.loop
    if loop.eventLoop.inEventLoop, call.isSubmitting, !call.completedInline {
      inline(connection, call)
      call.completedInline = true
      return
    }
    guard !loop.state.isStopped.load(ordering: .acquiring) else { return }
    let result = copy()
    loop.eventLoop.execute {
      connection.completed(call) { answer(connection, call, result) }
      result.free()
    }
  }

  // MARK: Payloads

  static let uriNeeded = "Invalid request format: expected a payload with a uri"

  private func uri(in payload: JSONSlice?) -> JSONSlice? {
    guard let uri = payload?.member("uri"), uri.kind == .string else { return nil }
    return uri
  }
}
