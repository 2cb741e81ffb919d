import PluginAPI
import Synchronization

/// A backend in memory, the easy way.
final class BackendToy: Backend {
  private let records = Mutex<[String: Record]>([:])
  private let log: Log

  init(_ configuration: NoConfiguration, _ context: Context) { log = context.log }

  func start() async throws { log.info("toy backend started") }

  func apply(_ unit: WriteUnit) async throws -> Applied {
    try records.withLock { records in
      var next = records
      var absent = 0
      for (index, op) in unit.ops.enumerated() {
        guard op.condition.holds(for: next[op.uri]?.version) else { throw PreconditionFailed(op: index) }
        switch op.verb {
        case .put(let data, let content):
          next[op.uri] = Record(data: data, content: content, timestampMs: unit.timestampMs, version: unit.version)
        case .delete: if next.removeValue(forKey: op.uri) == nil { absent += 1 }
        }
      }
      records = next
      return Applied(absentCount: absent)
    }
  }

  func read(_ uri: String) async throws -> Record? { records.withLock { $0[uri] } }

  func scan(prefix: String, after cursor: [UInt8]?, limit: Int) async throws -> ScanPage {
    ScanPage.sorted(records.withLock { $0 }, prefix: prefix, after: cursor, limit: limit)
  }

  static let entry = PluginEntry(BackendToy.self, id: "org.example.toy.backend", version: "1.0.0") {
    BackendToy.create($0, $1, $2)
  }
}
