import Foundation
import NodeTesting
import Testing

/// Configurations that a service proposes to a running node.
@Suite struct AProposal {
  private static let two = #"{"node":{"name":"east"},"backends":[{"url":"memory://"},{"url":"memory://"}]}"#

  @Test(arguments: ["in", "process"]) func isAppliedOnceAndTold(_ isolation: String) throws {
    let adviser = try AdviserNode(adviser: "may_propose: true, isolation: \(isolation)")
    #expect(try adviser.proposing()?["in_place"] as? Bool == false)
    #expect(try adviser.node.command(["status"]).output.contains("Slot adviser may propose a configuration: none"))
    try adviser.node.put("mutable://open/a", "1")
    let answer = try adviser.propose(Self.two)
    #expect(answer.code == AdviserNode.taken && answer.message.isEmpty, "\(answer)\n\(adviser.node.log)")
    let receipt = try #require(answer.detail)
    #expect(receipt.trigger == "proposal of adviser" && receipt.outcome == "applied" && receipt.id == answer.receipt)
    #expect(receipt.changes == ["memory:added"] && receipt.generation == answer.generation)
    #expect(try adviser.slots(of: "backend") == ["main", "memory"])
    #expect(try adviser.node.receipts().first?.id == answer.receipt)
    #expect(try adviser.proposing()?["receipt"] as? Int == answer.receipt)
    let status = try adviser.node.command(["status"]).output
    #expect(status.contains("one is in place since 2") && status.contains("(receipt \(answer.receipt))"), "\(status)")
    #expect(status.contains("Node east"))
    let shown = try adviser.node.command(["config", "show", "--running"]).output
    #expect(
      shown.split(separator: "\n").contains {
        $0.hasPrefix("slots.memory.url") && $0.hasSuffix("proposal of slot adviser at /backends/1/url")
      }, "\(shown)")
    #expect(try adviser.node.command(["config", "show"]).output.contains("proposal of slot") == false)
    // The same again is no event.
    let again = try adviser.propose(Self.two)
    #expect(again.code == AdviserNode.taken && again.receipt == 0 && again.generation == answer.generation, "\(again)")
    #expect(try adviser.node.receipts().first?.id == answer.receipt)
    #expect(try adviser.proposing()?["receipt"] as? Int == answer.receipt)
    #expect(try adviser.node.read("mutable/open/a").status == 200)
    #expect(adviser.node.stop() == 0)
  }

  /// What it does not change keeps its instance, and with it the records that only it has.
  @Test func leavesAloneWhatItDoesNotChange() throws {
    let adviser = try AdviserNode()
    for number in 0..<20 { try adviser.node.put("mutable://open/\(number)", "\(number)") }
    let birth = try adviser.birth(of: "main")
    let first = try adviser.propose(
      #"{"replaces":["backend"],"backends":[{"url":"sqlite://"},{"url":"memory://"}],"slots":{"http":{"cors_origin":"https://a.example"}}}"#
    )
    #expect(first.code == AdviserNode.taken, "\(first)\n\(adviser.node.log)")
    #expect(first.detail?.changes.sorted() == ["http:replaced", "sqlite:added"])
    #expect(try adviser.slots(of: "backend") == ["sqlite", "main"])
    #expect(try adviser.birth(of: "main") == birth)
    let second = try adviser.propose(#"{"replaces":["backend"],"backends":[{"url":"memory://"}]}"#)
    #expect(second.code == AdviserNode.taken, "\(second)")
    #expect(second.detail?.changes.sorted() == ["http:replaced", "sqlite:removed"])
    #expect(try adviser.birth(of: "main") == birth)
    for number in 0..<20 {
      #expect(try adviser.node.read("mutable/open/\(number)").text.hasSuffix("\"data\":\(number)}"))
    }
    #expect(adviser.node.stop() == 0)
  }

  /// Also where it may lose records: what can be handed over is.
  @Test func whatItChangesHandsItsRecordsOver() throws {
    let adviser = try AdviserNode(
      slots: AdviserNode.memory + "\n  other: {kind: backend, url: \"memory://\", order: 1}")
    try adviser.node.put("mutable://open/a", "1")
    let birth = try adviser.birth(of: "main")
    let answer = try adviser.propose(
      #"{"slots":{"main":{"size_bytes_max":1000000},"other":null}}"#, flags: AdviserNode.losesState)
    #expect(answer.code == AdviserNode.taken, "\(answer)")
    #expect(answer.detail?.changes.sorted() == ["main:replaced", "other:removed"], "\(answer)")
    #expect(answer.detail?.states["main"]?.hasPrefix("moved") == true, "\(answer)")
    #expect(try adviser.birth(of: "main") != birth)
    #expect(try adviser.node.read("mutable/open/a").status == 200)
    #expect(adviser.node.stop() == 0)
  }

  @Test func thatIsNoConfigurationIsToldWithItsPlaces() throws {
    let adviser = try AdviserNode()
    let answer = try adviser.propose(#"{"backends":[{"url":"memory://"},{}],"slots":{"http":{"port":"x"}}}"#)
    #expect(answer.code == AdviserNode.invalid && !answer.isRetryable, "\(answer)")
    #expect(answer.message.contains("proposal of slot adviser at /backends/1: The backend has no url."), "\(answer)")
    #expect(try adviser.node.receipts().first?.outcome == "refused")
    #expect(try adviser.propose(#"{"replaces":["backend"]}"#).code == AdviserNode.invalid)
    #expect(try adviser.propose("nonsense").code == AdviserNode.invalid)
    #expect(try adviser.proposing()?["in_place"] as? Bool == false)
    // What is wrong with the file is not the proposal's fault.
    try adviser.folder.write("slots: [", to: "backplane.yaml")
    let later = try adviser.propose(Self.two)
    #expect(later.code == AdviserNode.rejected && later.isRetryable, "\(later)")
    #expect(adviser.node.stop() == 0)
  }

  /// The old configuration serves, with what it holds; the same is taken once the reason has gone.
  @Test func withABackendThatDoesNotStartIsRefusedAndMayBeTakenLater() throws {
    let toy = Toy(version: "1.0.0", fail: "start")
    let adviser = try AdviserNode { folder in
      try PluginFile.drop(try toy.build(in: folder), into: folder.path + "/plugins.d", as: Toy.file)
    }
    try adviser.node.put("mutable://open/a", "1")
    let generation = try adviser.node.ask(["command": "status"])["generation"] as? Int
    let json =
      #"{"replaces":["backend"],"backends":[{"url":"toy://u:hunter2@\#(adviser.folder.path)"}],"node":{"name":"west"}}"#
    for flags in [0, AdviserNode.losesState] {
      let answer = try adviser.propose(json, flags: flags)
      #expect(answer.code == AdviserNode.rejected, "\(answer)")
      // Without the flag the proposal itself is at fault: it takes records with it.
      #expect(answer.isRetryable == (flags != 0), "\(answer)")
      #expect(!answer.description.contains("hunter2"))
    }
    #expect(try adviser.node.ask(["command": "status"])["generation"] as? Int == generation)
    #expect(try adviser.node.read("mutable/open/a").status == 200)
    #expect(try adviser.proposing()?["in_place"] as? Bool == false)
    #expect(try adviser.node.ask(["command": "status"])["node"] as? String == "backplane")
    try PluginFile.drop(
      try Toy(version: "1.0.1").build(in: adviser.folder), into: adviser.node.pluginsDirectory, as: Toy.file)
    // The new file is there when it has come to rest.
    var later = try adviser.propose(json, flags: AdviserNode.losesState)
    #expect(
      try Polling.until(everyMs: 50) {
        later = try adviser.propose(json, flags: AdviserNode.losesState)
        return later.code == AdviserNode.taken
      }, "\(later)\n\(adviser.node.log)")
    #expect(try adviser.slots(of: "backend") == ["toy"])
    #expect(!adviser.node.log.contains("hunter2"))
    #expect(adviser.node.stop() == 0)
  }

  @Test func aPortInUseIsRefusedAndTheOldOneServes() throws {
    let adviser = try AdviserNode()
    let other = try NodeProcess()
    let answer = try adviser.propose(#"{"slots":{"http":{"port":\#(other.port)}}}"#)
    #expect(answer.code == AdviserNode.rejected && answer.isRetryable, "\(answer)")
    #expect(answer.message.contains("\(other.port)"), "\(answer)")
    #expect(try adviser.node.health().status == 200)
    #expect(other.stop() == 0)
    let later = try adviser.propose(#"{"slots":{"http":{"port":\#(other.port)}}}"#)
    #expect(later.code == AdviserNode.taken, "\(later)")
    #expect(try HTTPConnection(port: other.port).get("/health").status == 200)
    #expect(adviser.node.stop() == 0)
  }

  @Test(.timeLimit(.minutes(3))) func ofAnotherPortAndOriginFailsNoRequest() throws {
    let adviser = try AdviserNode()
    let ports = [adviser.node.port, FreePort.find()]
    let followers = Followers(clients: 4, ports: ports)
    #expect(followers.passes(100))
    for (number, port) in [ports[1], ports[0], ports[1]].enumerated() {
      let answer = try adviser.propose(
        #"{"slots":{"http":{"port":\#(port),"cors_origin":"https://\#(number).example"}}}"#)
      #expect(answer.code == AdviserNode.taken, "\(answer)")
      #expect(followers.passes(100))
      let origin = try HTTPConnection(port: port).get("/health", headers: ["Origin": "https://\(number).example"])
      #expect(origin.headers["access-control-allow-origin"] == "https://\(number).example", "\(origin)")
    }
    #expect(followers.end())
    #expect(followers.failures.isEmpty, "\(followers.failures.prefix(5))\n\(adviser.node.log)")
    #expect(adviser.node.stop() == 0)
  }

  @Test func ofASlotThatMayNotIsRefused() throws {
    let adviser = try AdviserNode(adviser: "may_propose: false")
    let answer = try adviser.propose(Self.two)
    #expect(answer.code == AdviserNode.forbidden && answer.message.contains("may_propose"), "\(answer)")
    #expect(try adviser.status(of: "adviser")?["proposing"] == nil)
    #expect(adviser.node.stop() == 0)
  }

  @Test func canBeWithdrawn() throws {
    let adviser = try AdviserNode()
    #expect(try adviser.propose(Self.two).code == AdviserNode.taken)
    let without = try adviser.propose("")
    #expect(without.code == AdviserNode.rejected && without.message.contains("memory only"), "\(without)")
    #expect(try adviser.proposing()?["in_place"] as? Bool == true)
    let withdrawn = try adviser.propose("", flags: AdviserNode.losesState)
    #expect(withdrawn.code == AdviserNode.taken, "\(withdrawn)")
    #expect(try adviser.slots(of: "backend") == ["main"])
    #expect(try adviser.proposing()?["in_place"] as? Bool == false)
    #expect(adviser.node.stop() == 0)
  }
}

/// Clients of a node whose port changes: each goes on at a connection while it has one, and at whichever port answers
/// when it has none.
final class Followers: Sendable {
  private let isOver = Shared(false)
  private let seen = Shared((count: 0, failures: [String]()))
  private let clients = TestThreads()

  init(clients count: Int, ports: [Int]) {
    for _ in 0..<count { clients.start { [isOver, seen] in Followers.run(ports, seen) { isOver.with { $0 } } } }
  }

  var failures: [String] { seen.with { $0.failures } }

  func passes(_ count: Int) -> Bool {
    let before = seen.with { $0.count }
    return Polling.until(seconds: 60) { seen.with { $0.count } >= before + count }
  }

  func end() -> Bool {
    isOver.with { $0 = true }
    return clients.join(seconds: 60)
  }

  private static func run(_ ports: [Int], _ seen: Shared<(count: Int, failures: [String])>, _ isOver: () -> Bool) {
    var connection: HTTPConnection?
    while !isOver() {
      do {
        // A port that is given up takes no new connection: that is what a client looks for the other one by.
        if connection == nil { connection = ports.lazy.compactMap { fresh($0) }.first }
        guard let open = connection else {
          usleep(2000)
          continue
        }
        let answer = try open.get("/api/v1/health")
        seen.with { seen in
          seen.count += 1
          if answer.status != 200 { seen.failures.append("\(answer.status) \(answer.text)") }
        }
        if answer.closes { connection = nil }
      } catch {
        seen.with { $0.failures.append("\(error)") }
        connection = nil
      }
      usleep(2000)
    }
  }

  /// A connection that has answered once: one that only waits in a socket's queue goes with the socket.
  private static func fresh(_ port: Int) -> HTTPConnection? {
    guard let connection = try? HTTPConnection(port: port), let answer = try? connection.get("/health"),
      answer.status == 200, !answer.closes
    else { return nil }
    return connection
  }
}
