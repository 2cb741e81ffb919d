import Foundation
import PluginAPI
import PluginTestHost
import Synchronization
import Testing

@testable import boundary_trial_child

/// The same files in a child process, through the same calls.
@Suite(.timeLimit(.minutes(1)))
struct ChildTests {
  @Test func aBackendThatCannotBeToldApart() async throws {
    let (host, proxy) = try await Isolated.host("backend")
    try host.configure("{}")
    try await host.start()
    #expect(
      try await host.apply(.put("a://b/1", [UInt8]("1"), if: .absent), timestampMs: 7, version: 3)
        == WriteOutcome(durability: .memory, timestampMs: 7))
    #expect(try await host.read("a://b/1") == Record(data: [UInt8]("1"), content: .json, timestampMs: 7, version: 3))
    #expect(try await host.read("a://b/2") == nil)
    let failed = await #expect(throws: PreconditionFailed.self) {
      try await host.apply(.put("a://b/2", []), .put("a://b/1", [], if: .absent))
    }
    #expect(failed?.op == 1)
    for number in 0..<20 { try await host.apply(.put("list://x/\(number)", [])) }
    #expect(try await host.scan(prefix: "list://x/", pageSize: 7).count == 20)
    // One held for ever: stop must complete it, through the socket.
    let held = try host.beginApply([.put("a://b/hold", [])])
    try await host.quiesce()
    try await host.stop()
    #expect(await failure(held)?.code == BP_UNAVAILABLE)
    #expect(proxy.violations == "")
    host.destroy()
    #expect(host.violations.isEmpty)
  }

  @Test func aConfigurationIsRefusedWithKeyAndPlace() async throws {
    let (host, _) = try await Isolated.host("oracle")
    let error = #expect(throws: TestHostError.self) { try host.configure(#"{"refuse": "refuse me"}"#) }
    #expect(error?.diagnostics.map(\.pointer) == ["/refuse"])
  }

  @Test func aStreamWithCredits() async throws {
    let (host, proxy) = try await Isolated.host("llm")
    try host.configure("{}")
    try await host.start()
    let stream = try host.generate(6, credits: 2)
    var said: [String] = []
    for await text in stream.chunks {
      said.append(text)
      stream.grant(1)
    }
    #expect(said == ["1", "2", "3", "4", "5", "6"])
    #expect(await stream.value == TestHost.Answered(code: BP_OK, text: "stop", number: 6))
    let given = try host.generate(6, credits: 1)
    var chunks = given.chunks.makeAsyncIterator()
    #expect(await chunks.next() == "1")
    given.cancel()
    #expect(await given.value.code == BP_CANCELLED)
    try await host.stop()
    #expect(proxy.violations == "")
    #expect(host.violations.isEmpty)
  }

  @Test func aListenerCrosses() async throws {
    let (host, proxy) = try await Isolated.host("transport", listeners: ["toy"])
    try host.configure("{}")
    let port = try #require(host.port(of: "toy"))
    try await host.start()
    // The child's own node has no records: that the answer comes at all is the point.
    #expect(try await LineClient.ask("a://b/1", port: port) == "none")
    try await host.quiesce()
    try await host.stop()
    #expect(proxy.violations == "")
    host.destroy()
    #expect(host.violations.isEmpty)
  }

  @Test func aCrashFailsTheCallsInFlight() async throws {
    let (host, proxy) = try await Isolated.host("backend")
    try host.configure("{}")
    try await host.start()
    let held = try host.beginApply([.put("a://b/hold", [])])
    let crash = try host.beginApply([.put("a://b/crash", [])])
    #expect(await failure(held)?.code == BP_UNAVAILABLE)
    #expect(await failure(crash)?.code == BP_UNAVAILABLE)
    #expect(host.health?.state == .unhealthy)
    #expect(host.health?.message.contains("signal \(SIGABRT)") == true)
    // Later calls are answered too, and the life cycle still ends.
    await #expect(throws: Failure.self) { try await host.read("a://b/1") }
    try await host.stop()
    host.destroy()
    #expect(host.violations.isEmpty)
    // Reaped: no zombie, no orphan.
    #expect(kill(proxy.child.identifier, 0) == -1)
  }

  @Test func theChildEndsWithItsSocket() async throws {
    let child = try ChildProcess(file: await Toolbox.build("backend"), slot: "orphan")
    _ = child.wire.receive()
    child.hangUp()
    #expect(child.wait() == 0)
  }

  private func failure(_ call: TestCall<Result<WriteOutcome, any Error>>) async -> Failure? {
    if case .failure(let error) = await call.value { error as? Failure } else { nil }
  }
}

/// A test host around a plugin in a child.
enum Isolated {
  static func host(
    _ toy: String, listeners: [String] = [], slot: String = "isolated", node: any TestNode = InMemoryNode()
  ) async throws -> (TestHost, ChildProxy) {
    let file = try await Toolbox.build(toy)
    var made: ChildProxy?
    var failure: (any Error)?
    let host = try TestHost(slot: slot, node: node) { table, instance, _ in
      do {
        let proxy = try ChildProxy(
          HostHandle(table: table, instance: instance), file: file, slot: slot, listeners: listeners)
        made = proxy
        return proxy.intoTable()
      } catch {
        failure = error
        return nil
      }
    }
    if let failure { throw failure }
    return (host, made!)
  }
}
