import BackendTesting
import Conformance
import MongoDBBackend
import PluginAPI
import Testing

private let entry = PluginEntry(MongoDBBackend.self, id: "org.backplane.mongodb", version: "0.1.0") {
  MongoDBBackend.create($0, $1, $2)
}

/// The suite behind `backplane plugin check`.
@Suite(.serialized) struct ConformanceTests {
  @Test(arguments: [Place.replicaSet] + Place.withTransactions.dropFirst(2)) func theSuitePasses(_ place: Place) async {
    let (url, server) = place.open()
    let scratch = ScratchDirectory()
    let plugin = PluginUnderTest(
      entry: entry.pointer, scratchDirectory: scratch.path, schemes: ["mongodb"],
      configuration: #"{"url":"\#(url)"}"#)
    let report = await ConformanceSuite(plugin, seed: 11, ownsProcess: false).run()
    #expect(report.failures.map { "\($0.name): \($0.detail)" } == [])
    #expect(report.checks.contains { $0.name == "backend.atomic-units" })
    if let server { #expect(server.malformed == []) }
    withExtendedLifetime(scratch) {}
  }
}
