import BackplaneABI
import Synchronization

/// A proposal on its way: from the instance that made it to the reload thread, and its answer back. Answered once,
/// whoever comes first.
final class PendingProposal: PendingRequest, @unchecked Sendable {
  // @unchecked: `completion` is a plugin's, and called once; `token` is under the lock.
  let caller: Instance
  /// Empty: the proposal before is withdrawn.
  let json: String
  let losesState: Bool
  let retries: Bool
  private let completion: bp_completion
  private struct State {
    var isAnswered = false
    var token: bp_token = 0
  }
  private let state = Mutex(State())

  init(_ caller: Instance, _ json: String, flags: UInt32, _ completion: bp_completion) {
    self.caller = caller
    self.json = json
    losesState = flags & BP_PROPOSAL_LOSES_STATE != 0
    retries = flags & BP_PROPOSAL_RETRIES != 0
    self.completion = completion
    // Until it is answered: the instance is not destroyed before.
    caller.outgoing.add(1, ordering: .relaxed)
  }

  var slot: String { caller.slot.name }

  // MARK: A pending request

  /// A reload has its own limit (limits.reload_timeout_ms).
  var deadlineNs: UInt64 { 0 }
  var holding: RequestHolding? { nil }

  func giveUp(_ code: bp_code, _ message: StaticString) { answer(ProposalAnswer(code, "\(message)")) }

  // MARK: The answer

  var isAnswered: Bool { state.withLock { $0.isAnswered } }

  /// Makes it one that can be cancelled. Answers the token, or 0 when it has been answered.
  func register() -> bp_token {
    let token = caller.kernel.requests.add(self)
    let isAnswered = state.withLock { state in
      state.token = token
      return state.isAnswered
    }
    guard isAnswered else { return token }
    caller.kernel.requests.remove(token)
    return 0
  }

  /// On the calling thread, which the plugin must not be able to hold: not the reload thread's.
  func answer(_ answer: ProposalAnswer) {
    let token = state.withLock { state -> bp_token? in
      guard !state.isAnswered else { return nil }
      state.isAnswered = true
      return state.token
    }
    guard let token else { return }
    caller.kernel.requests.remove(token)
    caller.kernel.proposals.ended(caller.handle)
    answer.with { completion.answer(caller.handle, $0) }
    caller.outgoing.subtract(1, ordering: .releasing)
  }

  /// From the reload thread.
  func answerElsewhere(_ answer: ProposalAnswer) {
    let isTaken = caller.kernel.workers.submit { [self] in self.answer(answer) }
    if !isTaken { self.answer(answer) }
  }
}

/// How a proposal ended (service.h, `bp_proposal_result`).
struct ProposalAnswer: Sendable {
  var code: bp_code
  var message: String
  var isRetryable = false
  /// As JSON; empty when no reload was tried.
  var detail = ""
  /// The receipt's number; 0 when it is not in the history.
  var receipt: UInt64 = 0
  var generation: UInt64 = 0

  init(_ code: bp_code, _ message: String, isRetryable: Bool = false) {
    self.code = code
    self.message = message
    self.isRetryable = isRetryable
  }

  static let departed = ProposalAnswer(
    BP_UNAVAILABLE, "the node goes on in another process; the slot's instance there may propose it again")
  static let ending = ProposalAnswer(BP_UNAVAILABLE, "the node is ending")

  /// The result; valid during `body`.
  func with(_ body: (UnsafePointer<bp_result>) -> Void) {
    var message = message
    var detail = detail
    message.withUTF8 { message in
      detail.withUTF8 { detail in
        withUnsafeTemporaryAllocation(of: bp_proposal_result.self, capacity: 1) { room in
          let raw = UnsafeMutableRawPointer(room.baseAddress!)
          raw.initializeMemory(as: UInt8.self, repeating: 0, count: MemoryLayout<bp_proposal_result>.size)
          let whole = raw.assumingMemoryBound(to: bp_proposal_result.self)
          whole.pointee.result.size = UInt32(MemoryLayout<bp_proposal_result>.size)
          whole.pointee.result.code = code
          whole.pointee.result.flags = isRetryable ? BP_RETRYABLE : 0
          whole.pointee.result.message = bp_view(message)
          whole.pointee.result.detail = bp_view(detail)
          whole.pointee.receipt = receipt
          whole.pointee.generation = generation
          body(UnsafePointer(raw.assumingMemoryBound(to: bp_result.self)))
        }
      }
    }
  }
}
