private func makeSchemaTable(_ mode: CallMode) -> UnsafeMutablePointer<bp_schema> {
  let table = UnsafeMutablePointer<bp_schema>.allocate(capacity: 1)
  table.initialize(
    to: bp_schema(
      size: .size(of: bp_schema.self), flags: 0, judge_mode: mode.rawValue, reserved: 0,
      programs: { pointer, context, add in
        InstanceBox.with(pointer) { box in
          box.programs { program in
            var program = program
            add!(context, &program)
          }
        }
      },
      judge: { pointer, _, message, token in InstanceBox.with(pointer) { $0.judge(message!, token) } },
      canonical_uri: { pointer, uri, sink in
        InstanceBox.with(pointer) { box in
          box.canonical(uri) { sink.write(sink.context, bp_view($0)) }
          return BP_OK
        }
      }))
  return table
}

private func forEach(_ programs: [Program], _ add: (bp_program) -> Void) {
  for program in programs {
    program.key.withView { add(bp_program(size: .size(of: bp_program.self), flags: program.flags, key: $0)) }
  }
}

final class DirectSchemaInstance<P: DirectSchema>: Instance<P> {
  private let schema = makeSchemaTable(P.judgeMode)

  deinit { schema.deallocate() }

  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? {
    id.equals("backplane.schema/1") ? UnsafeRawPointer(schema) : nil
  }

  override func cancel(_ token: bp_token) { executor?.cancel(token) }

  override func didConfigure() { if plugin.judgesDeletes { schema.pointee.flags |= BP_SCHEMA_JUDGES_DELETES } }

  override func programs(_ add: (bp_program) -> Void) { forEach(plugin.programs, add) }

  override func judge(_ message: UnsafePointer<bp_message>, _ token: bp_token) {
    plugin.judge(JudgeCall(host: host, token: token, message: message.pointee, executor: executor))
  }

  override func canonical(_ uri: bp_view, _ write: (BorrowedBytes) -> Void) { plugin.canonical(uri.bytes, write) }
}

final class SchemaInstance<P: Schema>: Instance<P> {
  private let schema = makeSchemaTable(.async)

  deinit { schema.deallocate() }

  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? {
    id.equals("backplane.schema/1") ? UnsafeRawPointer(schema) : nil
  }

  override func cancel(_ token: bp_token) { executor?.cancel(token) }

  override func didConfigure() { if plugin.judgesDeletes { schema.pointee.flags |= BP_SCHEMA_JUDGES_DELETES } }

  override func programs(_ add: (bp_program) -> Void) { forEach(plugin.programs, add) }

  override func judge(_ message: UnsafePointer<bp_message>, _ token: bp_token) {
    let plugin = plugin!
    let raw = message.pointee
    let call = JudgeCall(host: host, token: token, message: raw, executor: executor)
    guard let executor else { return call.fail(.unavailable("the schema is not started")) }
    let value = Message(
      uri: raw.uri.text, uriReceived: raw.uri_received.text, program: raw.program.text,
      isDelete: raw.verb == BP_VERB_DELETE, data: raw.data.array,
      content: Content(rawValue: raw.content) ?? .bytes, timestampMs: raw.ts_ms, depth: Int(raw.depth))
    let reader = JudgeReader(node: NodeAccess(host: host), token: token)
    executor.submit(token) {
      do {
        switch try await plugin.judge(value, reader) {
        case .accept: call.accept()
        case .acceptIf(let condition, let refusal):
          let (raw, version) = condition.rawValue
          Array(refusal.utf8).withUnsafeBufferPointer { refusal in
            var op = bp_op(
              size: .size(of: bp_op.self), verb: call.message.verb, condition: raw, content: call.message.content,
              if_version: version, flags: 0, reserved: 0, uri: call.message.uri, data: call.message.data,
              refusal: bp_view(refusal))
            withUnsafePointer(to: &op) { call.accept(UnsafeBufferPointer(start: $0, count: 1)) }
          }
        case .ops(let ops): OpsWriter.accept(call, ops)
        case .reject(let text): call.reject(text)
        }
      } catch {
        call.fail(Failure(error))
      }
    }
  }
}

/// Lays ops out as the boundary's structs.
private enum OpsWriter {
  static func accept(_ call: JudgeCall, _ ops: [Op]) {
    var bytes: [UInt8] = []
    var ends: [(uri: Int, data: Int, refusal: Int)] = []
    for op in ops {
      bytes.append(contentsOf: op.uri.utf8)
      let uriEnd = bytes.count
      if case .put(let data, _) = op.verb { bytes.append(contentsOf: data) }
      let dataEnd = bytes.count
      bytes.append(contentsOf: op.refusal.utf8)
      ends.append((uriEnd, dataEnd, bytes.count))
    }
    bytes.withUnsafeBufferPointer { bytes in
      var start = 0
      let list = zip(ops, ends).map { op, end in
        defer { start = end.refusal }
        let (condition, version) = op.condition.rawValue
        var verb = BP_VERB_DELETE
        var content: UInt32 = 0
        if case .put(_, let kind) = op.verb { (verb, content) = (BP_VERB_PUT, kind.rawValue) }
        return bp_op(
          size: .size(of: bp_op.self), verb: verb, condition: condition, content: content, if_version: version,
          flags: op.isToJudge ? BP_OP_TO_JUDGE : 0, reserved: 0,
          uri: bp_view(BorrowedBytes(rebasing: bytes[start..<end.uri])),
          data: bp_view(BorrowedBytes(rebasing: bytes[end.uri..<end.data])),
          refusal: bp_view(BorrowedBytes(rebasing: bytes[end.data..<end.refusal])))
      }
      list.withUnsafeBufferPointer { call.accept($0) }
    }
  }
}
