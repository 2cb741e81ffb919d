import PluginAPI
import Synchronization

/// The requests of calls that are open, by the call's token.
final class OpenCalls: Sendable {
  private let open = Mutex<[bp_token: Sending]>([:])

  func begin(_ token: bp_token, _ sending: Sending) {
    open.withLock { $0[token] = sending }
    // It may have ended before it was known here.
    if case .ended = sending.state.withLock({ $0 }) { end(token) }
  }

  func end(_ token: bp_token) { open.withLock { _ = $0.removeValue(forKey: token) } }
  func find(_ token: bp_token) -> Sending? { open.withLock { $0[token] } }
}

/// The trace of a call, as a W3C traceparent header.
enum Trace {
  static func text(_ call: bp_call?) -> String? {
    guard let call, call.trace_id_high | call.trace_id_low != 0, call.span_id != 0 else { return nil }
    return "00-\(hexadecimal(call.trace_id_high))\(hexadecimal(call.trace_id_low))-\(hexadecimal(call.span_id))-01"
  }
}
