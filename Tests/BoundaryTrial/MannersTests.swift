import PluginAPI
import PluginTestHost
import Testing

/// The test host notices each breach: a toy without manners commits them one by one.
@Suite(.timeLimit(.minutes(1)))
struct MannersTests {
  @Test(
    arguments: [
      ("twice", Violation.Kind.completedTwice), ("small", .resultTooSmall), ("text", .textNotUTF8),
      ("unknown", .unknownToken), ("foreign", .foreignToken), ("credit", .emittedBeyondCredits),
      ("after", .emittedAfterCompletion), ("metric", .metricOutsideStart),
    ])
  func aBreachIsRecorded(_ feed: String, _ kind: Violation.Kind) async throws {
    let host = try TestHost(entry: await Toolbox.c("rude").pointer)
    try await host.start()
    #expect(try await host.observe(feed).0.code == BP_OK)
    try await host.stop()
    host.destroy()
    #expect(host.violations.map(\.kind) == [kind])
  }

  @Test func aTokenLeftOpenIsRecordedAndItsCallerAnswered() async throws {
    let host = try TestHost(entry: await Toolbox.c("rude").pointer)
    try await host.start()
    let table = try #require(host.extensionTable("backplane.oracle/1", as: bp_oracle.self))
    let call = try host.begin(
      bp_observation.self,
      submit: { arena, call, token in table.pointee.observe(host.pluginSelf, call, arena.view("never"), token) },
      read: { $0.result.code })
    try await host.stop()
    #expect(await call.value == BP_UNAVAILABLE)
    host.destroy()
    #expect(host.violations.map(\.kind) == [.neverCompleted, .completedAfterStop])
    #expect(host.lateCompletionsCount == 1)
  }

  @Test func aDirectFunctionThatReturnsEarlyIsRecorded() async throws {
    let host = try TestHost(entry: await Toolbox.c("rude").pointer)
    try await host.start()
    let table = try #require(host.extensionTable("backplane.oracle/1", as: bp_oracle.self))
    _ = try host.begin(
      bp_observation.self, mode: .direct,
      submit: { arena, call, token in table.pointee.observe(host.pluginSelf, call, arena.view("direct"), token) },
      read: { $0.result.code })
    #expect(host.violations.map(\.kind) == [.directNotCompleted])
  }
}
