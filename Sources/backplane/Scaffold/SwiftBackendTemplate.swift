/// A backend in Swift.
enum SwiftBackendTemplate {
  /// The plugin.
  static let code =
    ##"""
    import PluginAPI
    import Synchronization

    /// A backend that keeps its records in memory, and hands them to its successor.
    final class {{Module}}: Backend {
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
    extension {{Module}}: HandsOverState {
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
    let plugin = PluginEntry({{Module}}.self, id: "{{id}}", version: "1.0.0") {
      {{Module}}.create($0, $1, $2)
    }
    @c(backplane_plugin_v1) public func backplanePlugin() -> UnsafePointer<bp_entry> { plugin.pointer }

    """##

  /// Its tests.
  static let tests =
    ##"""
    import PluginAPI
    import PluginTestHost
    import Testing

    @testable import {{Module}}

    @Suite struct {{Module}}Tests {
      /// A started instance.
      func makeHost() async throws -> TestHost {
        let host = try TestHost(entry: plugin.pointer, configuration: #"{"url": "{{slug}}://"}"#)
        try await host.start()
        return host
      }

      @Test func aRecordIsReadAsWrittenAndDeleted() async throws {
        let host = try await makeHost()
        try await host.apply(.put("mutable://open/a", Array("1".utf8)), version: 7)
        let record = try #require(await host.read("mutable://open/a"))
        #expect(record.data == Array("1".utf8))
        #expect(record.version == 7)
        let deleted = try await host.apply(.delete("mutable://open/a"), .delete("mutable://open/b"))
        #expect(deleted.absentCount == 1)
        #expect(try await host.read("mutable://open/a") == nil)
        try await host.stop()
        #expect(host.violations.isEmpty)
      }

      @Test func aUnitIsAppliedWholeOrNotAtAll() async throws {
        let host = try await makeHost()
        await #expect(throws: PreconditionFailed.self) {
          try await host.apply(.put("mutable://open/a", [1]), .put("mutable://open/b", [2], if: .present))
        }
        #expect(try await host.read("mutable://open/a") == nil)
      }

      @Test func aScanGivesEveryRecordBelowThePrefixOnce() async throws {
        let host = try await makeHost()
        for number in 0..<25 { try await host.apply(.put("mutable://open/a/\(number)", [])) }
        try await host.apply(.put("mutable://open/b", []))
        let uris = try await host.scan(prefix: "mutable://open/a/", pageSize: 10).map(\.uri)
        #expect(Set(uris).count == 25 && uris.count == 25)
      }

      @Test func aSuccessorHasEveryRecord() async throws {
        let (old, new) = (try await makeHost(), try await makeHost())
        for uri in ["mutable://open/a", "mutable://open/b"] { try await old.apply(.put(uri, [1])) }
        try await old.handOverState(to: new) {
          // What is written while it is handed over.
          try await old.apply(.delete("mutable://open/a"), .put("mutable://open/c", [2], .bytes))
        }
        #expect(try await new.scan().map(\.uri) == ["mutable://open/b", "mutable://open/c"])
        #expect(try await new.read("mutable://open/c")?.data == [2])
      }

      @Test func anUnknownKeyIsRefusedByName() throws {
        #expect(throws: TestHostError.self) { try TestHost(entry: plugin.pointer, configuration: #"{"pth": "x"}"#) }
      }
    }

    """##
}
