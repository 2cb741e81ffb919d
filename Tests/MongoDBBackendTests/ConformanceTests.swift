import BackendTesting
import Conformance
import MongoDBBackend
import MongoWireServer
import PluginAPI
import Testing

private let entry = PluginEntry(MongoDBBackend.self, id: "org.backplane.mongodb", version: "0.1.0") {
  MongoDBBackend.create($0, $1, $2)
}

/// The suite behind `backplane plugin check`, against a server that acts as the primary of a replica set.
@Suite(.serialized) struct ConformanceTests {
  @Test func theSuitePasses() async {
    let server = MongoWireServer()
    let scratch = ScratchDirectory()
    let plugin = PluginUnderTest(
      entry: entry.pointer, scratchDirectory: scratch.path, schemes: ["mongodb"],
      configuration: #"{"url":"\#(server.url(options: "replicaSet=rs0"))"}"#)
    let report = await ConformanceSuite(plugin, seed: 11, ownsProcess: false).run()
    #expect(report.failures.map { "\($0.name): \($0.detail)" } == [])
    #expect(report.checks.contains { $0.name == "backend.atomic-units" })
    #expect(server.malformed == [])
    withExtendedLifetime(scratch) {}
  }
}
