import BackendSupport
import BackendTesting
import FilesBackend
import Foundation
import PluginAPI
import Testing

@testable import FilesBackend

@Suite struct CrashTests {
  let scratch = ScratchDirectory()
  var folder: Folder { Folder(scratch) }

  /// Killed again and again while it writes, a process leaves every write in place that it had acknowledged.
  @Test(arguments: ["disk", "os"]) func killLosesNoAcknowledgedWrite(_ durability: String) throws {
    let trial = CrashTrial(backend: "files", path: folder.path, durability: durability)
    var random = SeededGenerator(seed: 7)
    var rounds: [CrashTrial.Acknowledged] = []
    for round in 0..<6 {
      rounds.append(try trial.kill(afterBytes: Int.random(in: 1...900, using: &random), round: round))
      #expect(rounds[round].wasKilled)
    }
    let backend = try files(scratch)
    for round in rounds { #expect(CrashTrial.faults(round, in: backend) == []) }
    #expect(rounds.reduce(0) { $0 + $1.written.count } > 50)
    // Nothing of what was under way is left.
    #expect(folder.read(".backplane/staging/1") == nil)
  }

  @Test func aLimitThatIsHitIsSaidAndForgotten() throws {
    let lines = try CrashTrial(backend: "files", path: folder.path, durability: "disk").run("outgrow")
    try #require(lines.count == 6, "\(lines)")
    #expect(lines[0] == "write \(BP_OK)")
    #expect(lines[1] == "write \(BP_RESOURCE_EXHAUSTED)")
    #expect(lines[2].contains(folder.path) && lines[2].contains("LimitFSIZE"))
    #expect(lines[3] == "health \(BP_HEALTH_DEGRADED) read \(BP_OK)")
    #expect(lines[4] == "write \(BP_OK)")
    #expect(lines[5] == "health \(BP_HEALTH_HEALTHY) read \(BP_OK)")
  }

  /// On a full disk something can still be deleted, and then there is room. (Where nobody may mount a small filesystem,
  /// the test above has to do.)
  @Test func aFullDiskIsSaidAndCanBeEmptied() throws {
    guard try Shell.output("unshare", ["-rm", "true"]) != nil else { return }
    let wrapper = [
      "unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=4m tmpfs '\(scratch.path)' && exec \"$0\" \"$@\"",
    ]
    let lines = try CrashTrial(backend: "files", path: folder.path, durability: "disk").run("fill", under: wrapper)
    try #require(lines.count == 4, "\(lines)")
    #expect(lines[0].hasPrefix("full \(BP_RESOURCE_EXHAUSTED) ") && lines[0].contains("make room there"))
    #expect(lines[1] == "delete [0, 0, 0, 0]")
    #expect(lines[2] == "write \(BP_OK)")
    #expect(lines[3] == "lost []")
  }

  // MARK: The log

  /// A store as it serves, and what a crash leaves of it when it is let go.
  private final class Held {
    let root: OpenRoot
    let writer: UnitWriter
    let gate = PlacementGate()

    init(_ settings: FilesSettings, willPlace: @escaping () -> Void = {}) throws {
      root = try OpenRoot(settings)
      writer = try UnitWriter(root, settings, gate, willPlace: willPlace)
    }

    func write(_ ops: [Op], _ count: UInt64) -> UnitOutcome {
      writer.write([
        LocalUnit(ops, timestampMs: KernelStamp.timestampMs, version: KernelStamp.version(count))
      ])[0]
    }
  }

  private var settings: FilesSettings { FilesSettings(path: folder.path) }

  /// After a crash of the machine files may be anything; the log has them.
  @Test func whatIsInTheLogIsPutInPlace() throws {
    do {
      let held = try Held(settings)
      #expect(held.write([.put("a://b/1", [1]), .put("a://b/2", [2])], 1) == .applied(absentCount: 0))
      #expect(held.write([.put("a://b/3", [3], .bytes)], 2) == .applied(absentCount: 0))
      #expect(held.write([.delete("a://b/1"), .delete("a://b/x")], 3) == .applied(absentCount: 1))
      #expect(held.write([.put("a://b/4", [4])], 4) == .applied(absentCount: 0))
    }
    // As files of which the disk knows the name and not the bytes.
    for name in ["a/b/2.json", "a/b/3.bytes"] {
      try folder.write(name, "")
      folder.setTime(name, 1_000)
    }
    try folder.remove("a/b/4.json")
    try folder.write(".backplane/staging/77", "left over")
    let backend = try files(scratch)
    #expect(backend.scan("") == ["a://b/2", "a://b/3", "a://b/4"])
    for (name, byte) in [("2", 2), ("3", 3), ("4", 4)] as [(String, UInt8)] {
      #expect(backend.read("a://b/\(name)").record?.data == [byte])
    }
    #expect(backend.read("a://b/4").record?.version == KernelStamp.version(4))
    #expect(folder.read(".backplane/staging/77") == nil)
    // And only once: what a person removes now stays away.
    try folder.remove("a/b/4.json")
    try backend.stop()
    #expect(folder.read(".backplane/log") == [])
    #expect(try files(scratch).scan("") == ["a://b/2", "a://b/3"])
  }

  @Test func whatAPersonChangedLaterStays() throws {
    do {
      let held = try Held(settings)
      #expect(held.write([.put("a://b/1", [1]), .put("a://b/2", [2])], 1) == .applied(absentCount: 0))
      #expect(held.write([.delete("a://b/2")], 2) == .applied(absentCount: 0))
    }
    try folder.write("a/b/1.json", "edited")
    try folder.write("a/b/2.json", "new")
    let backend = try files(scratch)
    #expect(backend.read("a://b/1").record?.data == Array("edited".utf8))
    #expect(backend.read("a://b/2").record?.data == Array("new".utf8))
  }

  /// The last unit was not whole on the disk when the machine went down; and what an earlier round of the log left is
  /// not taken for what follows.
  @Test func aTornEndOfTheLogIsNoUnit() throws {
    do {
      let held = try Held(settings)
      for number in 1...3 {
        #expect(held.write([.put("a://b/\(number)", [1])], UInt64(number)) == .applied(absentCount: 0))
      }
      try held.writer.checkpoint()
      // As long as the first of the three, which it takes the place of.
      #expect(held.write([.put("a://c/1", [1])], 9) == .applied(absentCount: 0))
      #expect(held.write([.put("a://c/2", [2]), .put("a://c/3", [3])], 10) == .applied(absentCount: 0))
    }
    try folder.remove("a")
    var log = try #require(folder.read(".backplane/log"))
    let end = try #require(Data(log).range(of: Data("a://c/3".utf8))).upperBound
    log[end] ^= 1
    try Data(log).write(to: URL(fileURLWithPath: "\(folder.path)/.backplane/log"))
    #expect(try files(scratch).scan("") == ["a://c/1"])
  }

  /// Logged, and then something comes in the way: nobody reads half of it, and it is put in place as soon as it can be.
  @Test func whatCannotBePlacedIsPlacedLater() throws {
    let obstacle = "\(folder.path)/a/b/2.json"
    nonisolated(unsafe) var isInTheWay = true
    let held = try Held(settings) {
      if isInTheWay { mkdir(obstacle, 0o700) }
    }
    let reader = RecordReader(tree: held.root.tree, gate: held.gate, sizeBytesMax: 1_024)
    func data(_ uri: String) throws -> [UInt8]? {
      try uri.withView { try reader.find($0.bytes, isWithoutData: false)?.taken().data }
    }
    let unit = [Op.put("a://b/1", [1]), .put("a://b/2", [2]), .put("a://b/3", [3])]
    guard case .failed(let failure) = held.write(unit, 1) else { throw Unexpected() }
    #expect(failure.code == BP_UNAVAILABLE && failure.message.contains("2.json") && failure.isRetryable)
    #expect(held.gate.isStuck && held.writer.takeProblem()?.concernsAll == true)
    // Still in the way: nothing else is written either.
    guard case .failed = held.write([.put("a://b/9", [9])], 2) else { throw Unexpected() }
    isInTheWay = false
    rmdir(obstacle)
    #expect(held.write([.put("a://b/1", [7], if: .version(KernelStamp.version(1)))], 3) == .applied(absentCount: 0))
    #expect(!held.gate.isStuck)
    #expect(try data("a://b/1") == [7] && data("a://b/2") == [2] && data("a://b/3") == [3] && data("a://b/9") == nil)
  }

  private struct Unexpected: Error {}
}
