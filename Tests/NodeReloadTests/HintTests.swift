import Foundation
import NodeTesting
import Testing

@Suite struct Hints {
  @Test func aFileThatIsRenamedInIsTaken() throws {
    let toy = try ToyNode(watches: true)
    try toy.drop(Toy(version: "2.0.0"))
    #expect(try toy.comesToServe("2.0.0"))
    let receipt = try toy.node.receipts().first { $0.outcome == "applied" && $0.trigger != "start" }
    #expect(receipt?.trigger == "plugins directory")
    #expect(receipt?.changes == ["toy:replaced"])
  }

  @Test func aFileThatIsWrittenInPlaceIsTakenOnceItHasSettled() throws {
    let toy = try ToyNode(watches: true)
    try toy.configure(settings: "", watches: true)
    try toy.folder.write("reload: {settle_ms: 1000}", to: "conf.d/settle.yaml")
    #expect(["applied", "unchanged"].contains(try toy.reload().outcome))
    let new = Array(try Data(contentsOf: URL(fileURLWithPath: try Toy(version: "2.0.0").build(in: toy.folder))))
    let path = "\(toy.node.pluginsDirectory)/\(Toy.file)"
    // Opened anew for each piece: every piece ends with a close, which is a hint.
    for piece in 0..<6 {
      let descriptor = open(path, O_WRONLY | (piece == 0 ? O_TRUNC : O_APPEND))
      let part = Array(new[(new.count * piece / 6)..<(new.count * (piece + 1) / 6)])
      #expect(write(descriptor, part, part.count) == part.count)
      close(descriptor)
      usleep(100_000)
    }
    #expect(try toy.servingVersion() == "1.0.0")
    #expect(try toy.comesToServe("2.0.0"))
    #expect(try toy.node.receipts().allSatisfy { $0.refusals.isEmpty }, "half a file was looked at")
  }

  @Test func aChangedConfigurationIsTakenWholeOrNotAtAll() throws {
    let toy = try ToyNode(watches: true)
    func slots() throws -> Set<String> {
      let slots = try toy.node.ask(["command": "status"])["slots"] as? [[String: Any]] ?? []
      return Set(slots.compactMap { $0["name"] as? String })
    }
    try toy.configure(slots: "  second: {kind: backend, order: 2, url: \"memory://\"}", watches: true)
    #expect(try Polling.until { try slots().contains("second") })
    try toy.folder.write("slots: {third: {kind: backend, order: 3, url: \"memory://\"}}", to: "conf.d/third.yaml")
    #expect(try Polling.until { try slots().contains("third") })
    #expect(try toy.node.receipts().first?.trigger == "configuration")

    let before = try toy.node.receipts().first!.id
    try toy.folder.write(
      "slots: {fourth: {kind: backend, order: 4, url: \"memory://\"}, fifth: {kind: backend, order: 5, url: \"nosuch://\"}}",
      to: "conf.d/fourth.yaml")
    #expect(
      try Polling.until { try toy.node.receipts().first.map { $0.id > before && $0.outcome == "refused" } ?? false })
    #expect(try slots().isDisjoint(with: ["fourth", "fifth"]))
    // A configuration that cannot be read at all changes nothing either, and is named.
    try toy.folder.write("slots: [", to: "conf.d/fourth.yaml")
    #expect(
      try Polling.until {
        try toy.node.receipts().first?.refusals.first?.message.contains("conf.d/fourth.yaml") == true
      })
    #expect(try slots() == ["toy", "second", "third", "http", "schema"])
    try toy.folder.write("slots: {fourth: {kind: backend, order: 4, url: \"memory://\"}}", to: "conf.d/fourth.yaml")
    #expect(try Polling.until { try slots().contains("fourth") })
  }

  @Test func watchingCanBeTurnedOffAndOn() throws {
    let toy = try ToyNode(watches: true)
    try toy.configure(watches: false)
    #expect(["applied", "unchanged"].contains(try toy.reload().outcome))
    try toy.configure(watches: true)
    #expect(["applied", "unchanged"].contains(try toy.reload().outcome))
    try toy.drop(Toy(version: "2.0.0"))
    #expect(try toy.comesToServe("2.0.0"))
  }

  @Test func whatIsNotAPluginsNameIsPassedOver() throws {
    let toy = try ToyNode(watches: true)
    let before = try toy.node.receipts().count
    for name in [".hidden.so", "copy.so.part", "copy.so.tmp", "copy.so~", "README"] {
      try toy.folder.write("no plugin", to: "plugins.d/\(name)")
    }
    let receipt = try toy.reload()
    #expect(receipt.outcome == "unchanged")
    #expect(receipt.notes.isEmpty && receipt.refusals.isEmpty, "\(receipt)")
    // Nor does it fill the history.
    #expect(try toy.node.receipts().count == before + 1)
    // A file by a plugin's name that is none is worth a note, and no more as long as nobody wants it.
    try toy.folder.write("no plugin", to: "plugins.d/other.so")
    let noted = try toy.reload()
    #expect(noted.outcome == "unchanged")
    #expect(noted.notes.contains { $0.contains("other.so") && $0.contains("is not an ELF file") }, "\(noted)")
  }

  @Test func aSlotThatIsTakenOutRetiresAndMayComeBack() throws {
    let toy = try ToyNode()
    let other = toy.folder.path + "/other"
    try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: true)
    let slot = "  other: {kind: backend, order: 9, url: \"toy://\(other)\"}"
    func events() -> [String] {
      ((try? String(contentsOfFile: other + "/events", encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
    }
    for round in 1...3 {
      try toy.configure(slots: slot)
      #expect(try toy.reload().changes == ["other:added"])
      try toy.configure()
      #expect(try toy.reload().changes == ["other:removed"])
      #expect(Polling.until { events().count == 4 * round }, "\(events())")
      #expect(events().suffix(4) == ["1.0.0 start", "1.0.0 quiesce", "1.0.0 stop", "1.0.0 destroy"])
    }
    // The neighbour was left alone.
    #expect(toy.events == ["1.0.0 start"])
  }

  @Test func aTransportMovesToAnotherPortAndBack() throws {
    let folder = try TemporaryFolder()
    let ports = [FreePort.find(), FreePort.find()]
    func yaml(_ port: Int) -> String {
      """
      reload: {watch: false, drain_soft_ms: 500}
      slots:
        http: {port: \(port)}
        main: {kind: backend, url: "sqlite://"}
      """
    }
    let node = try NodeProcess(
      folder: folder, environment: ["PORT": ""], configuration: yaml(ports[0]), port: ports[0])
    for (number, port) in [ports[1], ports[0], ports[1]].enumerated() {
      try folder.write(yaml(port), to: "backplane.yaml")
      let receipt = try node.reloadDirectly()
      #expect(receipt.changes == ["http:replaced"], "\(receipt)")
      #expect(try HTTPConnection(port: port).get("/health").status == 200)
      // The old port is given up, so that it can be had again, by us or by another.
      let old = ports[number % 2]
      #expect(
        Polling.until {
          do {
            _ = try HTTPConnection(port: old)
            return false
          } catch { return true }
        }, "port \(old) is still open")
    }
    #expect(node.stop() == 0)
  }
}
