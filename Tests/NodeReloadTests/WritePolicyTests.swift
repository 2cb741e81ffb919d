import Foundation
import NodeTesting
import Testing

@Suite struct WritePolicies {
  private static let others = """
      memory: {kind: backend, order: 2, url: "memory://"}
      sqlite: {kind: backend, order: 3, url: "sqlite://"}
    """
  private static func policy(_ name: String, _ order: String = "toy, memory, sqlite") -> String {
    "node: {write_policy: \(name), backends: [\(order)]}"
  }

  @Test func underAnyAFailingBackendFallsBehindUntilItIsAccepted() throws {
    let toy = try ToyNode(settings: Self.policy("any"), slots: Self.others)
    #expect(try toy.node.put("mutable://open/a", "1").status == 200)
    #expect(try toy.servingVersion() == "1.0.0", "the first in order answers")
    #expect(try toy.node.metric("backplane_slot_behind", "slot=\"toy\"") == 0)

    try toy.set("fail-writes")
    // The toy answers reads of /version with words of its own: whoever answers can be told apart.
    #expect(try toy.node.put("mutable://open/version", #"{"kept":true}"#).status == 200)
    #expect(try toy.node.read("mutable/open/version").text.contains(#""kept":true"#))
    #expect(try toy.node.metric("backplane_slot_behind", "slot=\"toy\"") == 1)
    #expect(try toy.node.metric("backplane_missed_writes_total") == 1)
    #expect(try toy.node.metric("backplane_repair_journal_units", "slot=\"toy\"") == 1)
    let health = try toy.node.health()
    #expect(health.text.contains("degraded") && health.text.contains("toy: behind"), "\(health.text)")
    #expect(health.text.contains("told to fail writes") && health.text.contains("1 are still to be repaired"))
    #expect(toy.node.log.contains("is behind") && toy.node.log.contains("slot=toy"))
    // A miss of one that is up to date is an answer, though the toy has it.
    #expect(try toy.node.read("mutable/open/absent/version").status == 404)

    // Also after a restart, where nothing has failed yet.
    #expect(toy.node.stop() == 0)
    let again = try NodeProcess(
      folder: toy.folder,
      configuration: ToyNode.yaml(toy.steering, settings: Self.policy("any"), slots: Self.others))
    #expect(try again.metric("backplane_slot_behind", "slot=\"toy\"") == 1)
    #expect(try again.read("mutable/open/version").text.contains(#""kept":true"#))

    // Nor is the fault forgotten with a new file.
    try PluginFile.drop(
      try Toy(version: "2.0.0").build(in: toy.folder), into: again.pluginsDirectory, as: Toy.file)
    #expect(try again.reloadDirectly(now: ["*"]).outcome == "applied")
    #expect(try again.metric("backplane_slot_behind", "slot=\"toy\"") == 1)

    let (output, _, status) = try again.command(["backend", "accept", "toy"])
    #expect(status == 0 && output.contains("toy"))
    #expect(try again.read("mutable/open/version").text.contains(#""version":"2.0.0""#))
    #expect(try again.health().text.contains("\"healthy\""))
    let (_, errors, second) = try again.command(["backend", "accept", "toy"])
    #expect(second == 1 && errors.contains("not behind"))
    let (json, _, _) = try again.command(["backend", "accept", "nobody", "--json"])
    #expect(json.isEmpty)
    #expect(again.stop() == 0)
  }

  @Test func theOthersDecideByThePolicy() throws {
    let cases: [(policy: String, failing: Int, status: Int)] = [
      ("any", 1, 200), ("any", 2, 200), ("any", 3, 503), ("all", 0, 200), ("all", 1, 503), ("quorum", 1, 200),
      ("quorum", 2, 503),
    ]
    let toy = try ToyNode()
    let folders = ["toy", "second", "third"].map { "\(toy.folder.path)/\($0 == "toy" ? "steer" : $0)" }
    for folder in folders { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) }
    let slots = zip(["second", "third"], folders.dropFirst()).map {
      "  \($0): {kind: backend, order: 7, url: \"toy://\($1)\"}"
    }
    .joined(separator: "\n")
    for (number, one) in cases.enumerated() {
      try toy.configure(settings: Self.policy(one.policy, "toy, second, third"), slots: slots)
      let outcome = try toy.reload().outcome
      #expect(outcome == "applied" || outcome == "unchanged")
      for (index, folder) in folders.enumerated() {
        let file = "\(folder)/fail-writes"
        if index < one.failing { try Data().write(to: URL(fileURLWithPath: file)) } else { unlink(file) }
      }
      let answer = try toy.node.put("mutable://open/case/\(number)", "1")
      #expect(answer.status == one.status, "\(one): \(answer.text)")
      if one.status != 200 { #expect(answer.text.contains("told to fail writes"), "\(answer.text)") }
      // What a case left missing is repaired before the next.
      for folder in folders { unlink("\(folder)/fail-writes") }
      let isRepaired = try Polling.until {
        try ["toy", "second", "third"].allSatisfy {
          try toy.node.metric("backplane_slot_behind", "slot=\"\($0)\"") == 0
        }
      }
      #expect(isRepaired)
    }
  }

  @Test func readsGoOnPastAnErrorAndReportItWhenNobodyAnswers() throws {
    let toy = try ToyNode(
      settings: Self.policy("any", "toy, sqlite"), slots: "  sqlite: {kind: backend, order: 3, url: \"sqlite://\"}")
    try toy.node.put("mutable://open/a", "1")
    try toy.set("fail-reads")
    #expect(try toy.node.read("mutable/open/a").text.hasSuffix(#""data":1}"#))
    #expect(try toy.node.read("mutable/open/absent").status == 404)
    try toy.configure()
    #expect(try toy.reload().outcome == "applied")
    let answer = try toy.node.read("mutable/open/a")
    #expect(answer.status == 503)
    #expect(answer.text.contains("told to fail reads"))
  }
}
