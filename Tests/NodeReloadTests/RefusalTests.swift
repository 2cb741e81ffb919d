import Foundation
import NodeTesting
import Testing

/// What must be true after every refusal: it is told, and what served goes on serving.
private func expectRefusal(
  _ toy: ToyNode, _ code: String, _ parts: [String], _ receipt: TestReceipt,
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  #expect(receipt.outcome == "refused", "\(receipt)", sourceLocation: sourceLocation)
  #expect(receipt.generation == receipt.generationBefore, sourceLocation: sourceLocation)
  #expect(receipt.changes.isEmpty, sourceLocation: sourceLocation)
  let refusal = receipt.refusals.first { $0.code == code }
  #expect(refusal != nil, "no \(code) in \(receipt)", sourceLocation: sourceLocation)
  for part in parts {
    #expect(
      refusal?.message.contains(part) == true, "'\(part)' is not in: \(refusal?.message ?? "")",
      sourceLocation: sourceLocation)
  }
  #expect(try toy.servingVersion() == "1.0.0", sourceLocation: sourceLocation)
}

struct ABrokenFile: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let code: String
  let parts: [String]
  /// Makes the file out of a good one.
  let make: @Sendable (_ good: [UInt8], _ folder: TemporaryFolder) throws -> [UInt8]

  init(
    _ name: String, _ code: String, _ parts: [String],
    _ make: @escaping @Sendable ([UInt8], TemporaryFolder) throws -> [UInt8]
  ) {
    testDescription = name
    self.code = code
    self.parts = parts
    self.make = make
  }

  init(_ name: String, _ code: String, _ parts: [String], _ toy: Toy) {
    self.init(name, code, parts) { _, folder in
      Array(try Data(contentsOf: URL(fileURLWithPath: toy.build(in: folder))))
    }
  }

  static let all: [ABrokenFile] = [
    ABrokenFile("truncated", "plugin.incomplete", ["is incomplete", "copy it again"]) { good, _ in
      Array(good.prefix(good.count / 2))
    },
    ABrokenFile("empty", "plugin.incomplete", ["it is empty"]) { _, _ in [] },
    ABrokenFile("text", "plugin.not-elf", ["is not an ELF file"]) { _, _ in Array("just words\n".utf8) },
    ABrokenFile("wrong architecture", "plugin.wrong-machine", ["is built for", "build it for"]) { good, _ in
      var bytes = good
      // e_machine: AArch64 here, x86-64 there.
      bytes[18] = bytes[18] == 62 ? 183 : 62
      return bytes
    },
    ABrokenFile("missing symbol", "plugin.symbol-missing", ["backplane_plugin_v1"], Toy(hasEntry: false)),
    ABrokenFile(
      "a manifest that disagrees", "plugin.descriptor-differs", ["'9.9.9'", "'2.0.0'"],
      Toy(version: "2.0.0", manifestVersion: "9.9.9")),
    ABrokenFile("newer ABI major", "plugin.abi-mismatch", ["ABI 7.1", "update the kernel"], Toy(abiMajor: 7)),
    ABrokenFile(
      "newer ABI major in the entry alone", "plugin.descriptor-differs", ["7.1"], Toy(entryABIMajor: 7)),
    ABrokenFile("crash in create", "plugin.probe-crashed", ["crashed in create", "SIGABRT"], Toy(fail: "create!")),
    ABrokenFile("crash in a constructor", "plugin.probe-crashed", ["crashed in load"], Toy(fail: "constructor!")),
    ABrokenFile("crash in configure", "plugin.probe-crashed", ["crashed in configure"], Toy(fail: "configure!")),
    ABrokenFile("hang in create", "plugin.probe-timed-out", ["still in create", "3000 ms"], Toy(hang: "create!")),
    ABrokenFile("hang in configure", "plugin.probe-timed-out", ["still in configure"], Toy(hang: "configure!")),
    ABrokenFile("failing start", "plugin.start-failed", ["built to fail in start"], Toy(fail: "start")),
    ABrokenFile(
      "failing create that the probe did not see", "plugin.start-failed", ["fail in create"], Toy(fail: "null")),
    ABrokenFile(
      "hang in start", "plugin.start-timed-out", ["start of slot 'toy'", "1500 ms", "reload.start_timeout_ms"],
      Toy(hang: "start")),
    ABrokenFile("hang in create that the probe did not see", "plugin.start-timed-out", ["create"], Toy(hang: "create")),
  ]
}

@Suite struct Refusals {
  /// One node for all: what one refusal leaves behind must not disturb the next.
  @Test func brokenFilesAreRefusedAndTheOldOneServes() throws {
    let toy = try ToyNode()
    let good = Array(try Data(contentsOf: URL(fileURLWithPath: "\(toy.node.pluginsDirectory)/\(Toy.file)")))
    for broken in ABrokenFile.all {
      #expect(try toy.servingVersion() == "1.0.0")
      let bytes = try broken.make(good, toy.folder)
      try Data(bytes).write(to: URL(fileURLWithPath: toy.folder.path + "/broken.so"))
      try PluginFile.drop(
        toy.folder.path + "/broken.so", into: toy.node.pluginsDirectory, as: Toy.file,
        stamp: broken.code == "plugin.incomplete" ? "" : broken.testDescription)
      let receipt = try toy.reload()
      try expectRefusal(toy, broken.code, [Toy.file] + broken.parts, receipt)
      #expect(receipt.refusals.first { $0.code == broken.code }?.file?.hasSuffix(Toy.file) == true, "\(receipt)")
    }
    #expect(toy.node.isRunning)
    try toy.drop(Toy(version: "2.0.0"))
    #expect(try toy.reload().outcome == "applied")
    #expect(try toy.servingVersion() == "2.0.0")
    #expect(try toy.node.metric("backplane_instances_wedged_total") == 2)
  }

  @Test func aConfigurationThatConfigureRefusesIsNamedByKeyPointerAndLine() throws {
    let toy = try ToyNode()
    try toy.configure(toyKeys: "    refuse: true")
    let text = ToyNode.yaml(toy.steering, toyKeys: "    refuse: true")
    let line = text.components(separatedBy: "\n").firstIndex { $0.contains("refuse:") }! + 1
    let receipt = try toy.reload()
    try expectRefusal(
      toy, "plugin.configuration-refused", ["refuse (/refuse", "backplane.yaml:\(line)", "take the key out"], receipt)
    #expect(receipt.refusals.first?.slot == "toy")
    // As a user sees it.
    let (output, _, status) = try toy.node.command(["reload"])
    #expect(status == 69)
    #expect(output.contains("goes on serving") && output.contains("/refuse"))
  }

  @Test func badConfigurationsAreRefusedWhole() throws {
    let toy = try ToyNode()
    let taken = try PortHolder()
    let cases: [(String, String, [String])] = [
      (
        "  other: {kind: backend, order: 9, url: \"nosuch://x\"}", "slot.plugin-missing",
        ["'nosuch://'", "slot 'other'"]
      ),
      ("  other: {kind: backend, order: 9, plugin: org.example.absent}", "slot.plugin-missing", ["org.example.absent"]),
      (
        "  http: {kind: transport}\n  other: {kind: transport, plugin: org.backplane.http, port: \(taken.port)}",
        "slot.listener-failed",
        ["\(taken.port)", "in use"]
      ),
      (
        "  schema: {kind: schema, plugin: org.backplane.permissive}\n"
          + "  second: {kind: schema, plugin: org.backplane.permissive}",
        "slot.program-conflict", ["'schema'", "'second'", "both claim"]
      ),
      ("  other: {kind: schema, plugin: org.backplane.memory}", "slot.kind-differs", ["backend"]),
      (
        "  other: {kind: backend, order: 9, url: \"memory://\", colour: red}", "plugin.configuration-refused",
        ["colour"]
      ),
      ("  Other: {kind: backend}", "configuration", ["backplane.yaml:"]),
      ("  other: [", "configuration", ["backplane.yaml"]),
    ]
    for (slots, code, parts) in cases {
      // A good change beside the bad one is not taken either.
      try toy.configure(slots: "  good: {kind: backend, order: 2, url: \"memory://\"}\n" + slots)
      let receipt = try toy.reload()
      try expectRefusal(toy, code, parts, receipt)
      let status = try toy.node.ask(["command": "status"])
      let names = (status["slots"] as? [[String: Any]] ?? []).compactMap { $0["name"] as? String }
      #expect(!names.contains("good") && !names.contains("other"))
    }
    try toy.configure(slots: "  good: {kind: backend, order: 2, url: \"memory://\"}")
    #expect(try toy.reload().changes == ["good:added"])
  }

  @Test func aVolatileBackendThatHandsNothingOverIsNotReplacedWithoutBeingTold() throws {
    let ledger = try LedgerNode(Ledger(format: 0))
    try ledger.node.put("mutable://open/kept", "1")
    try ledger.drop(Ledger(version: "2.0.0", format: 0))
    let receipt = try ledger.reload()
    #expect(receipt.outcome == "refused")
    #expect(receipt.refusals.first?.code == "slot.would-lose-state")
    #expect(receipt.refusals.first?.message.contains("--lose-state") == true)
    #expect(try ledger.node.read("mutable/open/kept").status == 200)
    let (_, _, status) = try ledger.node.command(["reload", "--lose-state"])
    #expect(status == 0)
    #expect(try ledger.node.read("mutable/open/kept").status == 404)
    #expect(try ledger.servingVersion() == "2.0.0")
  }

  @Test func anUnreadableDirectoryTakesNothingAway() throws {
    let toy = try ToyNode()
    let directory = toy.node.pluginsDirectory
    try FileManager.default.moveItem(atPath: directory, toPath: directory + ".away")
    // A file in its place: permissions would not stop root.
    try toy.folder.write("not a folder", to: "plugins.d")
    try expectRefusal(toy, "directory.unreadable", [directory, "cannot be read"], try toy.reload())
    try FileManager.default.removeItem(atPath: directory)
    let gone = try toy.reload()
    try expectRefusal(toy, "slot.plugin-missing", ["there is none in \(directory)"], gone)
    try FileManager.default.moveItem(atPath: directory + ".away", toPath: directory)
    #expect(try toy.reload().outcome == "unchanged")
  }

  @Test func aTouchedFileIsTheSameFile() throws {
    let toy = try ToyNode()
    utimes("\(toy.node.pluginsDirectory)/\(Toy.file)", nil)
    let receipt = try toy.reload()
    #expect(receipt.outcome == "unchanged")
    #expect(toy.events.filter { $0.hasSuffix("start") } == ["1.0.0 start"])
  }
}

/// A port that somebody else listens on.
final class PortHolder {
  let port: Int
  private let descriptor: Int32

  init() throws {
    port = FreePort.find()
    descriptor = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in6()
    address.sin6_family = sa_family_t(AF_INET6)
    address.sin6_port = in_port_t(port).bigEndian
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
      }
    }
    guard status == 0, listen(descriptor, 1) == 0 else { throw NodeProcess.Failed(description: "no port: \(errno)") }
  }

  deinit { close(descriptor) }
}
