import PluginAPI
import PluginTestHost
import Synchronization
import Testing

/// A service that does nothing but show its context.
private final class Adviser: Service {
  /// By slot.
  static let contexts = Mutex<[String: Context]>([:])

  init(_ configuration: NoConfiguration, _ context: Context) {
    Adviser.contexts.withLock { $0[context.slot] = context }
  }
}

private let adviser = PluginEntry(Adviser.self, id: "org.example.adviser", version: "1.0.0") {
  Adviser.create($0, $1, $2)
}

@Suite struct ProposalFaceTests {
  private func start(_ slot: String) async throws -> (TestHost, Context) {
    let host = try TestHost(entry: adviser.pointer, slot: slot)
    try await host.start()
    return (host, Adviser.contexts.withLock { $0[slot]! })
  }

  @Test func whatIsProposedIsSeenAndTaken() async throws {
    let (host, context) = try await start("taken")
    let first = try await context.propose(json: #"{"node":{"name":"é"}}"#)
    #expect(first.isTaken && first.receipt == 1 && first.generation == 2 && first.receiptJSON.contains("applied"))
    let second = try await context.propose(json: "", flags: [.losesState, .retries])
    #expect(second.receipt == 2)
    #expect(
      host.proposals.made == [
        .init(json: #"{"node":{"name":"é"}}"#, flags: []), .init(json: "", flags: [.losesState, .retries]),
      ])
    try await host.stop()
    #expect(host.violations.isEmpty)
  }

  @Test func everyPartOfAnAnswerArrives() async throws {
    let (host, context) = try await start("answers")
    let outcomes = [
      ProposalOutcome(
        .rejected, "the database is away", isRetryable: true, receipt: 7, generation: 3, receiptJSON: "{}"),
      ProposalOutcome(.invalid, "/backends/0: no url"), ProposalOutcome(.forbidden),
      ProposalOutcome(.unavailable, "ends"),
    ]
    host.proposals.answerNext(with: outcomes[0], outcomes[1], outcomes[2], outcomes[3])
    for outcome in outcomes { #expect(try await context.propose(json: "{}") == outcome) }
    #expect(outcomes.map(\.code.description) == ["rejected", "invalid", "forbidden", "unavailable"])
    host.proposals.answer { made in ProposalOutcome(.taken, made.json) }
    #expect(try await context.propose(json: "{}").message == "{}")
    try await host.stop()
    // The instance is stopped: there is nobody to propose to.
    #expect(try await context.propose(json: "{}").code == .unavailable)
    #expect(host.violations.isEmpty)
  }
}
