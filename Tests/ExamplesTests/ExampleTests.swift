import Foundation
import NodeTesting
import Testing

/// The examples as a user would use them: copied out of the tree, built with the headers or the PluginAPI package alone,
/// dropped into a running node, written to, replaced by a second version, and removed.
@Suite(.serialized) struct ExampleTests {
  // The reloads are asked for, so that each receipt is the one of the step before it.
  private static let quiet = "reload: { watch: false, settle_ms: 0 }\n"

  @Test func aBackendInSwift() throws {
    try live(PluginProject(example: "SwiftBackend", .swift, slug: "swift-backend"), handsStateOver: true) { project in
      try project.edit(
        "{ records.withLock { $0[uri] } }",
        "{ try await get(uri).map { Record(data: Array(#\"\"two\"\"#.utf8), content: .json, timestampMs: $0.timestampMs, "
          + "version: $0.version) } }\n  func get(_ uri: String) async throws -> Record? { records.withLock { $0[uri] } }"
      )
    }
  }

  @Test func aBackendInC() throws {
    try live(PluginProject(example: "CBackend", .c, slug: "c-backend")) { project in
      try project.edit("found->version, found->data}", "found->version, text(\"\\\"two\\\"\")}")
    }
  }

  @Test(.enabled(if: Workshop.has("rustc"), "rustc is not on this machine"))
  func aBackendInRust() throws {
    try live(PluginProject(example: "RustBackend", .rust, slug: "rust-backend")) { project in
      try project.edit("View::of(&record.data)", "View::of(b\"\\\"two\\\"\")")
    }
  }

  /// The life of a backend. `second` makes its source version 2, whose every record reads as "two".
  private func live(
    _ project: PluginProject, handsStateOver: Bool = false, _ second: (PluginProject) throws -> Void
  ) throws {
    let library = try project.build()
    let node = try NodeProcess(
      configuration: "slots:\n  memory: { kind: backend, url: 'memory://' }\n" + Self.quiet)
    let (slot, file) = ("example", "\(project.slug).so")
    let before = try node.slots()

    try PluginFile.drop(library, into: node.pluginsDirectory, as: file)
    // Read before the memory backend, so that what is read is what the example keeps.
    try node.folder.write(
      "slots:\n  \(slot): { kind: backend, url: '\(project.slug)://', order: -10 }\n", to: "conf.d/example.yaml")
    #expect(try node.change(of: slot) == "added 1.0.0")
    #expect(try node.slots().contains(slot))
    #expect(try node.receive("mutable://open/a", "\"one\"").status == 200)
    #expect(try node.read("mutable/open/a") == "one")

    try project.edit("1.0.0", "2.0.0")
    try second(project)
    try PluginFile.drop(try project.build(), into: node.pluginsDirectory, as: file)
    if handsStateOver {
      #expect(try node.change(of: slot) == "replaced 1.0.0 by 2.0.0")
      // The second version has the record of the first: without it the memory backend would answer.
      #expect(try node.read("mutable/open/a") == "two")
    } else {
      // Its records are in memory: the node wants to be told that they may go, and serves as before until then.
      let refusals = try node.refusals()
      #expect(refusals.map(\.code) == ["slot.would-lose-state"], "\(refusals)")
      #expect(try node.read("mutable/open/a") == "one")
      #expect(try node.change(of: slot, ["--lose-state"]) == "replaced 1.0.0 by 2.0.0")
    }
    #expect(try node.receive("mutable://open/b", "\"one\"").status == 200)
    #expect(try node.read("mutable/open/b") == "two")

    try FileManager.default.removeItem(atPath: node.folder.path + "/conf.d/example.yaml")
    try FileManager.default.removeItem(atPath: "\(node.pluginsDirectory)/\(file)")
    #expect(try node.change(of: slot, ["--lose-state"]) == "removed")
    #expect(try node.slots() == before)
    // What is read now is what the memory backend has kept all along.
    #expect(try node.read("mutable/open/b") == "one")
    #expect(node.stop() == 0, "\(node.log)")
  }

  @Test func aSchemaInSwift() throws {
    try judge(
      PluginProject(example: "SwiftSchema", .swift, slug: "swift-schema"),
      refusal: "swift-schema://open/a is there already and is written once")
  }

  @Test func aSchemaInC() throws {
    try judge(
      PluginProject(example: "CSchema", .c, slug: "c-schema"),
      refusal: "the record is there already and is written once")
  }

  @Test func aServiceInSwift() throws {
    try beat(PluginProject(example: "SwiftService", .swift, slug: "swift-service"))
  }

  @Test func aServiceInC() throws {
    try beat(PluginProject(example: "CService", .c, slug: "c-service"))
  }

  /// The life of a service, which writes by itself. Version 2 writes something else.
  private func beat(_ project: PluginProject) throws {
    let library = try project.build()
    let node = try NodeProcess(
      configuration: "slots:\n  memory: { kind: backend, url: 'memory://' }\n" + Self.quiet)
    let (slot, file) = ("example", "\(project.slug).so")
    let before = try node.slots()
    try PluginFile.drop(library, into: node.pluginsDirectory, as: file)
    try node.folder.write(
      "slots:\n  \(slot): { kind: service, plugin: org.example.\(project.slug), interval_ms: 20 }\n",
      to: "conf.d/example.yaml")
    #expect(try node.change(of: slot) == "added 1.0.0")
    func record() throws -> String {
      try HTTPConnection(port: node.port).get("/api/v1/read/mutable/open/\(project.slug)").text
    }
    #expect(try Polling.until(seconds: 60) { try beats(record()) >= 3 && record().contains(#""state":"up""#) })

    try project.edit("1.0.0", "2.0.0")
    try project.edit("\"up\"", "\"two\"")
    try PluginFile.drop(try project.build(), into: node.pluginsDirectory, as: file)
    #expect(try node.change(of: slot) == "replaced 1.0.0 by 2.0.0")
    #expect(try Polling.until(seconds: 60) { try record().contains(#""state":"two""#) })

    try FileManager.default.removeItem(atPath: node.folder.path + "/conf.d/example.yaml")
    try FileManager.default.removeItem(atPath: "\(node.pluginsDirectory)/\(file)")
    #expect(try node.change(of: slot) == "removed")
    #expect(try node.slots() == before)
    #expect(node.stop() == 0, "\(node.log)")
  }

  private func beats(_ record: String) -> Int {
    guard let at = record.range(of: #""beats":"#) else { return 0 }
    return Int(record[at.upperBound...].prefix { $0.isNumber }) ?? 0
  }

  /// The life of a schema that SCHEMA_MODULE names. Version 2 gives another reason.
  private func judge(_ project: PluginProject, refusal: String) throws {
    let library = try project.build()
    let folder = try TemporaryFolder()
    let file = "\(project.slug).so"
    try PluginFile.drop(library, into: folder.path, as: file)
    let node = try NodeProcess(
      folder: folder,
      environment: [
        "SCHEMA_MODULE": "\(folder.path)/\(file)", "BACKPLANE_RELOAD_WATCH": "false", "BACKPLANE_RELOAD_SETTLE_MS": "0",
        "BACKPLANE_RELOAD_REMOVAL_GRACE_MS": "0",
      ])
    let uri = "\(project.slug)://open/a"
    #expect(try node.receive(uri, "1").status == 200)
    let second = try node.receive(uri, "2")
    #expect(second.status != 200 && second.text.contains(refusal), "\(second)")
    // It serves its own program and no other.
    #expect(try node.receive("mutable://open/a", "1").status != 200)

    try project.edit("1.0.0", "2.0.0")
    try project.edit("is written once\"", "is never written twice\"")
    try PluginFile.drop(try project.build(), into: folder.path, as: file)
    #expect(try node.change(of: "schema") == "replaced 1.0.0 by 2.0.0")
    let third = try node.receive(uri, "3")
    #expect(third.status != 200 && third.text.contains("is never written twice"), "\(third)")

    // Its file is gone: the reload says so, and what serves goes on.
    try FileManager.default.removeItem(atPath: "\(folder.path)/\(file)")
    let refusals = try node.refusals()
    #expect(refusals.contains { $0.message.contains(file) }, "\(refusals)")
    #expect(try node.receive("\(project.slug)://open/b", "1").status == 200)
    #expect(node.stop() == 0, "\(node.log)")
  }
}
