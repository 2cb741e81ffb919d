#if SIMULATION
import BackplaneABI

@testable import Kernel

/// A schema that accepts every message as it is; an asynchronous one may ask the node first.
final class SimulatedSchema: SimulatedPlugin, @unchecked Sendable {
  // @unchecked: as SimulatedPlugin.
  private lazy var kind: UnsafeRawPointer = SimulatedPlugin.constant(
    bp_schema(
      size: UInt32(MemoryLayout<bp_schema>.size), flags: 0, judge_mode: content.mode, reserved: 0,
      programs: { pointer, context, add in
        let role = SimulatedPlugin.at(pointer).content.role
        var key = role == .schema ? "" : "\(role.rawValue)://open"
        key.withUTF8 { key in
          var program = bp_program(
            size: UInt32(MemoryLayout<bp_program>.size), flags: role == .schema ? BP_PROGRAM_FALLBACK : 0,
            key: bp_view(key))
          add!(context, &program)
        }
      },
      judge: { pointer, call, message, token in
        unsafeDowncast(SimulatedPlugin.at(pointer), to: SimulatedSchema.self).judge(call, message!, token)
      }, canonical_uri: nil))

  override func kindTable(_ id: String) -> UnsafeRawPointer? { id == BP_SCHEMA_ID ? kind : nil }

  private func judge(_ call: UnsafePointer<bp_call>?, _ message: UnsafePointer<bp_message>, _ token: bp_token) {
    called("judge", call)
    if content.mode != BP_MODE_ASYNC {
      Pause.turn()
      if content.mode == BP_MODE_BLOCKING { Pause.some(node) }
      return accept(message, token)
    }
    let isStuck = Dice.percent(node.style.stuckPercent)
    node.calls.add(
      OpenCall(self, token, isStuck: isStuck) { [self] in
        // A question to the node is part of the message, and is not kept waiting by a handover.
        if Dice.percent(30) { ask(message, token) } else { accept(message, token) }
      } giveUp: { [self] in
        complete(token, $0, bp_verdict.self)
      })
  }

  private final class Question {
    let schema: SimulatedSchema
    let message: UnsafePointer<bp_message>
    let token: bp_token
    init(_ schema: SimulatedSchema, _ message: UnsafePointer<bp_message>, _ token: bp_token) {
      self.schema = schema
      self.message = message
      self.token = token
    }
  }

  private func ask(_ message: UnsafePointer<bp_message>, _ token: bp_token) {
    guard phase == .started else { return complete(token, BP_UNAVAILABLE, bp_verdict.self) }
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    call.parent = token
    let completion = bp_completion(
      context: Unmanaged.passRetained(Question(self, message, token)).toOpaque(),
      complete: { context, _ in
        let question = Unmanaged<Question>.fromOpaque(context!).takeRetainedValue()
        // The message lives until its token has been completed, which a deadline does not do.
        question.schema.accept(question.message, question.token)
      }, chunk: nil)
    _ = NodeTable.pointer.pointee.read(handle, &call, message.pointee.uri, completion)
  }

  private func accept(_ message: UnsafePointer<bp_message>, _ token: bp_token) {
    if Dice.percent(content.trouble == .failing ? 50 : node.style.errorPercent) {
      return complete(token, BP_UNAVAILABLE, bp_verdict.self)
    }
    var op = bp_op()
    op.size = UInt32(MemoryLayout<bp_op>.size)
    op.verb = message.pointee.verb
    op.content = message.pointee.content
    op.uri = message.pointee.uri
    op.data = message.pointee.data
    withUnsafePointer(to: &op) { op in
      var verdict = bp_verdict()
      verdict.result = SimulatedPlugin.result(BP_OK, bp_verdict.self)
      verdict.ops = op
      verdict.ops_count = 1
      complete(token, with: &verdict)
    }
  }
}
#endif
