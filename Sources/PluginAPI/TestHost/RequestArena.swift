import PluginAPI

/// The memory of one request: what a submit closure makes here lives until the plugin has completed the token, and is
/// overwritten then, so that a plugin that keeps a view for longer reads rubbish in the test instead of in production.
public final class RequestArena: @unchecked Sendable {
  // @unchecked: filled by the submitting thread before the plugin sees the token, read only afterwards, freed in deinit.
  private var blocks: [UnsafeMutableRawBufferPointer] = []

  init() {}

  deinit {
    for block in blocks {
      block.initializeMemory(as: UInt8.self, repeating: 0xA5)
      block.deallocate()
    }
  }

  /// A copy of a request struct.
  public func make<T: BitwiseCopyable>(_ value: T) -> UnsafePointer<T> { makeArray([value]) }

  /// A copy of an array of structs; one element at least is allocated.
  public func makeArray<T: BitwiseCopyable>(_ values: [T]) -> UnsafePointer<T> {
    let block = UnsafeMutableRawBufferPointer.allocate(
      byteCount: max(1, values.count) * MemoryLayout<T>.stride, alignment: max(16, MemoryLayout<T>.alignment))
    blocks.append(block)
    let typed = block.bindMemory(to: T.self)
    _ = typed.initialize(from: values)
    return UnsafePointer(typed.baseAddress!)
  }

  public func view(_ text: String) -> bp_view { view(Array(text.utf8)) }

  public func view(_ bytes: [UInt8]) -> bp_view {
    bytes.isEmpty ? .empty : bp_view(data: makeArray(bytes), size: UInt64(bytes.count))
  }

  /// The boundary's form of ops.
  public func ops(_ ops: [Op]) -> UnsafePointer<bp_op> { makeArray(ops.map(op)) }

  private func op(_ op: Op) -> bp_op {
    var raw = bp_op()
    raw.size = .size(of: bp_op.self)
    raw.uri = view(op.uri)
    raw.flags = op.isToJudge ? BP_OP_TO_JUDGE : 0
    raw.refusal = view(op.refusal)
    switch op.verb {
    case .put(let data, let content):
      raw.verb = BP_VERB_PUT
      raw.content = content.rawValue
      raw.data = view(data)
    case .delete: raw.verb = BP_VERB_DELETE
    }
    switch op.condition {
    case .any: raw.condition = BP_IF_ANY
    case .absent: raw.condition = BP_IF_ABSENT
    case .present: raw.condition = BP_IF_PRESENT
    case .version(let version):
      raw.condition = BP_IF_VERSION
      raw.if_version = version
    }
    return raw
  }
}

extension Op {
  /// A copy of one of the boundary's ops.
  public init(copying raw: bp_op) {
    let verb: Verb =
      raw.verb == BP_VERB_DELETE
      ? .delete : .put(data: raw.data.array, content: Content(rawValue: raw.content) ?? .bytes)
    let condition: Condition =
      switch raw.condition {
      case BP_IF_ABSENT: .absent
      case BP_IF_PRESENT: .present
      case BP_IF_VERSION: .version(raw.if_version)
      default: .any
      }
    self.init(
      verb, uri: raw.uri.text, if: condition, isToJudge: raw.flags & BP_OP_TO_JUDGE != 0, otherwise: raw.refusal.text)
  }
}
