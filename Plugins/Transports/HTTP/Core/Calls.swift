import JSONText
import NIOCore
import PluginAPI
import TransportSupport
import URIText

/// From a request to the node.
extension Connection {
  /// Answers the request, or submits it to the node: then `phase` is `inFlight` when this returns.
  func execute(_ request: Request) {
    current = request
    guard request.refusal == .none else {
      route = .refused
      loop.counters.requests[route.rawValue] += 1
      answerRefusal(request.refusal)
      return
    }
    let text = request.target
    text.utf8.withContiguousStorageIfAvailable { bytes in
      let target = RequestTarget(bytes, method: request.method)
      route = loop.route(of: target)
      loop.counters.requests[route.rawValue] += 1
      switch route {
      case .read: read(target)
      case .receive: receive()
      case .list: list(target)
      case .delete: remove(target)
      case .readMulti: readMulti()
      case .schema: answerSchema()
      case .health: answerHealth()
      case .live: answerJSON(200, "{\"status\":\"live\"}")
      case .ready: answerReady()
      case .metrics: answerMetrics()
      case .webSocket: openWebSocket()
      case .options: answerOptions()
      case .unrouted, .refused: answerText(404, "404 Not Found")
      }
    }
    if phase == .idle { release(&current) }
  }

  // MARK: Submitting

  /// Submits one call. `body` gets the context for the completion, which it must pass on to exactly one call.
  @inline(__always)
  private func submit(_ body: (UnsafeMutableRawPointer, inout bp_call) -> bp_token) {
    var call = bp_call()
    call.size = .size(of: bp_call.self)
    call.deadline_ns = coarseMonotonicNs() &+ UInt64(loop.limits.requestTimeoutMs) &* 1_000_000
    if let trace = current.trace {
      call.trace_id_high = trace.high
      call.trace_id_low = trace.low
      call.span_id = trace.span
    }
    if current.isForwarded { call.flags = BP_CALL_FORWARDED }
    if let key = current.key { (call.idempotency_key_high, call.idempotency_key_low) = key }
    call.peer = bp_view(data: UnsafePointer(peer.baseAddress), size: UInt64(peerCount))
    phase = .submitting
    completedInline = false
    // Balanced by the completion, which comes exactly once.
    let token = body(Unmanaged.passRetained(self).toOpaque(), &call)
    if completedInline {
      phase = .idle
    } else {
      phase = .inFlight
      self.token = token
      loop.callsOpen += 1
    }
  }

  /// Whether a completion runs inside `submit`, on the loop: then the answer is written there and then. Any thread.
  @inline(__always)
  private var isInline: Bool { loop.eventLoop.inEventLoop && phase == .submitting && !completedInline }

  /// Goes on with a copied result on the loop. Any thread.
  private func later(_ result: OwnedResult, _ answer: @escaping @Sendable (Connection, OwnedResult) -> Void) {
    guard !loop.shared.isStopped.load(ordering: .acquiring) else { return result.free() }
    loop.eventLoop.execute {
      self.completed { answer(self, result) }
      result.free()
    }
  }

  @inline(__always)
  private static func take(_ context: UnsafeMutableRawPointer?) -> Connection {
    Unmanaged<Connection>.fromOpaque(context!).takeRetainedValue()
  }

  // MARK: Routes

  private func read(_ target: RequestTarget) {
    guard let uri = normalForm(target) else { return answerNotFound() }
    submit { context, call in
      loop.table.node.pointee.read(
        loop.table.host.instance, &call, uri,
        bp_completion(
          context: context,
          complete: { context, result in
            let connection = Connection.take(context)
            let read = UnsafeRawPointer(result!).assumingMemoryBound(to: bp_read_result.self)
            if connection.isInline {
              connection.answerRead(read)
              connection.completedInline = true
            } else {
              connection.later(.read(read)) { $0.answerRead($1.read) }
            }
          }, chunk: nil))
    }
  }

  private func remove(_ target: RequestTarget) {
    guard let uri = normalForm(target) else { return answerNotFound() }
    submit { context, call in
      loop.table.node.pointee.remove(
        loop.table.host.instance, &call, uri, Self.writeCompletion(context))
    }
  }

  private func receive() {
    let body = current.body ?? ByteBuffer()
    body.withUnsafeReadableBytesWithStorageManagement { bytes, storage in
      switch loop.scanner.scanMessage(bytes) {
      case .failure(let rejection): answerFailure(400, rejection.text)
      case .success(let message):
        if message.dataMayBeBinary, let marked = BinaryMarker.find(in: message.data) {
          var decoded: [UInt8] = []
          BinaryMarker.decode(marked, into: &decoded)
          submitReceive(message.uri, BP_CONTENT_BYTES, Self.owned(decoded))
        } else {
          // The node gets the bytes where they lie, and a reference that keeps them there.
          let data = message.data.bytes
          submitReceive(
            message.uri, BP_CONTENT_JSON,
            bp_buffer(
              data: data.baseAddress!.assumingMemoryBound(to: UInt8.self), size: UInt64(data.count),
              owner: storage.retain().toOpaque(),
              release: { Unmanaged<AnyObject>.fromOpaque($0!).release() }))
        }
      }
    }
  }

  private func submitReceive(_ uri: JSONSlice, _ content: UInt32, _ data: bp_buffer) {
    uri.withText(scratch: &loop.textScratch) { text in
      var request = bp_receive(
        size: .size(of: bp_receive.self), content: content, uri: bp_view(text), data: data)
      submit { context, call in
        loop.table.node.pointee.receive(
          loop.table.host.instance, &call, &request, Self.writeCompletion(context))
      }
    }
  }

  private static func writeCompletion(_ context: UnsafeMutableRawPointer) -> bp_completion {
    bp_completion(
      context: context,
      complete: { context, result in
        let connection = Connection.take(context)
        let write = UnsafeRawPointer(result!).assumingMemoryBound(to: bp_write_result.self)
        if connection.isInline {
          connection.answerWrite(write)
          connection.completedInline = true
        } else {
          connection.later(.write(write)) { $0.answerWrite($1.write) }
        }
      }, chunk: nil)
  }

  /// A copy that the receiver frees.
  private static func owned(_ bytes: [UInt8]) -> bp_buffer {
    let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, bytes.count))
    bytes.withUnsafeBufferPointer { if let start = $0.baseAddress { memory.update(from: start, count: $0.count) } }
    return bp_buffer(
      data: memory, size: UInt64(bytes.count), owner: memory,
      release: { $0!.assumingMemoryBound(to: UInt8.self).deallocate() })
  }

  private func list(_ target: RequestTarget) {
    let parameters = ListParameters(target.query)
    guard let uri = normalForm(target) else {
      return answerEmptyList(page: parameters.page, limit: parameters.limit)
    }
    parameters.pattern.withView { pattern in
      var request = bp_list(
        size: .size(of: bp_list.self), flags: parameters.flags, uri: uri, pattern: pattern, sort: parameters.sort,
        reserved: 0, page: parameters.page, limit: parameters.limit)
      submit { context, call in
        loop.table.node.pointee.list(
          loop.table.host.instance, &call, &request,
          bp_completion(
            context: context,
            complete: { context, result in
              let connection = Connection.take(context)
              let list = UnsafeRawPointer(result!).assumingMemoryBound(to: bp_list_result.self)
              if connection.isInline {
                connection.answerList(list)
                connection.completedInline = true
              } else {
                connection.later(.list(list)) { $0.answerList($1.list) }
              }
            }, chunk: nil))
      }
    }
  }

  private func readMulti() {
    let body = current.body ?? ByteBuffer()
    body.withUnsafeReadableBytes { bytes in
      // One more than is allowed is not an error of the body: the peer's answer to it counts the URIs.
      switch loop.scanner.scanURIs(bytes, countMax: 10_000) {
      case .failure(let rejection): answerFailure(400, rejection.text)
      case .success(let uris) where uris.isEmpty || uris.count > MultiReadShape.urisCountMax:
        answerMultiRefused(count: uris.count)
      case .success(let uris): submitMulti(uris)
      }
    }
  }

  private func submitMulti(_ uris: [JSONSlice]) {
    let texts = uris.map { uri in
      var text: [UInt8] = []
      uri.appendText(to: &text)
      return text
    }
    let joined = texts.flatMap { $0 }
    let multi = MultiRead(self, count: uris.count, sizeBytesMax: loop.limits.readMultiSizeBytesMax)
    joined.withUnsafeBufferPointer { all in
      var start = 0
      let views = texts.map { text in
        defer { start += text.count }
        return bp_view(UnsafeBufferPointer(rebasing: all[start..<(start + text.count)]))
      }
      submit { context, call in
        // The collector stands in for the connection: it holds it, so the reference that was meant for the call goes.
        Unmanaged<Connection>.fromOpaque(context).release()
        return loop.table.node.pointee.read_multi(
          loop.table.host.instance, &call, views, UInt32(views.count),
          bp_completion(
            context: Unmanaged.passRetained(multi).toOpaque(),
            complete: { context, result in
              let multi = Unmanaged<MultiRead<Connection>>.fromOpaque(context!).takeRetainedValue()
              let connection = multi.owner
              if connection.isInline {
                connection.answerMulti(multi, result!)
                connection.completedInline = true
              } else {
                connection.later(.plain(result!)) { $0.answerMulti(multi, $1.plain) }
              }
            },
            chunk: { context, chunk in
              let multi = Unmanaged<MultiRead<Connection>>.fromOpaque(context!).takeUnretainedValue()
              multi.take(UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_read_item.self))
            }))
      }
    }
  }

  // MARK: URIs

  /// The normal form of the record's URI, in the loop's scratch memory; nil when the path is none.
  private func normalForm(_ target: RequestTarget) -> bp_view? {
    switch URIText.fromPath(scheme: target.scheme, domain: target.domain, rest: target.rest, into: loop.uriScratch) {
    case .written(let length, _):
      bp_view(data: UnsafePointer(loop.uriScratch.baseAddress), size: UInt64(length))
    case .unchanged, .invalid, .tooLong: nil
    }
  }

  /// The URI of the current request, for error texts: its normal form, or what the path says when it has none.
  func currentURI() -> [UInt8] {
    current.target.utf8.withContiguousStorageIfAvailable { bytes in
      let target = RequestTarget(bytes, method: current.method)
      if let uri = normalForm(target) { return uri.array }
      return Array(target.scheme) + Array("://".utf8) + Array(target.domain) + Array(target.rest)
    } ?? []
  }

  /// The Content-Type for bytes at the current request's URI.
  func currentMediaType() -> StaticString {
    current.target.utf8.withContiguousStorageIfAvailable { bytes in
      MediaType.of(RequestTarget(bytes, method: current.method).tail)
    } ?? MediaType.unknown
  }
}
