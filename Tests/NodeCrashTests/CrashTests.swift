import Foundation
import NodeTesting
import Testing

/// Nodes that a plugin kills for real; the next start says who it was.
@Suite struct Crashes {
  struct Death: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let signal: Int32
    /// What the report says: signal, and the call or the thread.
    let expected: [String]
    let kill: @Sendable (RogueNode) throws -> Void

    static func request(_ method: String, _ path: String, _ body: String?, _ rogue: RogueNode) {
      // The node dies of it: there is no answer.
      _ = try? HTTPConnection(port: rogue.node.port).request(method, path, body: body.map { Array($0.utf8) })
    }

    static func read(_ how: String, _ name: String, _ signal: Int32) -> Death {
      Death(testDescription: "read-\(how)", signal: signal, expected: [name, "call read", "slot 'rogue'"]) {
        request("GET", "/api/v1/read/mutable/open/read-\(how)", nil, $0)
      }
    }

    static let all: [Death] = [
      read("segv", "SIGSEGV", SIGSEGV), read("abort", "SIGABRT", SIGABRT), read("fpe", "SIGFPE", SIGFPE),
      read("overflow", "SIGSEGV", SIGSEGV),
      Death(testDescription: "apply-segv", signal: SIGSEGV, expected: ["SIGSEGV", "call apply"]) {
        request("POST", "/api/v1/receive", #"{"tx":["mutable://open/apply-segv",1]}"#, $0)
      },
      Death(testDescription: "apply-abort", signal: SIGABRT, expected: ["SIGABRT", "call apply"]) {
        request("POST", "/api/v1/receive", #"{"tx":["mutable://open/apply-abort",1]}"#, $0)
      },
      Death(testDescription: "scan-trap", signal: SIGILL, expected: ["call scan", "rogue_dies"]) {
        request("GET", "/api/v1/list/mutable/open/scan-trap", nil, $0)
      },
      Death(testDescription: "own thread", signal: SIGSEGV, expected: ["on a thread of its own", "rogue_dies"]) {
        try $0.set("thread-segv")
      },
      Death(testDescription: "stop", signal: SIGSEGV, expected: ["call stop", "rogue_dies"]) {
        try $0.set("stop-segv")
        try $0.drop(Rogue(version: "2.0.0"))
        _ = try? $0.node.reloadDirectly(now: ["*"], losesState: true)
      },
    ]
  }

  @Test(arguments: Death.all) func isNamedAtTheNextStart(_ death: Death) throws {
    let rogue = try RogueNode()
    try death.kill(rogue)
    #expect(rogue.node.wait() == death.signal, "\(rogue.node.log)")
    for file in ["thread-segv", "stop-segv"] { try? rogue.set(file, false) }
    try rogue.restart(settings: "quarantine: {policy: ignore}")
    let note = try #require(try rogue.notes().first { $0.contains("crash") || $0.contains("died") })
    #expect(note.contains(Rogue.id) && note.contains("1.0.0"), "\(note)")
    for part in death.expected { #expect(note.contains(part), "\(note)") }
    #expect(rogue.node.log.contains("the run before this one crashed"))
    #expect(try rogue.node.receipts().first?.notes.contains(note) == true)
    #expect(try rogue.quarantine().map { $0["plugin"] as? String } == [Rogue.id])
    // It is said once: an orderly end leaves nothing behind.
    #expect(rogue.node.stop() == 0)
    try rogue.restart(settings: "quarantine: {policy: ignore}")
    #expect(try rogue.notes().isEmpty)
  }

  @Test func aKilledNodeBlamesNobody() throws {
    let rogue = try RogueNode()
    #expect(try rogue.node.put("mutable://open/a", "1").status == 200)
    rogue.node.signal(SIGKILL)
    #expect(rogue.node.wait() == SIGKILL)
    try rogue.restart()
    #expect(try rogue.notes().isEmpty)
    #expect(try rogue.quarantine().isEmpty)
    #expect(rogue.node.log.contains("was killed, or the machine went down"))
  }

  @Test func aSignalFromOutsideBlamesNoPlugin() throws {
    let rogue = try RogueNode()
    rogue.node.signal(SIGSEGV)
    #expect(rogue.node.wait() == SIGSEGV)
    try rogue.restart()
    #expect(try rogue.notes().contains { $0.contains("SIGSEGV") && $0.contains("outside of every plugin") })
    #expect(try rogue.quarantine().isEmpty)
  }

  @Test func aForeignOrTornFileIsLeftAside() throws {
    let rogue = try RogueNode()
    #expect(rogue.node.stop() == 0)
    let marks = rogue.folder.path + "/data/marks"
    try rogue.folder.write("not a marks file", to: "data/marks/1-1")
    let size = 2 << 20
    try Data(repeating: 0x5a, count: size).write(to: URL(fileURLWithPath: marks + "/2-2"))
    try rogue.restart()
    #expect(try rogue.notes().isEmpty)
    #expect(rogue.node.log.contains("are left aside"))
    #expect(rogue.node.stop() == 0)
    #expect(try FileManager.default.contentsOfDirectory(atPath: marks).isEmpty)
  }

  @Test func aRefusedPluginIsLetOutByHandOrByAnotherBuild() throws {
    let refuse = "quarantine: {policy: refuse}"
    let rogue = try RogueNode()
    Death.request("GET", "/api/v1/read/mutable/open/read-segv", nil, rogue)
    #expect(rogue.node.wait() == SIGSEGV)

    // Without its only backend the node does not start, again and again, and says why.
    for _ in 0..<2 {
      try rogue.restart(settings: refuse, waits: false)
      #expect(rogue.node.wait() == 69)
      #expect(rogue.node.log.contains("is in quarantine: the node died of SIGSEGV"))
      #expect(rogue.node.log.contains("backplane quarantine clear \(Rogue.id)"))
    }
    let listed = try rogue.node.command(["quarantine", "--json", "--state", "data"])
    #expect(listed.status == 0 && listed.output.contains(Rogue.id))

    // Another build is another matter.
    try rogue.drop(Rogue(version: "1.0.1"))
    try rogue.restart(settings: refuse)
    #expect(rogue.node.stop() == 0)

    // Back to the one that crashed: lifted while nothing runs, then listed as gone.
    try rogue.drop(Rogue(version: "1.0.2"))
    try rogue.restart(settings: refuse)
    Death.request("GET", "/api/v1/read/mutable/open/read-abort", nil, rogue)
    #expect(rogue.node.wait() == SIGABRT)
    try rogue.restart(settings: refuse, waits: false)
    #expect(rogue.node.wait() == 69)
    let cleared = try rogue.node.command(["quarantine", "clear", Rogue.id, "--state", "data"])
    #expect(cleared.status == 0, "\(cleared)")
    #expect(try rogue.node.command(["quarantine", "clear", Rogue.id, "--state", "data"]).status == 1)
    try rogue.restart(settings: refuse)
    #expect(try rogue.quarantine().isEmpty)
    #expect(try rogue.node.put("mutable://open/a", "1").status == 200)
  }

  @Test func anIsolatedPluginDoesNotKillTheNodeTwice() throws {
    let rogue = try RogueNode()
    Death.request("GET", "/api/v1/read/mutable/open/read-segv", nil, rogue)
    #expect(rogue.node.wait() == SIGSEGV)

    // Isolation is the policy that nobody has to ask for.
    try rogue.restart()
    #expect(try rogue.notes().contains { $0.contains("started in a process of their own") }, "\(rogue.node.log)")
    #expect(try rogue.node.put("mutable://open/a", "1").status == 200)
    #expect(try rogue.node.read("mutable/open/read-segv").status == 503)
    #expect(rogue.node.isRunning)
    #expect(try Polling.until { try rogue.node.put("mutable://open/a", "2").status == 200 })

    // Lifted, the next reload takes it back into the process, where it does what it did.
    #expect(try rogue.node.command(["quarantine", "clear", Rogue.id]).status == 0)
    let receipt = try rogue.node.reloadDirectly(now: ["*"], losesState: true)
    #expect(receipt.changes == ["rogue:replaced"], "\(receipt)")
    Death.request("GET", "/api/v1/read/mutable/open/read-segv", nil, rogue)
    #expect(rogue.node.wait() == SIGSEGV)
  }

  @Test func aRunningNodeRefusesToTakeBackWhatCrashedIt() throws {
    let rogue = try RogueNode()
    let bad = try Data(contentsOf: URL(fileURLWithPath: rogue.node.pluginsDirectory + "/" + Rogue.file))
    Death.request("GET", "/api/v1/read/mutable/open/read-segv", nil, rogue)
    #expect(rogue.node.wait() == SIGSEGV)
    try rogue.drop(Rogue(version: "1.0.1"))
    try rogue.restart(settings: "quarantine: {policy: refuse}")
    try bad.write(to: URL(fileURLWithPath: rogue.folder.path + "/bad.so"))
    try PluginFile.drop(rogue.folder.path + "/bad.so", into: rogue.node.pluginsDirectory, as: Rogue.file)
    let refused = try rogue.node.reloadDirectly(now: ["*"], losesState: true)
    #expect(refused.refusals.map(\.code) == ["slot.quarantined"], "\(refused)")
    #expect(try rogue.node.command(["quarantine", "clear", Rogue.id]).status == 0)
    let taken = try rogue.node.reloadDirectly(now: ["*"], losesState: true)
    #expect(taken.outcome == "applied", "\(taken)")
  }
}
