import BackendTesting
import PluginAPI
import SQLiteBackend
import Testing

@Suite struct CrashTests {
  /// Killed while it writes, a process leaves every write in the file that it had acknowledged.
  @Test(arguments: ["disk", "os"]) func killLosesNoAcknowledgedWrite(_ durability: String) throws {
    let scratch = ScratchDirectory()
    let path = "\(scratch.path)/crash.db"
    let trial = CrashTrial(backend: "sqlite", path: path, durability: durability)
    let acknowledged = try trial.kill(afterBytes: 4_000)
    #expect(acknowledged.wasKilled && acknowledged.written.count > 200)
    let backend = try TestBackend.started(SQLiteBackend.self, #"{"url":"sqlite://\#(path)"}"#)
    #expect(CrashTrial.faults(acknowledged, in: backend) == [])
  }

  /// With no room left writes fail with a sentence, reads go on, and both work again when there is room.
  @Test func aFullDiskIsSaidAndForgotten() throws {
    let scratch = ScratchDirectory()
    let path = "\(scratch.path)/full.db"
    let lines = try CrashTrial(backend: "sqlite", path: path, durability: "disk").run("outgrow")
    try #require(lines.count == 6, "\(lines)")
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
