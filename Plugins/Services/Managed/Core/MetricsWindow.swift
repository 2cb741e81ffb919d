import ManagedNode

/// What was counted of the node's operations since a moment.
struct MetricsWindow: Sendable {
  private let begin: [String: CallCounts]
  private let beganNs: UInt64

  init(_ operations: [String: CallCounts], atNs: UInt64) {
    begin = operations
    beganNs = atNs
  }

  /// From the beginning of the window until now.
  func metrics(_ now: [String: CallCounts], atNs: UInt64) -> NodeMetrics {
    func counts(_ name: String) -> CallCounts {
      let all = now[name] ?? CallCounts()
      return begin[name].map { all.since($0) } ?? all
    }
    return NodeMetrics(
      writes: counts("receive"), reads: counts("read") + counts("read_multi"),
      elapsedSeconds: Double(atNs &- beganNs) / 1e9)
  }
}
