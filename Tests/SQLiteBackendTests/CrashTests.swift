import BackendTesting
import Foundation
import PluginAPI
import SQLiteBackend
import Testing

@Suite struct CrashTests {
  /// Killed while it writes, a process leaves every write in the file that it had acknowledged.
  @Test(arguments: ["disk", "os"]) func killLosesNoAcknowledgedWrite(_ durability: String) throws {
    let scratch = ScratchDirectory()
    let path = "\(scratch.path)/crash.db"
    let process = Process()
    process.executableURL = try CrashWriter.find()
    process.arguments = ["write", path, durability]
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
    let backend = try TestBackend.started(SQLiteBackend.self, #"{"url":"sqlite://\#(path)"}"#)
    var lost = 0
    for name in acknowledged where backend.read("mutable://open/\(name)").record?.data != Array(name.utf8) { lost += 1 }
    #expect(lost == 0)
    // A unit is there whole or not at all, acknowledged or not.
    let twins = Set(backend.scan("mutable://open/twin/", limit: 4_096).map { $0.replacing("/twin", with: "") })
    let singles = Set(backend.scan("mutable://open/", limit: 4_096).filter { !$0.contains("/twin/") })
    #expect(twins == singles)
  }

  /// With no room left writes fail with a sentence, reads go on, and both work again when there is room.
  @Test func aFullDiskIsSaidAndForgotten() throws {
    let scratch = ScratchDirectory()
    let path = "\(scratch.path)/full.db"
    let process = Process()
    process.executableURL = try CrashWriter.find()
    process.arguments = ["full", path, "disk"]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let printed = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    let lines = printed.split(separator: "\n").map(String.init)
    try #require(lines.count == 6, "\(printed)")
    #expect(lines[0] == "write \(BP_OK)")
    #expect(lines[1] == "write \(BP_RESOURCE_EXHAUSTED)" || lines[1] == "write \(BP_UNAVAILABLE)")
    #expect(lines[2].contains(path))
    #expect(
      lines[3] == "health \(BP_HEALTH_DEGRADED) read \(BP_OK)"
        || lines[3] == "health \(BP_HEALTH_UNHEALTHY) read \(BP_OK)")
    #expect(lines[4] == "write \(BP_OK)")
    #expect(lines[5] == "health \(BP_HEALTH_HEALTHY) read \(BP_OK)")
  }
}

enum CrashWriter {
  /// The tool lies beside the test bundle.
  static func find() throws -> URL {
    let folders =
      [Bundle.main.bundleURL] + CommandLine.arguments.map { URL(fileURLWithPath: $0).deletingLastPathComponent() }
      + [URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()]
    return try #require(
      folders.map { $0.appendingPathComponent("SQLiteCrashWriter") }
        .first { FileManager.default.isExecutableFile(atPath: $0.path) },
      "SQLiteCrashWriter is not built beside the tests")
  }
}
