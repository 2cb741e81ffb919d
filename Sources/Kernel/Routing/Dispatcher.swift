import BackplaneABI

/// Calls a data function the way its mode asks for, when the caller's own thread is not an option or not asked for.
enum Dispatcher {
  static func run(
    _ instance: Instance, _ operation: Operation, _ token: bp_token, _ call: @escaping @Sendable () -> Void
  ) {
    switch instance.directness.mode(operation) {
    case BP_MODE_ASYNC: call()
    case BP_MODE_DIRECT:
      // Reached when the nesting was too deep for the caller's thread.
      if !instance.kernel.workers.submit(call) { refuse(token) }
    default:
      if !instance.workers(operation).submit(call) { refuse(token) }
    }
  }

  static func refuse(_ token: bp_token) {
    Answers.with(
      BP_RESOURCE_EXHAUSTED, "the slot's queue for blocking calls is full", retryable: true, as: bp_list_result.self
    ) { CallSlab.shared.revoke(token, $0) }
  }
}

/// A call header with its own copy of the peer's name, for requests that outlive the caller's stack.
final class OwnedCall: @unchecked Sendable {
  // @unchecked: written in init only.
  let header: UnsafeMutablePointer<bp_call>
  /// When the request began, CLOCK_MONOTONIC.
  let sinceNs: UInt64
  private let peer: UnsafeMutableBufferPointer<UInt8>

  init(_ call: bp_call, generation: UInt64, timeoutNsMax: UInt64) {
    let bytes = call.peer.bytes
    peer = .allocate(capacity: max(1, bytes.count))
    _ = peer.initialize(from: bytes)
    header = .allocate(capacity: 1)
    header.initialize(to: call)
    header.pointee.parent = 0
    header.pointee.generation = generation
    header.pointee.peer = bp_view(data: UnsafePointer(peer.baseAddress), size: UInt64(bytes.count))
    // A caller may want less time than the node allows, not more.
    sinceNs = Clock.monotonicNs()
    let latestNs = sinceNs &+ timeoutNsMax
    if header.pointee.deadline_ns == 0 || header.pointee.deadline_ns > latestNs {
      header.pointee.deadline_ns = latestNs
    }
  }

  deinit {
    peer.deallocate()
    header.deallocate()
  }

  var deadlineNs: UInt64 { header.pointee.deadline_ns }
}
