import BackplaneABI
import Synchronization

@testable import Kernel

/// A schema of envelopes and accounts. A message to `msg://open` is one line for each output, "uri text"; it is written
/// itself, and its outputs are judged in turn. One to `acct://toy` that says "after X" is taken when X exists, which it
/// asks the node, asynchronously; one that says "once" is taken when its own record does not exist; one that says "hold" waits in `held` until the test calls `accept`.
final class ScriptedSchema: ScriptedPlugin, @unchecked Sendable {
  // @unchecked: as ScriptedPlugin.
  static let programs = ["msg://open", "acct://toy"]

  struct Judged: @unchecked Sendable {
    // @unchecked: the message lives until the token is completed.
    let message: UnsafePointer<bp_message>
    let token: bp_token
  }

  let held = Inbox<Judged>()
  let cancelled = Inbox<bp_token>()
  private let thread = WorkerPool(name: "scripted", threads: 1, queueMax: 1000)
  private let kind: UnsafeRawPointer
  private let usesReadMulti: Bool

  init(usesReadMulti: Bool = false) {
    self.usesReadMulti = usesReadMulti
    kind = ScriptedPlugin.constant(
      bp_schema(
        size: UInt32(MemoryLayout<bp_schema>.size), flags: 0, judge_mode: BP_MODE_ASYNC, reserved: 0,
        programs: { _, _, _ in },
        judge: { pointer, _, message, token in
          let schema = unsafeDowncast(ScriptedPlugin.at(pointer), to: ScriptedSchema.self)
          let judged = Judged(message: message!, token: token)
          _ = schema.thread.submit { schema.judge(judged) }
        }, canonical_uri: nil))
    super.init()
  }

  override func kindTable(_ id: bp_view) -> UnsafeRawPointer? { id.text == "backplane.schema/1" ? kind : nil }
  override func cancel(_ token: bp_token) { cancelled.put(token) }
  override func stop() { thread.shutDown() }

  func accept(_ judged: Judged) { complete(judged.token, ops: [put(judged.message.pointee)]) }

  private func judge(_ judged: Judged) {
    let message = judged.message.pointee
    let text = message.data.text
    if message.program.text == "msg://open" {
      var ops = [put(message)]
      // The outputs' views point into the message.
      for line in message.data.bytes.split(separator: UInt8(ascii: "\n")) {
        let space = line.firstIndex(of: UInt8(ascii: " "))!
        var op = put(message)
        op.flags = BP_OP_TO_JUDGE
        op.uri = bp_view(UnsafeBufferPointer(rebasing: line[..<space]))
        op.data = bp_view(UnsafeBufferPointer(rebasing: line[(space + 1)...]))
        ops.append(op)
      }
      return complete(judged.token, ops: ops)
    }
    if text == "hold" { return held.put(judged) }
    if text.hasPrefix("once") {
      var op = put(message)
      op.condition = BP_IF_ABSENT
      return complete(judged.token, ops: [op])
    }
    guard text.hasPrefix("after ") else { return accept(judged) }
    ask(bp_view(UnsafeBufferPointer(rebasing: message.data.bytes[6...])), judged)
  }

  private final class Question: @unchecked Sendable {
    // @unchecked: `code` is written by the chunk and read by the completion that comes after it.
    let schema: ScriptedSchema
    let judged: Judged
    var code: bp_code?
    init(_ schema: ScriptedSchema, _ judged: Judged) {
      self.schema = schema
      self.judged = judged
    }
  }

  private func ask(_ uri: bp_view, _ judged: Judged) {
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    call.parent = judged.token
    var completion = bp_completion(
      context: Unmanaged.passRetained(Question(self, judged)).toOpaque(),
      complete: { context, result in
        let question = Unmanaged<Question>.fromOpaque(context!).takeRetainedValue()
        question.schema.answered(question.judged, question.code ?? result!.pointee.code)
      }, chunk: nil)
    guard usesReadMulti else {
      _ = NodeTable.pointer.pointee.read(handle, &call, uri, completion)
      return
    }
    completion.chunk = { context, chunk in
      let item = UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_read_item.self)
      Unmanaged<Question>.fromOpaque(context!).takeUnretainedValue().code = item.pointee.read.pointee.result.code
    }
    var uri = uri
    _ = NodeTable.pointer.pointee.read_multi(handle, &call, &uri, 1, completion)
  }

  private func answered(_ judged: Judged, _ code: bp_code) {
    if code == BP_OK { return accept(judged) }
    var verdict = bp_verdict()
    verdict.result = ScriptedPlugin.result(code == BP_NOT_FOUND ? BP_REJECTED : code, bp_verdict.self)
    var text = "what it names does not exist"
    text.withUTF8 { bytes in
      verdict.result.message = bp_view(bytes)
      complete(judged.token, with: &verdict)
    }
  }

  private func put(_ message: bp_message) -> bp_op {
    var op = bp_op()
    op.size = UInt32(MemoryLayout<bp_op>.size)
    op.verb = message.verb
    op.content = message.content
    op.uri = message.uri
    op.data = message.data
    return op
  }

  private func complete(_ token: bp_token, ops: [bp_op]) {
    ops.withUnsafeBufferPointer { ops in
      var verdict = bp_verdict()
      verdict.result = ScriptedPlugin.result(BP_OK, bp_verdict.self)
      verdict.ops = ops.baseAddress
      verdict.ops_count = UInt32(ops.count)
      complete(token, with: &verdict)
    }
  }
}
