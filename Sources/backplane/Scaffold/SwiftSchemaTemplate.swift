/// A schema in Swift.
enum SwiftSchemaTemplate {
  /// The plugin.
  static let code =
    ##"""
    import PluginAPI

    /// One rule: a record below {{slug}}://open is written once.
    final class {{Module}}: Schema {
      let programs = [Program("{{slug}}://open")]

      init(_ configuration: NoConfiguration, _ context: Context) {}

      func judge(_ message: Message, _ reader: JudgeReader) async throws -> Verdict {
        let refusal = "\(message.uriReceived) is there already and is written once"
        if try await reader.read(message.uri) != nil { return .reject(refusal) }
        // On the condition that it is still absent: another message may be on its way.
        return .acceptIf(.absent, otherwise: refusal)
      }
    }

    // Id and version as in manifest.json: the kernel compares them.
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
      @Test func itServesItsProgram() throws {
        let host = try TestHost(entry: plugin.pointer)
        #expect(try host.programs().map(\.key) == ["{{slug}}://open"])
      }

      @Test func aRecordIsWrittenOnce() async throws {
        let node = InMemoryNode()
        let host = try TestHost(entry: plugin.pointer, node: node)
        try await host.start()
        let uri = "{{slug}}://open/a"
        let refusal = "\(uri) is there already and is written once"
        #expect(try await host.judge(uri, [1]) == .accepted([.put(uri, [1], if: .absent, otherwise: refusal)]))
        node.put(uri, [1])
        #expect(try await host.judge(uri, [2]) == .rejected("\(uri) is there already and is written once"))
        // The reads were part of the judgement: they share its deadline and see its earlier ops.
        #expect(node.reads.allSatisfy { $0.parent != 0 })
        try await host.stop()
        #expect(host.violations.isEmpty)
      }
    }

    """##
}
