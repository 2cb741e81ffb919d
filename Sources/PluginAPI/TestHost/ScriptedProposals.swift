import PluginAPI
import Synchronization

/// What stands behind backplane.proposal/1 of a test host: writes down what the plugin proposes, and answers as the test
/// says. Unless told otherwise it takes everything.
public final class ScriptedProposals: Sendable {
  /// One proposal.
  public struct Made: Sendable, Equatable {
    public let json: String
    public let flags: ProposalFlags

    public init(json: String, flags: ProposalFlags = []) {
      self.json = json
      self.flags = flags
    }
  }

  public typealias Script = @Sendable (Made) async -> ProposalOutcome

  private struct State {
    var made: [Made] = []
    var outcomes: [ProposalOutcome] = []
    var script: Script?
    var receipt: UInt64 = 0
  }
  private let state = Mutex(State())

  public init() {}

  /// Every proposal so far, in the order in which they came.
  public var made: [Made] { state.withLock { $0.made } }

  /// The next proposals get these answers, in this order.
  public func answerNext(with outcomes: ProposalOutcome...) { state.withLock { $0.outcomes += outcomes } }

  /// Every proposal is answered by `script` from now on, which may suspend; nil: everything is taken again.
  public func answer(by script: Script?) { state.withLock { $0.script = script } }

  func answer(_ json: String, _ flags: ProposalFlags) async -> ProposalOutcome {
    let made = Made(json: json, flags: flags)
    let (outcome, script) = state.withLock { state -> (ProposalOutcome?, Script?) in
      state.made.append(made)
      if !state.outcomes.isEmpty { return (state.outcomes.removeFirst(), nil) }
      return (nil, state.script)
    }
    if let outcome { return outcome }
    if let script { return await script(made) }
    let receipt = state.withLock { state in
      state.receipt += 1
      return state.receipt
    }
    return ProposalOutcome(
      .taken, receipt: receipt, generation: receipt + 1, receiptJSON: #"{"id":\#(receipt),"outcome":"applied"}"#)
  }
}

extension TestHost {
  /// What the plugin has proposed, and what it is answered.
  public var proposals: ScriptedProposals { core.proposals }
}

/// backplane.proposal/1 in front of the script.
enum ProposalTable {
  // nonisolated(unsafe): written once by its initialiser, read only, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_proposals> = {
    let table = UnsafeMutablePointer<bp_proposals>.allocate(capacity: 1)
    table.initialize(
      to: bp_proposals(
        size: .size(of: bp_proposals.self), reserved: 0,
        propose: { instance, _, proposal, completion in
          let answerTo = Completion(completion)
          func refuse(_ code: bp_code, _ message: String) -> bp_token {
            answerTo.fail(Failure(code: code, message), as: bp_proposal_result.self)
            return 0
          }
          guard let core = HostRegistry.find(instance, "proposal.propose") else {
            return refuse(BP_CLOSED, "the instance is destroyed")
          }
          guard !core.isProbe, core.life == .serving || core.life == .starting else {
            return refuse(BP_UNAVAILABLE, "nothing can be proposed here: \(core.isProbe ? "a probe" : "not serving")")
          }
          let json = core.text(proposal!.pointee.json, "a proposal")
          let flags = ProposalFlags(rawValue: proposal!.pointee.flags)
          return core.startHostCall { core in
            let outcome = await core.proposals.answer(json, flags)
            outcome.message.withView { message in
              outcome.receiptJSON.withView { detail in
                var result = bp_proposal_result(
                  result: bp_result(
                    size: .size(of: bp_proposal_result.self), code: outcome.code.rawValue,
                    flags: outcome.isRetryable ? BP_RETRYABLE : 0, retry_after_ms: 0, message: message, detail: detail),
                  receipt: outcome.receipt, generation: outcome.generation)
                answerTo.complete(&result)
              }
            }
          }
        }))
    return UnsafePointer(table)
  }()
}
