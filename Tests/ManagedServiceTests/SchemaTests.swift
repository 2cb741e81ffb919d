import ManagedNode
import MessageCrypto
import Testing

@testable import ManagedService

/// The configuration's schema.
@Suite struct SchemaTests {
  private let rules = Array(#"{"version":1,"programs":{"mutable://open":"allow"}}"#.utf8)
  private let url = "https://releases.example/rules.yaml"

  private func pinned(_ bytes: [UInt8]) -> String { "\(url)#sha256=\(digest(bytes))" }

  private func slot(_ scene: Scene, _ bytes: [UInt8], _ suffix: String = "yaml") -> String {
    #""managed-schema":{"kind":"schema","plugin":"org.backplane.rules","rules":"${yaml:\#(scene.folder.path)"#
      + #"/schemas/\#(digest(bytes)).\#(suffix)}"}"#
  }

  @Test func oneWithADigestIsFetchedOnce() async throws {
    let scene = try Scene()
    scene.downloads.put(url, rules)
    try scene.publish(scene.configuration(#""schemaModuleUrl":"\#(pinned(rules))""#))
    let manager = scene.manager()
    await manager.pollConfiguration()
    #expect(
      scene.journal.lines == [
        "[managed] Loaded config: \"north\" (v1)", "[managed] Schema loaded from \(url)",
        "[managed] Backends hot-swapped from config", "[managed] Managed mode active",
      ])
    #expect(scene.kernel.proposals.count == 1)
    #expect(scene.kernel.proposals[0].hasPrefix(#"{"replaces":["backend","schema"]"#))
    #expect(scene.kernel.proposals[0].contains(slot(scene, rules)))
    #expect(StateFiles(scene.folder.path).read("schemas/\(digest(rules)).yaml") == rules)
    await manager.pollSchema()
    #expect(scene.downloads.askedCount == 1)
    #expect(scene.kernel.proposals.count == 1)
  }

  @Test func theNetworkIsNotTrustedWithoutADigest() async throws {
    let scene = try Scene()
    scene.downloads.put(url, rules)
    try scene.publish(scene.configuration(#""schemaModuleUrl":"\#(url)""#))
    await scene.manager().pollConfiguration()
    #expect(scene.downloads.askedCount == 0)
    #expect(scene.journal.lines[1].hasPrefix("[managed] Failed to load schema module: \(url) comes over the network"))
    #expect(scene.journal.lines[2] == "[managed] Using Phase 1 schema")
    #expect(scene.journal.lines[3] == "[managed] Backends hot-swapped from config")
    // The rest of the configuration holds.
    #expect(scene.kernel.proposals.count == 1 && !scene.kernel.proposals[0].contains("schema"))

    let wrong = try Scene()
    wrong.downloads.put(url, Array("x".utf8))
    try wrong.publish(wrong.configuration(#""schemaModuleUrl":"\#(pinned(rules))""#))
    let manager = wrong.manager()
    await manager.pollConfiguration()
    #expect(wrong.journal.lines[1].contains("has the SHA-256 \(digest(Array("x".utf8)))"))
    #expect(wrong.meter.health?.hasPrefix("the schema is not the configuration's: ") == true)
    await manager.writeStatus()
    #expect(try wrong.statuses().last?.status == .degraded)
    // It is there a minute later.
    wrong.downloads.put(url, rules)
    wrong.journal.forget()
    await manager.pollSchema()
    #expect(
      wrong.journal.lines == ["[managed] Schema module changed: \(url)", "[managed] Client rebuilt with new schema"])
    #expect(wrong.meter.health == nil)
  }

  @Test func newContentUnderTheSameURLIsNoticed() async throws {
    let scene = try Scene(#""schema_checksum":"optional""#)
    scene.downloads.put(url, rules, tag: "\"1\"")
    try scene.publish(scene.configuration(#""schemaModuleUrl":"\#(url)""#))
    let manager = scene.manager()
    await manager.pollConfiguration()
    await manager.pollSchema()
    #expect(scene.downloads.state.withLock { $0.asked.map(\.tag) } == [nil, "\"1\""])
    #expect(scene.kernel.proposals.count == 1)
    let newer = rules + [0x20]
    scene.downloads.put(url, newer, tag: "\"2\"")
    scene.journal.forget()
    await manager.pollSchema()
    #expect(scene.kernel.proposals.last?.contains(slot(scene, newer)) == true)
    #expect(
      scene.journal.lines == ["[managed] Schema module changed: \(url)", "[managed] Client rebuilt with new schema"])
    #expect(StateFiles(scene.folder.path).names(in: "schemas") == ["\(digest(newer)).yaml"])
    // The next one does not work: the one before stays, and this is said once.
    scene.kernel.judge { _ in .refused(reason: "/rules/programs is missing") }
    scene.downloads.put(url, Array("version: 1".utf8))
    scene.journal.forget()
    await manager.pollSchema()
    await manager.pollSchema()
    #expect(scene.journal.lines == ["[managed] Schema module error: /rules/programs is missing"])
    #expect(await manager.inForce?.schema?.digest == digest(newer))
    #expect(StateFiles(scene.folder.path).exists("schemas/\(digest(newer)).yaml"))
  }

  @Test func aSchemaThatTheKernelRefusesHoldsNothingUp() async throws {
    let scene = try Scene()
    scene.kernel.judge { $0.contains("managed-schema") ? .refused(reason: "bad schema") : .inPlace }
    try scene.publish(scene.configuration(#""schemaInline":{"mutable://open":{}}"#))
    let manager = scene.manager()
    await manager.pollConfiguration()
    #expect(scene.kernel.proposals.count == 2)
    #expect(
      scene.journal.lines == [
        "[managed] Loaded config: \"north\" (v1)", "[managed] Failed to load schema module: bad schema",
        "[managed] Using Phase 1 schema", "[managed] Backends hot-swapped from config", "[managed] Managed mode active",
      ])
    #expect(await manager.inForce?.schema == nil)
    // Not both: then it is the backends that are wrong.
    scene.kernel.judge { _ in .refused(reason: "bad backend") }
    try scene.publish(scene.configuration(name: "b", #""schemaInline":{"mutable://open":{}}"#))
    await manager.pollConfiguration()
    #expect(scene.journal.lines.last == "[managed] Failed to apply config: bad backend")
  }

  @Test func inlineRulesAreAFileOfRules() async throws {
    let scene = try Scene()
    try scene.publish(scene.configuration(#""schemaInline":\#(text(rules))"#))
    let manager = scene.manager()
    await manager.pollConfiguration()
    #expect(scene.kernel.proposals.last?.contains(slot(scene, rules, "json")) == true)
    #expect(scene.journal.lines.contains("[managed] Schema loaded from schemaInline"))
    // Taken out of the configuration, it is the schema of the layers below again.
    try scene.publish(scene.configuration(name: "b"))
    await manager.pollConfiguration()
    #expect(scene.kernel.proposals.last?.contains("managed-schema") == false)
    #expect(StateFiles(scene.folder.path).names(in: "schemas").isEmpty)
  }

  @Test func whatCannotBeLoadedSaysWhatCan() async throws {
    for (name, part) in [
      ("https://x.example/schema.ts", "JavaScript or TypeScript"), ("./schema.mjs", "JavaScript or TypeScript"),
      ("schema.js?x=1", "JavaScript or TypeScript"), ("/etc/passwd", "neither a schema plugin"),
      ("ftp://x.example/a.so", "neither a path nor a URL"), ("/tmp/a.so#md5=1", "must be sha256="),
      ("/nowhere/rules.yaml", "no such file"),
    ] {
      let scene = try Scene()
      try scene.publish(scene.configuration(#""schemaModuleUrl":"\#(name)""#))
      await scene.manager().pollConfiguration()
      #expect(scene.journal.lines[1].contains(part), "\(name): \(scene.journal.lines[1])")
      #expect(scene.journal.lines[3] == "[managed] Backends hot-swapped from config", "\(name)")
    }
  }

  @Test func pluginsOnThisMachineStayWhereTheyAre() async throws {
    let scene = try Scene()
    let path = scene.folder.path + "/schema.so"
    let files = StateFiles(scene.folder.path)
    try files.write("schema.so", [1, 2, 3])
    try scene.publish(scene.configuration(#""schemaModuleUrl":"file://\#(path)""#))
    let manager = scene.manager()
    await manager.pollConfiguration()
    #expect(scene.kernel.proposals.last?.contains(#""plugin_path":"\#(path)""#) == true)
    try files.write("schema.so", [1, 2, 4])
    await manager.pollSchema()
    #expect(scene.kernel.proposals.count == 2)
    // With a digest it is copied, so that nothing can be put in its place.
    try scene.publish(scene.configuration(#""schemaModuleUrl":"\#(path)#sha256=\#(digest([1, 2, 4]))""#))
    await manager.pollConfiguration()
    #expect(
      scene.kernel.proposals.last?.contains(
        #""plugin_path":"\#(scene.folder.path)/schemas/\#(digest([1, 2, 4])).so""#) == true)
  }
}
