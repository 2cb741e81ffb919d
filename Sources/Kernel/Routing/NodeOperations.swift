import BackplaneABI

/// The node's own operations, as its clients and services use them (bp_observe.operations).
enum NodeOperation: Int, CaseIterable, Sendable {
  case receive, read, readMulti, list, remove

  var name: String {
    switch self {
    case .receive: "receive"
    case .read: "read"
    case .readMulti: "read_multi"
    case .list: "list"
    case .remove: "remove"
    }
  }
}

/// What the node has counted of them, over all transports and services. A schema's reads are part of the message that it
/// judges, and are not counted for themselves.
final class NodeOperations: Sendable {
  private let statistics = Statistics(operationCount: NodeOperation.allCases.count)

  @inline(__always)
  func record(_ operation: NodeOperation, _ code: bp_code, elapsedNs: UInt64) {
    statistics.record(operation.rawValue, code, elapsedNs: elapsedNs)
  }

  func snapshot(_ operation: NodeOperation) -> Statistics.Snapshot { statistics.snapshot(operation.rawValue) }

  /// Every count, for a kernel that goes on from here.
  var all: [UInt64] { statistics.all }
  func add(_ counts: [UInt64]) { statistics.add(counts) }
}

extension Statistics.Snapshot {
  /// Calls that did not go well for another sake than the request's own.
  var failures: UInt64 {
    codes.enumerated().reduce(0) { $0 + (Probation.isError(bp_code($1.offset)) ? $1.element : 0) }
  }
}

extension Instance {
  /// A request that it made to the node has ended, after `elapsedNs`, and its answer has been given.
  @inline(__always)
  func requestEnded(_ operation: NodeOperation, _ code: bp_code, elapsedNs: UInt64) {
    if slot.kind.isActive { kernel.operations.record(operation, code, elapsedNs: elapsedNs) }
    outgoing.subtract(1, ordering: .releasing)
  }

  /// Likewise, of one that began at `sinceNs` (CLOCK_MONOTONIC) and goes on in a request of its own.
  func requestEnded(_ operation: NodeOperation, _ code: bp_code, sinceNs: UInt64) {
    requestEnded(operation, code, elapsedNs: Clock.monotonicNs() &- sinceNs)
  }
}

/// Called when a request has been answered: with what, and when it began (CLOCK_MONOTONIC).
typealias RequestEnd = @Sendable (_ code: bp_code, _ sinceNs: UInt64) -> Void
