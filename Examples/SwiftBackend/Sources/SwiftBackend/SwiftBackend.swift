import PluginAPI
import Synchronization

/// A backend that keeps its records in memory, and hands them to its successor.
final class SwiftBackend: Backend {
  struct Configuration: Decodable { var url: String? }
  private let records = Mutex<[String: Record]>([:])
  /// URIs that have changed since a successor was begun to be told; nil: there is none. Under the lock of `records`.
  private let changed = Mutex<Set<String>?>(nil)
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
      changed.withLock { $0?.formUnion(unit.ops.map(\.uri)) }
      return Applied(absentCount: absentCount)
    }
  }

  func read(_ uri: String) async throws -> Record? { records.withLock { $0[uri] } }

  func scan(prefix: String, after cursor: [UInt8]?, limit: Int) async throws -> ScanPage {
    ScanPage.sorted(records.withLock { $0 }, prefix: prefix, after: cursor, limit: limit)
  }
}

// Replacing it loses nothing: the old instance writes its records, then those that have changed meanwhile.
extension SwiftBackend: HandsOverState {
  static var stateVersion: UInt32 { 1 }

  func exportState(_ phase: StatePhase, to writer: StateWriter) async throws {
    let uris = records.withLock { records in
      changed.withLock { changed in
        defer { changed = phase == .snapshot ? [] : nil }
        return phase == .snapshot ? Array(records.keys) : Array(changed ?? [])
      }
    }
    for uri in uris { try await writer.write(uri, records.withLock { $0[uri] }) }
  }

  func importState(_ phase: StatePhase, from reader: StateReader) async throws {
    while let (uri, record) = try await reader.nextRecord() { records.withLock { $0[uri] = record } }
  }

  func abandonState() { changed.withLock { $0 = nil } }
}

// Id, version and state version as in manifest.json: the kernel compares them.
let plugin = PluginEntry(SwiftBackend.self, id: "org.example.swift-backend", version: "1.0.0") {
  SwiftBackend.create($0, $1, $2)
}
@c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }
