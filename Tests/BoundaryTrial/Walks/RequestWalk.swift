import PluginAPI
import PluginTestHost
import Testing

/// One envelope request from end to end: three outputs, a validator that reads, two backends (one in a child), a
/// deadline, a cancel, and a reload in the middle.
@Suite(.timeLimit(.minutes(1)))
struct RequestWalk {
  private struct Walk {
    let node: MiniNode
    let schema: TestHost
    let near: TestHost
    let far: TestHost
    let proxy: ChildProxy

    func retire() async throws {
      node.publish(nil)
      for host in [schema, near, far] {
        try await host.quiesce()
        try await host.stop()
        host.destroy()
        #expect(host.violations.isEmpty)
        #expect(host.openCallsCount == 0)
      }
      #expect(proxy.violations == "")
    }
  }

  private func walk() async throws -> Walk {
    let node = MiniNode()
    let schema = try TestHost(entry: SchemaToy.entry.pointer, slot: "envelopes", node: node)
    let near = try TestHost(entry: await Toolbox.c("backend").pointer, slot: "near", node: node)
    let (far, proxy) = try await Isolated.host("backend", slot: "far", node: node)
    try far.configure("{}")
    for host in [schema, near, far] { try await host.start() }
    node.publish(Generation(1, schema: schema, backends: [near, far]))
    return Walk(node: node, schema: schema, near: near, far: far, proxy: proxy)
  }

  private let envelope = [UInt8]("acct://toy/a one\nacct://toy/b after acct://toy/a\nacct://toy/c after acct://toy/b")

  @Test func threeOutputsReachBothBackends() async throws {
    let walk = try await walk()
    let outcome = try await walk.node.receive("msg://open/1", envelope)
    #expect(outcome == WriteOutcome(durability: .memory, timestampMs: 1001))
    for backend in [walk.near, walk.far] {
      #expect(try await backend.read("msg://open/1")?.data == envelope)
      #expect(try await backend.read("acct://toy/a")?.data == [UInt8]("one"))
      #expect(try await backend.read("acct://toy/c")?.version == 1)
      #expect(try await backend.scan().count == 4)
    }
    // An output that names what does not exist refuses the whole message: nothing is written.
    let refused = await #expect(throws: Failure.self) {
      try await walk.node.receive("msg://open/2", [UInt8]("acct://toy/d x\nacct://toy/e after acct://toy/gone"))
    }
    #expect(refused?.code == BP_REJECTED)
    #expect(try await walk.near.read("acct://toy/d") == nil)
    // The validator's read goes to the backends when no earlier op answers it.
    _ = try await walk.node.receive("msg://open/3", [UInt8]("acct://toy/f after acct://toy/a"))
    #expect(try await walk.far.read("acct://toy/f") != nil)
    try await walk.retire()
  }

  @Test func aDeadlineAnswersTheClientAndKeepsTheMemory() async throws {
    let walk = try await walk()
    let late = await #expect(throws: Failure.self) {
      try await walk.node.receive("msg://open/stubborn", envelope, deadline: .milliseconds(50))
    }
    #expect(late?.code == BP_DEADLINE_EXCEEDED)
    for backend in [walk.near, walk.far] {
      // The client has its answer; the call is still open, and nothing is written.
      #expect(backend.openCallsCount == 1)
      #expect(try await backend.read("acct://toy/b") == nil)
      try await backend.apply(.put("x://y/release", []))
    }
    // The late completions are taken and counted; the ops came out of memory that was kept for them.
    for backend in [walk.near, walk.far] {
      while backend.lateCompletionsCount == 0, !Task.isCancelled { await Task.yield() }
      #expect(backend.lateCompletionsCount == 1)
      #expect(try await backend.read("acct://toy/b")?.data == [UInt8]("after acct://toy/a"))
    }
    try await walk.retire()
  }

  @Test func aCancelReachesBothBackends() async throws {
    let walk = try await walk()
    let envelope = envelope
    let request = Task { try await walk.node.receive("msg://open/hold", envelope) }
    for await _ in walk.node.submitted { break }
    request.cancel()
    let failure = await #expect(throws: Failure.self) { try await request.value }
    #expect(failure?.code == BP_CANCELLED)
    for backend in [walk.near, walk.far] {
      while backend.openCallsCount > 0, !Task.isCancelled { await Task.yield() }
      #expect(try await backend.scan().isEmpty)
    }
    try await walk.retire()
  }

  @Test func aReloadInTheMiddle() async throws {
    let walk = try await walk()
    let schema = try TestHost(entry: SchemaToy.entry.pointer, slot: "envelopes", node: walk.node)
    let near = try TestHost(entry: await Toolbox.c("backend").pointer, slot: "near", node: walk.node)
    for host in [schema, near] { try await host.start() }
    // Generation 2 replaces schema and first backend; the second backend, in the child, is shared unchanged.
    walk.node.before(apply: {
      walk.node.publish(Generation(2, schema: schema, backends: [near, walk.far]))
    })
    _ = try await walk.node.receive("msg://open/1", envelope)
    walk.node.before(apply: nil)
    // It ended on the generation that it began on.
    #expect(try await walk.near.read("acct://toy/c") != nil)
    #expect(try await near.read("acct://toy/c") == nil)
    _ = try await walk.node.receive("msg://open/2", envelope)
    #expect(try await near.read("msg://open/2") != nil)
    #expect(try await walk.near.read("msg://open/2") == nil)
    #expect(try await walk.far.scan().count == 5)
    try await walk.retire()
    for host in [schema, near] {
      try await host.stop()
      host.destroy()
      #expect(host.violations.isEmpty)
    }
  }
}
