import BackplaneABI
import Foundation

/// One proposal on the reload thread: what it would make of the configuration, and what the reload came to.
struct ProposalRun {
  let pending: PendingProposal
  let reconciler: Reconciler
  let reread: ([Proposal]) throws -> LoadedConfiguration

  /// What stands before anything is tried.
  enum Start {
    case refused(ProposalAnswer)
    /// `isOwnFault`: a configuration that cannot be read, because of the proposal.
    case request(Reconciler.Request, isOwnFault: Bool)
    /// The proposing slot is not configured as it was: an ordinary reload is due.
    case stale(ProposalAnswer)
  }

  static func trigger(_ slot: String) -> String { "proposal of \(slot)" }

  func begin() -> Start {
    let slot = pending.slot
    guard reconciler.published?.instance(slot: slot) === pending.caller else {
      return .refused(ProposalAnswer(BP_CANCELLED, "the instance does not serve the slot '\(slot)'"))
    }
    guard mayPropose(reconciler.configuration) else { return .refused(forbidden) }
    let current = reconciler.configuration?.proposals ?? []
    var wanted = current.filter { $0.slot != slot }
    if !pending.json.isEmpty {
      wanted.append(Proposal(slot: slot, json: pending.json, after: current.first { $0.slot == slot }))
    }
    let loaded = Result { try reread(wanted) }
    var request = Reconciler.Request(trigger: Self.trigger(slot), configuration: loaded)
    request.mayLoseRecords = pending.losesState
    request.retries = pending.retries
    request.proposer = slot
    if case .success(let configuration) = loaded { request.now = ownFiles(configuration.node) }
    switch loaded {
    case .success(let configuration):
      return mayPropose(configuration) ? .request(request, isOwnFault: false) : .stale(forbidden)
    case .failure(let error): return .request(request, isOwnFault: isOwnFault(error, without: current))
    }
  }

  /// Plugin files that the service has put where it may: it proposes when it has written them, and not before.
  private func ownFiles(_ node: NodeConfiguration) -> Set<String> {
    let folder = node.directories.proposed(by: pending.slot)
    let names = (try? ConfigurationFile.names(in: folder)) ?? []
    let state = node.directories.state(of: pending.slot) + "/"
    return Set(names.map { folder + "/" + $0 } + node.slots.compactMap(\.pluginPath).filter { $0.hasPrefix(state) })
  }

  private func mayPropose(_ configuration: LoadedConfiguration?) -> Bool {
    configuration?.node.slots.contains { $0.name == pending.slot && $0.mayPropose } ?? false
  }

  private var forbidden: ProposalAnswer {
    ProposalAnswer(
      BP_PERMISSION_DENIED,
      "the slot '\(pending.slot)' may not propose a configuration: it has no `may_propose: true`")
  }

  /// It is the proposal's when a part of it is named, or when all is well without it.
  private func isOwnFault(_ error: any Error, without current: [Proposal]) -> Bool {
    let problems = (error as? ConfigurationError)?.problems ?? []
    let isNamed = problems.contains { problem in
      if case .proposal(pending.slot, _) = problem.origin { true } else { false }
    }
    return isNamed || (try? reread(current)) != nil
  }

  func answer(_ receipt: Receipt, wasTaken: Bool, isOwnFault: Bool) -> ProposalAnswer {
    var answer = ProposalAnswer(BP_OK, "")
    if !wasTaken {
      let reasons = receipt.refusals.map(\.message)
      var message = reasons.prefix(Self.reasonsMax).joined(separator: "; ")
      if reasons.count > Self.reasonsMax { message += "; and \(reasons.count - Self.reasonsMax) more" }
      answer = ProposalAnswer(isOwnFault ? BP_INVALID_ARGUMENT : BP_REJECTED, message)
      answer.isRetryable = !isOwnFault && receipt.refusals.allSatisfy { !Self.ownFaults.contains($0.code) }
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    answer.detail = (try? encoder.encode(receipt)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    answer.receipt = receipt.id
    answer.generation = receipt.generation
    return answer
  }

  private static let reasonsMax = 16
  /// What the same proposal meets again, until something else than time has changed.
  private static let ownFaults: Set<String> = [
    Refusal.Code.configurationRefused, Refusal.Code.pluginMissing, Refusal.Code.kindDiffers,
    Refusal.Code.kindMissing, Refusal.Code.wouldLoseState, Refusal.Code.programConflict, Refusal.Code.rolledBack,
  ]
}
