import PluginAPI
import Synchronization

/// A language model that says the numbers from 1 to as many as the request asks for, one chunk each, as far as credit
/// goes. Any number of streams.
final class LanguageModelToy: RawToy {
  private struct Stream {
    var next: UInt32 = 0
    var last: UInt32
    var credits: UInt64
    var isEmitting = false
    var isCancelled = false
  }

  private let streams = Mutex<[bp_token: Stream]>([:])

  private static let table = ConstantTable(
    bp_llm(
      size: .size(of: bp_llm.self), flags: 0,
      generate: { pointer, _, request, token in
        RawToy.with(pointer, as: LanguageModelToy.self) { $0.generate(request!.pointee, token) }
      }))

  override func extensionTable(_ id: bp_view) -> UnsafeRawPointer? {
    id.equals("backplane.llm/1") ? LanguageModelToy.table.raw : nil
  }

  private func generate(_ request: bp_llm_request, _ token: bp_token) {
    let stream = Stream(last: UInt32(request.json.text) ?? 0, credits: UInt64(request.credits))
    streams.withLock { $0[token] = stream }
    pump(token)
  }

  override func grant(_ token: bp_token, _ credits: UInt32) {
    streams.withLock { $0[token]?.credits += UInt64(credits) }
    pump(token)
  }

  override func cancel(_ token: bp_token) {
    streams.withLock { $0[token]?.isCancelled = true }
    pump(token)
  }

  override func stop() {
    for token in streams.withLock({ Array($0.keys) }) { cancel(token) }
  }

  private enum Step {
    case say(UInt32)
    case end(bp_code, UInt32)
    case wait
  }

  /// Emits while there is credit; one thread at a time, without the lock (emit may call back).
  private func pump(_ token: bp_token) {
    let isMine = streams.withLock { streams in
      guard streams[token]?.isEmitting == false else { return false }
      streams[token]!.isEmitting = true
      return true
    }
    guard isMine else { return }
    var code = BP_OK
    while true {
      let step: Step = streams.withLock { streams in
        var stream = streams[token]!
        if stream.isCancelled || code != BP_OK || stream.next == stream.last {
          streams[token] = nil
          return .end(stream.isCancelled ? BP_CANCELLED : code, stream.next)
        }
        defer { streams[token] = stream }
        guard stream.credits > 0 else {
          stream.isEmitting = false
          return .wait
        }
        stream.credits -= 1
        stream.next += 1
        return .say(stream.next)
      }
      switch step {
      case .say(let number): code = say(number, token)
      case .end(let code, let said): return end(token, code, said)
      case .wait: return
      }
    }
  }

  private func say(_ number: UInt32, _ token: bp_token) -> bp_code {
    "\(number)".withView { bytes in
      var chunk = bp_llm_chunk(
        chunk: bp_chunk(size: .size(of: bp_llm_chunk.self), count: 1, bytes: bytes), type: BP_LLM_TEXT,
        index: number - 1)
      return withUnsafePointer(to: &chunk) {
        host.table.pointee.emit(host.instance, token, UnsafeRawPointer($0).assumingMemoryBound(to: bp_chunk.self))
      }
    }
  }

  private func end(_ token: bp_token, _ code: bp_code, _ said: UInt32) {
    "stop".withView { reason in
      var result = bp_llm_result(
        result: .code(code, bp_llm_result.self), flags: BP_LLM_USAGE_ESTIMATED, reserved: 0, input_tokens: 1,
        cached_tokens: 0, output_tokens: UInt64(said), finish_reason: reason, provider_request_id: .empty)
      host.complete(token, with: &result)
    }
  }

  static let entry = RawEntry(kind: "llm", id: "org.example.toy.llm") { LanguageModelToy.create($0, $1, $2) }
}
