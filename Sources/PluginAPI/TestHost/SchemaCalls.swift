import PluginAPI

/// What a schema said of a message.
public enum Judgement: Sendable, Equatable {
  case accepted([Op])
  /// The text that goes to the client.
  case rejected(String)
}

/// The kind `schema`.
extension TestHost {
  private func schema() throws -> Pinned<bp_schema> {
    guard let table = extensionTable("backplane.schema/1", as: bp_schema.self) else {
      throw Failure.unimplemented("the plugin is no schema")
    }
    return Pinned(table)
  }

  /// The programs that the schema serves. From CONFIGURED on.
  public func programs() throws -> [Program] {
    let schema = try schema()
    var programs: [Program] = []
    withUnsafeMutablePointer(to: &programs) { pointer in
      schema.pointee.programs(pluginSelf, pointer) { context, program in
        let raw = program!.pointee
        var value = Program(
          raw.key.text, isCanonical: raw.flags & BP_PROGRAM_CANONICAL != 0,
          isUnlisted: raw.flags & BP_PROGRAM_UNLISTED != 0)
        value.isFallback = raw.flags & BP_PROGRAM_FALLBACK != 0
        context!.assumingMemoryBound(to: [Program].self).pointee.append(value)
      }
    }
    return programs
  }

  /// Judges a message. A failure of the schema is thrown as `Failure`; a refusal is a judgement.
  ///
  /// - `uriReceived`: as the client wrote it; nil: the same. `uri` empty: it is not a URI.
  public func judge(
    _ uri: String, _ data: [UInt8], _ content: Content = .json, uriReceived: String? = nil, isDelete: Bool = false,
    depth: UInt32 = 0, timestampMs: UInt64 = 1_700_000_000_000, deadline: Duration? = nil, generation: UInt64 = 1
  ) async throws -> Judgement {
    try await beginJudge(
      uri, data, content, uriReceived: uriReceived, isDelete: isDelete, depth: depth, timestampMs: timestampMs,
      deadline: deadline, generation: generation
    ).value.get()
  }

  /// Judges without waiting.
  public func beginJudge(
    _ uri: String, _ data: [UInt8], _ content: Content = .json, uriReceived: String? = nil, isDelete: Bool = false,
    depth: UInt32 = 0, timestampMs: UInt64 = 1_700_000_000_000, deadline: Duration? = nil, generation: UInt64 = 1,
    onToken: (@Sendable (bp_token) -> Void)? = nil
  ) throws -> TestCall<Result<Judgement, Failure>> {
    let schema = try schema()
    let plugin = pluginSelf
    let core = core
    return try begin(
      bp_verdict.self, mode: mode(schema.pointee.judge_mode), deadline: deadline, generation: generation,
      submit: { arena, call, token in
        // A validator may read before judge returns: whoever resolves the token must know it first.
        onToken?(token)
        let message = arena.make(
          bp_message(
            size: .size(of: bp_message.self), verb: isDelete ? BP_VERB_DELETE : BP_VERB_PUT, content: content.rawValue,
            depth: depth, ts_ms: timestampMs, uri: arena.view(uri), uri_received: arena.view(uriReceived ?? uri),
            program: arena.view(program(of: uri)), data: arena.view(data)))
        schema.pointee.judge(plugin, call, message, token)
      },
      read: { raw -> Result<Judgement, Failure> in
        if raw.result.code == BP_REJECTED { return .success(.rejected(raw.result.message.text)) }
        if let failure = raw.result.failure { return .failure(failure) }
        guard raw.ops_count > 0, let first = raw.ops else {
          core.violate(.malformedResult, "a verdict accepts and has no ops")
          return .success(.accepted([]))
        }
        let stride = Int(first.pointee.size)
        let ops = (0..<Int(raw.ops_count)).map { index in
          Op(copying: UnsafeRawPointer(first).load(fromByteOffset: index * stride, as: bp_op.self))
        }
        return .success(.accepted(ops))
      })
  }

  /// The canonical form of a URI; the URI itself when it is canonical already or the schema has no canonical_uri.
  public func canonical(_ uri: String) throws -> String {
    guard let canonical = try schema().pointee.canonical_uri else { return uri }
    var bytes: [UInt8] = []
    let code = withUnsafeMutablePointer(to: &bytes) { pointer in
      let sink = bp_sink(
        context: pointer,
        write: { context, view in
          context!.assumingMemoryBound(to: [UInt8].self).pointee.append(contentsOf: view.bytes)
        })
      return uri.withView { canonical(pluginSelf, $0, sink) }
    }
    guard code == BP_OK else { throw Failure(code: code, "canonical_uri answered code \(code) for '\(uri)'") }
    return bytes.isEmpty ? uri : String(decoding: bytes, as: UTF8.self)
  }
}
