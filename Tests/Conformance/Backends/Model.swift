import PluginAPI

/// What a backend should do, in the plainest way.
struct Model: Sendable {
  private(set) var records: [String: Record] = [:]
  /// As the plugin's table says.
  var keepsVersions: Bool

  init(keepsVersions: Bool) { self.keepsVersions = keepsVersions }

  enum Outcome: Equatable, Sendable {
    case applied(absentCount: Int)
    case preconditionFailed(op: Int)
    /// BP_IF_VERSION of a backend that keeps no versions.
    case unimplemented
  }

  mutating func apply(_ ops: [Op], stamp: UInt64) -> Outcome {
    var next = records
    var absentCount = 0
    for (index, op) in ops.enumerated() {
      if case .version = op.condition, !keepsVersions { return .unimplemented }
      guard op.condition.holds(for: next[op.uri]?.version) else { return .preconditionFailed(op: index) }
      switch op.verb {
      case .put(let data, let content):
        next[op.uri] = Record(
          data: data, content: content, timestampMs: BackendDriver.timestampMs(stamp),
          version: keepsVersions ? stamp : 0)
      case .delete: if next.removeValue(forKey: op.uri) == nil { absentCount += 1 }
      }
    }
    records = next
    return .applied(absentCount: absentCount)
  }

  func below(_ prefix: String) -> [String: Record] { records.filter { $0.key.utf8.starts(with: prefix.utf8) } }
}
