import PluginAPI
import Synchronization

/// A backend that keeps its records in memory.
final class SwiftBackend: Backend {
  struct Configuration: Decodable { var url: String? }
  private let records = Mutex<[String: Record]>([:])
  init(_ configuration: Configuration, _ context: Context) {}

  func apply(_ unit: WriteUnit) async throws -> Applied {
    try records.withLock { records in
      var next = records
      var absentCount = 0
      for (index, op) in unit.ops.enumerated() {
        guard op.condition.holds(for: next[op.uri]?.version) else { throw PreconditionFailed(op: index) }
        switch op.verb {
        case .put(let data, let content):
          next[op.uri] = Record(data: data, content: content, timestampMs: unit.timestampMs, version: unit.version)
        case .delete: if next.removeValue(forKey: op.uri) == nil { absentCount += 1 }
        }
      }
      records = next
      return Applied(absentCount: absentCount)
    }
  }

  func read(_ uri: String) async throws -> Record? { records.withLock { $0[uri] } }

  func scan(prefix: String, after cursor: [UInt8]?, limit: Int) async throws -> ScanPage {
    ScanPage.sorted(records.withLock { $0 }, prefix: prefix, after: cursor, limit: limit)
  }
}

// Id and version as in manifest.json: the kernel compares them.
let plugin = PluginEntry(SwiftBackend.self, id: "org.example.swift-backend", version: "1.0.0") {
  SwiftBackend.create($0, $1, $2)
}
@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
