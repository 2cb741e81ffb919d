import BackplaneABI

/// What a request holds, and where it is: for whoever asks why a generation does not go.
struct RequestHolding {
  enum Verb: String, Sendable {
    case receive, read, list, delete
    case readMulti = "read_multi"
  }

  var verb: Verb
  /// Whose lease it has.
  var generation: UInt64
  /// CLOCK_MONOTONIC.
  var sinceNs: UInt64
  var peer: String
  var traceHigh: UInt64
  var traceLow: UInt64
  /// The plugins' calls that it waits for.
  var waitsFor: [(instance: Instance, call: MarkedCall)]
  /// Tells the marks of its own calls from others.
  var header: UnsafeRawPointer
}

extension OwnedCall {
  func holding(
    _ verb: RequestHolding.Verb, _ generation: UInt64, waitsFor: [(instance: Instance, call: MarkedCall)]
  ) -> RequestHolding {
    let call = header.pointee
    return RequestHolding(
      verb: verb, generation: generation, sinceNs: sinceNs, peer: Wording.printable(call.peer.text, lengthMax: 128),
      traceHigh: call.trace_id_high, traceLow: call.trace_id_low, waitsFor: waitsFor, header: UnsafeRawPointer(header))
  }
}

extension PendingRequest {
  var holding: RequestHolding? { nil }
}
