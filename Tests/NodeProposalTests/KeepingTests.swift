import Foundation
import NodeTesting
import Testing

/// How long a proposal lasts, and what may take its place.
@Suite struct AProposalInPlace {
  private static let two = #"{"backends":[{"url":"memory://"},{"url":"memory://"}]}"#

  @Test func isLaidOverTheFilesAtEveryReload() throws {
    let adviser = try AdviserNode()
    let taken = try adviser.propose(Self.two)
    #expect(taken.code == AdviserNode.taken, "\(taken)")
    try adviser.configure(adviser: "may_propose: true", settings: "node: {name: south, write_policy: all}")
    adviser.node.hangUp()
    #expect(try Polling.until { try adviser.node.ask(["command": "status"])["node"] as? String == "south" })
    #expect(try adviser.slots(of: "backend") == ["main", "memory"])
    #expect(try adviser.proposing()?["receipt"] as? Int == taken.receipt)
    #expect(try adviser.node.reloadDirectly().outcome == "unchanged")
    // A file that is refused leaves it in place, too.
    try adviser.folder.write("slots: [", to: "backplane.yaml")
    #expect(try adviser.node.reloadDirectly().outcome == "refused")
    #expect(try adviser.slots(of: "backend") == ["main", "memory"])
    #expect(adviser.node.stop() == 0)
  }

  @Test(arguments: [nil, "may_propose: false"])
  func goesWithItsSlotOrItsPermission(_ keys: String?) throws {
    let adviser = try AdviserNode()
    #expect(try adviser.propose(#"{"backends":[{"url":"sqlite://"}]}"#).code == AdviserNode.taken)
    #expect(try adviser.slots(of: "backend") == ["sqlite", "main"])
    try adviser.configure(adviser: keys)
    let receipt = try adviser.node.reloadDirectly()
    #expect(receipt.outcome == "applied" && receipt.changes.contains("sqlite:removed"), "\(receipt)")
    #expect(receipt.notes.contains { $0.contains("proposal of slot adviser: It is left out") }, "\(receipt)")
    #expect(try adviser.slots(of: "backend") == ["main"])
    #expect(adviser.node.stop() == 0)
  }

  @Test(.timeLimit(.minutes(3))) func goesWithTheNodeIntoAnotherProcess() throws {
    let adviser = try AdviserNode()
    try adviser.node.put("mutable://open/a", "1")
    let taken = try adviser.propose(Self.two)
    #expect(taken.code == AdviserNode.taken, "\(taken)")
    let upgrade = try adviser.node.upgrade()
    #expect(upgrade.outcome == "applied", "\(upgrade)\n\(adviser.node.log)")
    #expect(try adviser.node.servingPid() != adviser.node.pid)
    #expect(try adviser.slots(of: "backend") == ["main", "memory"])
    #expect(try adviser.proposing()?["receipt"] as? Int == taken.receipt)
    #expect(try adviser.node.reloadDirectly().outcome == "unchanged")
    let shown = try adviser.node.command(["config", "show", "--running"]).output
    #expect(shown.contains("proposal of slot adviser at /backends/1/url"), "\(shown)")
    // The instance there goes on where the one before was.
    let next = try adviser.propose(#"{"backends":[{"url":"memory://"},{"url":"memory://"},{"url":"sqlite://"}]}"#)
    #expect(next.code == AdviserNode.taken && next.detail?.changes == ["sqlite:added"], "\(next)")
    #expect(try adviser.node.read("mutable/open/a").status == 200)
    #expect(adviser.node.stop() == 0)
  }

  @Test func isGoneAfterACrashUntilItIsProposedAgain() throws {
    let adviser = try AdviserNode(slots: "  main: {kind: backend, url: \"sqlite://\"}")
    try adviser.node.put("mutable://open/a", "1")
    #expect(try adviser.propose(Self.two).code == AdviserNode.taken)
    adviser.node.signal(SIGKILL)
    _ = adviser.node.wait()
    let node = try adviser.startAgain()
    #expect(node.flatSlots() == ["main"])
    #expect(try node.read("mutable/open/a").status == 200)
    #expect(node.stop() == 0)
    // What a service proposes as soon as it may is taken by the first generation.
    try adviser.begin("early", Self.two)
    let again = try adviser.startAgain()
    let answer = try adviser.answer("early")
    #expect(answer.code == AdviserNode.taken, "\(answer)\n\(again.log)")
    #expect(again.flatSlots() == ["memory", "memory-2", "main"])
    #expect(again.stop() == 0)
  }

  @Test func twoAtOnceAreTakenOneAfterTheOther() throws {
    let second = "  second: {kind: service, plugin: org.example.adviser, may_propose: true}"
    let adviser = try AdviserNode(slots: AdviserNode.memory + "\n" + second)
    try adviser.begin("one", #"{"backends":[{"url":"memory://"},{"url":"sqlite://"}]}"#)
    try adviser.begin(
      "one", #"{"node":{"name":"east"},"slots":{"http":{"cors_origin":"https://a.example"}}}"#, by: "second")
    let answers = [try adviser.answer("one"), try adviser.answer("one", by: "second")]
    #expect(answers.allSatisfy { $0.code == AdviserNode.taken }, "\(answers)\n\(adviser.node.log)")
    #expect(Set(answers.map(\.receipt)).count == 2)
    #expect(try adviser.slots(of: "backend") == ["main", "sqlite"])
    #expect(try adviser.node.ask(["command": "status"])["node"] as? String == "east")
    let conflict = try adviser.propose(#"{"node":{"name":"west"}}"#)
    #expect(conflict.code == AdviserNode.invalid, "\(conflict)")
    #expect(conflict.message.contains("adviser") && conflict.message.contains("second"), "\(conflict)")
    #expect(try adviser.slots(of: "backend") == ["main", "sqlite"])
    // Many of one slot: each is answered.
    for number in 0..<8 {
      try adviser.begin("n\(number)", #"{"node":{"write_policy":"\#(number % 2 == 0 ? "all" : "any")"}}"#)
    }
    for number in 0..<8 { #expect(try adviser.answer("n\(number)").code == AdviserNode.taken) }
    #expect(adviser.node.stop() == 0)
  }

  /// Its own instance is never replaced by what it proposes; it is when that is done.
  @Test func leavesItsServiceInPlace() throws {
    let adviser = try AdviserNode()
    let birth = try adviser.birth(of: "adviser")
    try PluginFile.drop(
      try AdviserNode.build("2.0.0", in: adviser.folder), into: adviser.node.pluginsDirectory, as: "adviser.so")
    let answer = try adviser.propose(Self.two)
    #expect(answer.code == AdviserNode.taken && answer.detail?.changes == ["memory:added"], "\(answer)")
    #expect(try Polling.until { try adviser.status(of: "adviser")?["version"] as? String == "2.0.0" })
    #expect(try adviser.birth(of: "adviser") != birth)
    #expect(try adviser.proposing()?["receipt"] as? Int == answer.receipt)
    // The successor's replaces its predecessor's.
    let next = try adviser.propose(#"{"backends":[{"url":"sqlite://"}]}"#, flags: AdviserNode.losesState)
    #expect(
      next.code == AdviserNode.taken && next.detail?.changes.sorted() == ["memory:removed", "sqlite:added"], "\(next)")
    #expect(adviser.node.stop() == 0)
  }

  /// Files that the service puts into plugins.d of its state directory are taken like any other.
  @Test func itsPluginFilesAreTaken() throws {
    let adviser = try AdviserNode(
      slots: AdviserNode.memory, settings: "reload: {watch: true, settle_ms: 50, probation_ms: 0}")
    let folder = adviser.directory(of: "adviser") + "/plugins.d"
    try FileManager.default.createDirectory(
      atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    try PluginFile.drop(try Toy(version: "1.0.0").build(in: adviser.folder), into: folder, as: "downloaded.so")
    // At once: what its service has put there counts as written.
    let answer = try adviser.propose(#"{"backends":[{"url":"toy://\#(adviser.folder.path)"}]}"#)
    #expect(answer.code == AdviserNode.taken, "\(answer)\n\(adviser.node.log)")
    #expect(try adviser.status(of: "toy")?["version"] as? String == "1.0.0")
    try PluginFile.drop(try Toy(version: "1.1.0").build(in: adviser.folder), into: folder, as: "downloaded.so")
    #expect(try Polling.until(seconds: 60) { try adviser.status(of: "toy")?["version"] as? String == "1.1.0" })
    #expect(try adviser.node.receipts().first?.trigger == "plugins directory")
    #expect(adviser.node.stop() == 0)
  }
}

/// What a node in managed mode shows of itself.
@Suite struct AManagedNode {
  private static let variables = [
    "CONFIG_URL": "https://config.example/b3nd", "OPERATOR_KEY": "0pera70r", "NODE_ID": "n0de",
    "NODE_PRIVATE_KEY_PEM": #"-----BEGIN PRIVATE KEY-----\nPEMSECRET\n-----END PRIVATE KEY-----"#,
    "NODE_ENCRYPTION_PRIVATE_KEY_HEX": "c0ffee5ecre7",
  ]
  private static let secrets = ["PEMSECRET", "c0ffee5ecre7", "t0kensecret"]

  /// Neither its keys nor its token, wherever a value is printed.
  @Test func showsNoSecret() throws {
    let slots = AdviserNode.memory + "\n  managed: {plugin: org.example.adviser, config_token: t0kensecret}"
    let adviser = try AdviserNode(
      slots: slots, settings: "log: {level: trace}", environment: Self.variables)
    let answer = try adviser.propose(#"{"backends":[{"url":"memory://"},{"url":"x://"}]}"#, by: "managed")
    #expect(answer.code == AdviserNode.rejected && !answer.isRetryable, "\(answer)")
    #expect(try adviser.propose(#"{"backends":[{"url":"sqlite://"}]}"#, by: "managed").code == AdviserNode.taken)
    // Its own slot changes, and is refused.
    try adviser.configure(
      slots: slots.replacingOccurrences(of: "config_token", with: "isolation: nowhere, config_token"),
      adviser: "may_propose: true")
    #expect(try adviser.node.reloadDirectly().outcome == "refused")
    adviser.node.signal(SIGUSR1)
    #expect(Polling.until { adviser.node.log.contains("status of a slot") })
    let asked = try ["status", "history", "configuration", "generations"].map {
      "\(try adviser.node.ask(["command": $0]))"
    }
    let running = try adviser.node.command(["config", "show", "--running", "--json"]).output
    let stopped = adviser.node.stop()
    #expect(stopped == 0)
    let history = try String(contentsOfFile: adviser.folder.path + "/data/history.jsonl", encoding: .utf8)
    let shown = asked.joined() + running + history + adviser.node.log + answer.description
    for secret in Self.secrets { #expect(!shown.contains(secret), "\(secret)") }
    #expect(running.contains("slots.managed.node_private_key_pem") && running.contains("***"))
    #expect(running.contains("0pera70r"))
  }

  @Test func withoutItsKeysDoesNotStart() throws {
    let node = try NodeProcess(environment: ["CONFIG_URL": "https://config.example"], waits: false)
    node.expectsEnd()
    #expect(node.wait() == 78)
    for name in ["OPERATOR_KEY", "NODE_ID", "NODE_PRIVATE_KEY_PEM"] {
      #expect(node.log.contains("\(name) env var required when CONFIG_URL is set"), "\(node.log)")
    }
  }
}

extension NodeProcess {
  func hangUp() { kill(pid, SIGHUP) }

  /// Its backend slots, in their order.
  func flatSlots() -> [String] {
    let slots = (try? ask(["command": "status"]))?["slots"] as? [[String: Any]] ?? []
    return slots.filter { $0["kind"] as? String == "backend" }.compactMap { $0["name"] as? String }
  }
}
