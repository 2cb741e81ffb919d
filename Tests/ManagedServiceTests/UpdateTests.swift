import ManagedNode
import MessageCrypto
import Testing

@testable import ManagedService

/// The smallest file that says of itself that it is a plugin.
func pluginFile(id: String = "org.backplane.memory", version: String = "1.2.0") -> [UInt8] {
  func number(_ value: Int, _ size: Int) -> [UInt8] { (0..<size).map { UInt8(value >> (8 * $0) & 0xFF) } }
  let json = Array(#"{"id":"\#(id)","version":"\#(version)"}"#.utf8)
  var note: [UInt8] = []
  for field in [10, json.count, 1] { note += number(field, 4) }
  note += Array("Backplane\0\0\0".utf8)
  note += json
  while note.count % 4 != 0 { note.append(0) }
  // The header, with one entry in the table of segments behind it.
  var file: [UInt8] = [0x7F, 0x45, 0x4C, 0x46, 2, 1]
  file += [UInt8](repeating: 0, count: 58)
  file.replaceSubrange(32..<40, with: number(64, 8))
  file.replaceSubrange(54..<56, with: number(56, 2))
  file.replaceSubrange(56..<58, with: number(1, 2))
  // PT_NOTE, readable; where in the file, where in memory twice, how long there and here, alignment.
  for field in [4, 4] { file += number(field, 4) }
  for field in [120, 0, 0, note.count, note.count, 4] { file += number(field, 8) }
  return file + note
}

/// Software that the operator has published.
@Suite struct UpdateTests {
  private let url = "https://releases.example/memory-1.2.0.so"

  private func manifest(_ file: [UInt8], version: String = "1.2.0", notes: String? = nil) -> UpdateManifest {
    UpdateManifest(version: version, moduleUrl: url, checksum: digest(file), releaseNotes: notes)
  }

  private func memory(_ scene: Scene, version: String) {
    scene.node.state.withLock { state in
      for index in state.slots.indices where state.slots[index].kind == "backend" {
        state.slots[index].plugin = "org.backplane.memory"
        state.slots[index].version = version
      }
    }
  }

  @Test func oneIsAnnouncedOnce() async throws {
    let scene = try Scene()
    try scene.publishUpdate(manifest(pluginFile()))
    for _ in 0..<2 { await scene.manager().checkForUpdate() }
    #expect(
      scene.journal.lines == [
        "[managed] Update available: v1.2.0 at \(url)", "[managed] Release notes: (none)",
      ])
    #expect(scene.downloads.askedCount == 0)
    // A downgrade is news as well.
    try scene.publishUpdate(manifest(pluginFile(), version: "1.1.0", notes: "back"))
    await scene.manager().checkForUpdate()
    #expect(scene.journal.lines.last == "[managed] Release notes: back")
  }

  @Test func onlyTheOperatorAnnounces() async throws {
    let scene = try Scene()
    let manager = scene.manager()
    try scene.publishUpdate(manifest(pluginFile()), by: Ed25519.KeyPair())
    await manager.checkForUpdate()
    scene.store.put(scene.updateURI, manifest(pluginFile()).text)
    await manager.checkForUpdate()
    #expect(scene.journal.count("Update available") == 0)
    #expect(
      scene.journal.lines == [
        "[managed] Update check error: Update at \(scene.updateURI) has no valid signature from operator "
          + scene.cast.operatorKey,
        "[managed] Update check error: Update at \(scene.updateURI) is not a signed AuthenticatedMessage",
      ])
  }

  @Test func oneIsStaged() async throws {
    let scene = try Scene(#""updates":"stage""#)
    let file = pluginFile()
    try scene.publishUpdate(manifest(file))
    let manager = scene.manager()
    // Not there yet: it is tried again.
    await manager.checkForUpdate()
    #expect(scene.journal.lines.last == "[managed] Update check error: \(url) answers with status 404")
    scene.downloads.put(url, file)
    await manager.checkForUpdate()
    #expect(StateFiles(scene.folder.path).read("updates/\(digest(file)).so") == file)
    #expect(!StateFiles(scene.folder.path).exists("plugins.d"))
    #expect(scene.meter.updates == ["announced", "staged"])
    let asked = scene.downloads.askedCount
    await scene.manager().checkForUpdate()
    #expect(scene.downloads.askedCount == asked && scene.kernel.proposals.isEmpty)
  }

  @Test func whatIsWrongIsNotTriedAgain() async throws {
    let file = pluginFile()
    for (manifest, part) in [
      (UpdateManifest(version: "1", moduleUrl: url, checksum: digest([1])), "has the SHA-256"),
      (UpdateManifest(version: "1", moduleUrl: url, checksum: "abc123"), "its checksum is not the SHA-256"),
      (UpdateManifest(version: "1", moduleUrl: "https://x.example/a.ts", checksum: digest(file)), "is no plugin (.so)"),
    ] {
      let scene = try Scene(#""updates":"stage""#)
      scene.downloads.put(url, file)
      try scene.publishUpdate(manifest)
      let manager = scene.manager()
      await manager.checkForUpdate()
      #expect(scene.journal.lines.last?.contains(part) == true, "\(scene.journal.lines)")
      let count = scene.journal.lines.count
      let asked = scene.downloads.askedCount
      await manager.checkForUpdate()
      await scene.manager().checkForUpdate()
      #expect(scene.journal.lines.count == count && scene.downloads.askedCount == asked)
      await manager.writeStatus()
      #expect(try scene.statuses().last?.problem?.contains(part) == true)
    }
    let scene = try Scene(#""updates":"stage""#)
    scene.downloads.put(url, [1, 2, 3])
    try scene.publishUpdate(manifest([1, 2, 3]))
    await scene.manager().checkForUpdate()
    #expect(scene.journal.lines.last?.contains("is no Backplane plugin") == true)
  }

  @Test func oneIsApplied() async throws {
    let scene = try Scene(#""updates":"apply""#)
    let file = pluginFile()
    scene.downloads.put(url, file)
    try scene.publishUpdate(manifest(file))
    memory(scene, version: "1.0.0")
    let manager = scene.manager()
    // There is no configuration to propose again: it waits.
    await manager.checkForUpdate()
    #expect(scene.kernel.proposals.isEmpty)
    try scene.publish(scene.configuration())
    await manager.pollConfiguration()
    let node = scene.node
    scene.kernel.judge { _ in
      node.state.withLock { $0.slots[1].version = "1.2.0" }
      return .inPlace
    }
    await manager.checkForUpdate()
    #expect(StateFiles(scene.folder.path).read("plugins.d/org.backplane.memory.so") == file)
    #expect(scene.kernel.proposals.count == 2 && scene.kernel.proposals[0] == scene.kernel.proposals[1])
    #expect(scene.journal.lines.last == "[managed] Update v1.2.0 of org.backplane.memory applied to memory")
    await manager.checkForUpdate()
    #expect(scene.kernel.proposals.count == 2)
    // The kernel goes back to the old one: so does the folder.
    memory(scene, version: "1.0.0")
    await manager.checkForUpdate()
    #expect(!StateFiles(scene.folder.path).exists("plugins.d/org.backplane.memory.so"))
    #expect(scene.journal.lines.last?.contains("it was rolled back to the version 1.0.0") == true)
    #expect(scene.meter.updates == ["announced", "staged", "applied", "rolled_back"])
    await manager.writeStatus()
    #expect(try scene.statuses().last?.status == .degraded)
    await manager.checkForUpdate()
    #expect(scene.kernel.proposals.count == 2)
  }

  @Test func oneThatTheKernelRefusesIsTakenBack() async throws {
    let scene = try Scene(#""updates":"apply""#)
    let good = pluginFile()
    let bad = pluginFile(version: "1.3.0")
    let node = scene.node
    memory(scene, version: "1.0.0")
    try scene.publish(scene.configuration())
    let manager = scene.manager()
    await manager.pollConfiguration()
    scene.kernel.judge { _ in
      node.state.withLock { $0.slots[1].version = "1.2.0" }
      return .inPlace
    }
    scene.downloads.put(url, good)
    try scene.publishUpdate(manifest(good))
    await manager.checkForUpdate()
    scene.kernel.judge { _ in .refused(reason: "its self-test failed") }
    scene.downloads.put(url, bad)
    try scene.publishUpdate(manifest(bad, version: "1.3.0"))
    await manager.checkForUpdate()
    #expect(StateFiles(scene.folder.path).read("plugins.d/org.backplane.memory.so") == good)
    #expect(scene.journal.lines.last == "[managed] Update v1.3.0 failed: its self-test failed")
    let count = scene.kernel.proposals.count
    await manager.checkForUpdate()
    #expect(scene.kernel.proposals.count == count)
    // A new manifest is a new attempt.
    let third = pluginFile(version: "1.4.0")
    scene.kernel.judge { _ in
      node.state.withLock { $0.slots[1].version = "1.4.0" }
      return .inPlace
    }
    scene.downloads.put(url, third)
    try scene.publishUpdate(manifest(third, version: "1.4.0"))
    await manager.checkForUpdate()
    #expect(StateFiles(scene.folder.path).read("plugins.d/org.backplane.memory.so") == third)
    #expect(scene.meter.health == nil)
  }

  @Test func aFileThatLiesIsRead() {
    let file = pluginFile()
    #expect(PluginNote(file)?.id == "org.backplane.memory")
    #expect(PluginNote(file)?.version == "1.2.0")
    // Its id becomes the name of a file.
    #expect(PluginNote(pluginFile(id: "../../etc/x")) == nil)
    var random = SystemRandomNumberGenerator()
    for length in 0..<file.count { #expect(PluginNote(Array(file[..<length])) == nil) }
    for _ in 0..<2_000 {
      var other = file
      for _ in 0..<4 { other[Int.random(in: 0..<120, using: &random)] = UInt8.random(in: 0...255, using: &random) }
      _ = PluginNote(other)
    }
  }
}
