import PluginAPI
import PluginTestHost
import Testing

@testable import SwiftSchema

@Suite struct SwiftSchemaTests {
  @Test func itServesItsProgram() throws {
    let host = try TestHost(entry: plugin.pointer)
    #expect(try host.programs().map(\.key) == ["swift-schema://open"])
  }

  @Test func aRecordIsWrittenOnce() async throws {
    let node = InMemoryNode()
    let host = try TestHost(entry: plugin.pointer, node: node)
    try await host.start()
    let uri = "swift-schema://open/a"
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
