import BackplaneABI

// What the kernel asks of a plugin, as payloads. One call is one frame; the frame's id is the call's token.

extension Connection {
  public func sendApply(_ unit: UnsafePointer<bp_unit>) -> Outcome {
    send(.apply, unit.pointee.token, UnitPayload(unit: unit), isUrgent: false)
  }

  public func sendRead(_ read: UnsafePointer<bp_read>) -> Outcome {
    send(.read, read.pointee.token, ReadPayload(read: read), isUrgent: false)
  }

  public func sendScan(_ scan: UnsafePointer<bp_scan>) -> Outcome {
    send(.scan, scan.pointee.token, ScanPayload(scan: scan), isUrgent: false)
  }

  public func sendQuery(_ query: UnsafePointer<bp_query>) -> Outcome {
    send(.query, query.pointee.token, QueryPayload(query: query), isUrgent: false)
  }

  public func sendJudge(
    _ call: UnsafePointer<bp_call>, _ message: UnsafePointer<bp_message>, _ token: bp_token
  ) -> Outcome {
    send(.judge, token, JudgePayload(call: call, message: message), isUrgent: false)
  }

  public func sendExport(
    _ call: UnsafePointer<bp_call>, _ request: UnsafePointer<bp_state_export>, _ token: bp_token
  ) -> Outcome {
    send(.exportState, token, ExportPayload(call: call, request: request), isUrgent: false)
  }

  public func sendImport(
    _ call: UnsafePointer<bp_call>, _ request: UnsafePointer<bp_state_import>, _ token: bp_token
  ) -> Outcome {
    send(.importState, token, ImportPayload(call: call, request: request), isUrgent: false)
  }

  /// - Parameter kind: `nodeReady` or `nodeEnding`.
  public func sendNotice(_ kind: FrameKind, _ call: UnsafePointer<bp_call>, _ token: bp_token) -> Outcome {
    send(kind, token, NoticePayload(call: call), isUrgent: false)
  }

  @discardableResult
  public func sendCancel(_ token: bp_token) -> Outcome { send(.cancel, token, NoPayload(), isUrgent: true) }

  @discardableResult
  public func sendGrant(_ token: bp_token, credits: UInt32) -> Outcome {
    send(.grant, token, NumberPayload(value: UInt64(credits)), isUrgent: true)
  }

  @discardableResult
  public func sendAskConnections() -> Outcome { send(.askConnections, 0, NoPayload(), isUrgent: true) }
}

private struct UnitPayload: WirePayload {
  let unit: UnsafePointer<bp_unit>

  @inline(__always)
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(unit.pointee.ops_count)
    sink.put(unit.pointee.ts_ms)
    sink.put(unit.pointee.version)
    sink.put(unit.pointee.call.pointee)
    guard unit.pointee.ops_count > 0 else { return }
    // Arrays of sized structs are walked by the size of their first element.
    let stride = Int(unit.pointee.ops.pointee.size)
    for index in 0..<Int(unit.pointee.ops_count) {
      sink.put(UnsafeRawPointer(unit.pointee.ops).loadUnaligned(fromByteOffset: index * stride, as: bp_op.self))
    }
  }
}

private struct ReadPayload: WirePayload {
  let read: UnsafePointer<bp_read>

  @inline(__always)
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(read.pointee.flags)
    sink.put(read.pointee.call.pointee)
    sink.put(read.pointee.uri)
  }
}

private struct ScanPayload: WirePayload {
  let scan: UnsafePointer<bp_scan>

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(scan.pointee.flags)
    sink.put(scan.pointee.credits)
    sink.put(scan.pointee.call.pointee)
    sink.put(scan.pointee.prefix)
    sink.put(scan.pointee.cursor)
  }
}

private struct QueryPayload: WirePayload {
  let query: UnsafePointer<bp_query>

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(query.pointee.flags)
    sink.put(query.pointee.limit)
    sink.put(query.pointee.offset)
    sink.put(query.pointee.call.pointee)
    sink.put(query.pointee.prefix)
  }
}

private struct JudgePayload: WirePayload {
  let call: UnsafePointer<bp_call>
  let message: UnsafePointer<bp_message>

  @inline(__always)
  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(call.pointee)
    sink.put(message.pointee.verb)
    sink.put(message.pointee.content)
    sink.put(message.pointee.depth)
    sink.put(message.pointee.ts_ms)
    sink.put(message.pointee.uri)
    sink.put(message.pointee.uri_received)
    // It is the beginning of the URI.
    sink.put(UInt32(truncatingIfNeeded: message.pointee.program.size))
    sink.put(message.pointee.data)
  }
}

private struct ExportPayload: WirePayload {
  let call: UnsafePointer<bp_call>
  let request: UnsafePointer<bp_state_export>

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(call.pointee)
    sink.put(request.pointee.phase)
    sink.put(request.pointee.credits)
  }
}

private struct ImportPayload: WirePayload {
  let call: UnsafePointer<bp_call>
  let request: UnsafePointer<bp_state_import>

  func put<Sink: WireSink>(into sink: inout Sink) {
    sink.put(call.pointee)
    sink.put(request.pointee.flags)
    sink.put(request.pointee.format_version)
    sink.put(request.pointee.phase)
    sink.put(request.pointee.sequence)
    sink.put(request.pointee.bytes)
  }
}

private struct NoticePayload: WirePayload {
  let call: UnsafePointer<bp_call>
  func put<Sink: WireSink>(into sink: inout Sink) { sink.put(call.pointee) }
}
