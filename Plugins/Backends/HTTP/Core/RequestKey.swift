import PluginAPI
import Synchronization

/// The name of one request on its way through nodes: it is sent along in `x-backplane-request`, a node hands it to its
/// backends as the idempotency key of the call, and one that comes back is a loop.
struct RequestKey: Hashable, Sendable {
  let high: UInt64
  let low: UInt64

  /// It came with the request: another node sent it, or a client that gives names itself.
  let isGiven: Bool

  init(_ call: bp_call?) {
    if let call, call.idempotency_key_high | call.idempotency_key_low != 0 {
      high = call.idempotency_key_high
      low = call.idempotency_key_low
      isGiven = true
    } else {
      high = .random(in: 1 ... .max)
      low = .random(in: .min ... .max)
      isGiven = false
    }
  }

  static func == (left: RequestKey, right: RequestKey) -> Bool { left.high == right.high && left.low == right.low }

  func hash(into hasher: inout Hasher) {
    hasher.combine(high)
    hasher.combine(low)
  }

  /// Thirty-two lower-case hexadecimal digits.
  var text: String { hexadecimal(high) + hexadecimal(low) }
}

/// Sixteen lower-case digits.
func hexadecimal(_ value: UInt64) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 16 - digits.utf8.count) + digits
}

/// What is on its way to the remote. Two nodes that are each other's backends would otherwise send one request round and
/// round.
final class LoopGuard: Sendable {
  enum Verb: UInt8 { case put, delete, read, scan }

  struct Entry: Hashable, Sendable {
    let key: RequestKey
    let verb: Verb
    let uri: String
  }

  private let open = Mutex<Set<Entry>>([])

  /// Nil when the very same request is on its way already: it went round and came back.
  func enter(_ key: RequestKey, _ verb: Verb, _ uri: String) -> Entry? {
    let entry = Entry(key: key, verb: verb, uri: uri)
    return open.withLock { $0.insert(entry).inserted } ? entry : nil
  }

  func leave(_ entry: Entry) { open.withLock { _ = $0.remove(entry) } }
}
