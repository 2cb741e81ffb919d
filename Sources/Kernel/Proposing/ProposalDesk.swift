import BackplaneABI
import Synchronization

/// Where proposals wait for the reload thread. Those that come before it runs - from services of the first generation -
/// wait here.
final class ProposalDesk: Sendable {
  /// Most open proposals of one instance: one replaces the other, so that more of them are of no use.
  static let openMax = 16

  private struct State {
    var take: (@Sendable (PendingProposal) -> Bool)?
    var early: [PendingProposal] = []
    var open: [bp_instance: Int] = [:]
  }
  private let state = Mutex(State())

  /// Whether one more of this instance may be open; counted until `ended`.
  func admit(_ handle: bp_instance) -> Bool {
    state.withLock { state in
      guard state.open[handle, default: 0] < ProposalDesk.openMax else { return false }
      state.open[handle, default: 0] += 1
      return true
    }
  }

  func ended(_ handle: bp_instance) {
    state.withLock { state in
      let left = (state.open[handle] ?? 1) - 1
      state.open[handle] = left == 0 ? nil : left
    }
  }

  func submit(_ proposal: PendingProposal) {
    let take = state.withLock { state in
      if state.take == nil { state.early.append(proposal) }
      return state.take
    }
    if let take { Self.give(proposal, to: take) }
  }

  /// The reload thread runs: `take` gives a proposal to it, or answers false.
  func open(_ take: @escaping @Sendable (PendingProposal) -> Bool) {
    let early = state.withLock { state in
      state.take = take
      defer { state.early = [] }
      return state.early
    }
    for proposal in early { Self.give(proposal, to: take) }
  }

  private static func give(_ proposal: PendingProposal, to take: (PendingProposal) -> Bool) {
    if !take(proposal) { proposal.answer(.ending) }
  }
}
