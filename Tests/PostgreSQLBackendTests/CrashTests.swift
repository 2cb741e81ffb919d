import BackendTesting
import Foundation
import PluginAPI
import PostgreSQLBackend
import ServerTesting
import Testing

@Suite(.serialized) struct CrashTests {
  /// Killed while it writes, a node leaves every write in the table that it had acknowledged.
  @Test func killLosesNoAcknowledgedWrite() throws {
    let server = try PostgreSQLServer.shared()
    let database = try server.makeDatabase()
    let process = Process()
    process.executableURL = try Self.writer()
    process.arguments = [server.url(database)]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    var printed = Data()
    while printed.count < 4_000 {
      let piece = output.fileHandleForReading.availableData
      try #require(!piece.isEmpty, "the writer ended by itself")
      printed += piece
    }
    kill(process.processIdentifier, SIGKILL)
    printed += output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    #expect(process.terminationReason == .uncaughtSignal)

    let acknowledged = String(decoding: printed, as: UTF8.self).split(separator: "\n").map(String.init)
    #expect(acknowledged.count > 300)
    let backend = try Fixture.started(server.url(database))
    let lost = acknowledged.filter { backend.read("mutable://open/\($0)").record?.data != Array($0.utf8) }
    #expect(lost == [])
    // A unit is there whole or not at all, acknowledged or not.
    let twins = Set(backend.scan("mutable://open/twin/", limit: 4_096).map { $0.replacing("/twin", with: "") })
    let singles = Set(backend.scan("mutable://open/", limit: 4_096).filter { !$0.contains("/twin/") })
    #expect(twins == singles)
  }

  /// Beside the tests.
  private static func writer() throws -> URL {
    let folder = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
    let folders =
      [Bundle.main.bundleURL, folder]
      + CommandLine.arguments.map { URL(fileURLWithPath: $0).deletingLastPathComponent() }
    return try #require(
      folders.map { $0.appendingPathComponent("PostgreSQLCrashWriter") }
        .first { FileManager.default.isExecutableFile(atPath: $0.path) },
      "PostgreSQLCrashWriter is not built beside the tests")
  }

  /// Instances come and go, also those that cannot start, and leave no connection, thread or descriptor.
  @Test func startsAndStopsLeaveNothingBehind() throws {
    let server = try PostgreSQLServer.shared()
    let database = try server.makeDatabase()
    let client = try server.client(database)
    let count = ProcessInfo.processInfo.environment["BACKPLANE_TEST_POSTGRESQL_STARTS"].flatMap { Int($0) } ?? 60
    func connections() throws -> String? {
      try client.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    }
    func cycle(_ index: Int) throws {
      let backend = try Fixture.started(server.url(database))
      let uri = "mutable://open/\(index)"
      #expect(backend.apply([.put(uri, [1], .bytes)]).code == BP_OK)
      #expect(backend.read(uri).code == BP_OK)
      if index % 4 == 0 { #expect(backend.scan(uri) == [uri]) }
      try backend.stop()
      if index % 10 == 0 { #expect(throws: Refused.self) { _ = try Fixture.started(server.url("nowhere")) } }
    }
    for index in 1...5 { try cycle(index) }
    let before = ProcessCounts.descriptors
    for index in 1...count { try cycle(index) }
    // Other tests of this process open and close descriptors too; a leak would be one for every cycle.
    #expect(ProcessCounts.descriptors < before + count / 2)
    for _ in 0..<6_000 where try connections() != "0" { usleep(10_000) }
    #expect(try connections() == "0")
  }
}
