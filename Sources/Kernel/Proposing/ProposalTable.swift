import BackplaneABI

/// backplane.proposal/1.
enum ProposalTable {
  static let id = "backplane.proposal/1"

  // nonisolated(unsafe): written once by its initialiser, only read afterwards, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_proposals> = {
    let table = UnsafeMutablePointer<bp_proposals>.allocate(capacity: 1)
    table.initialize(
      to: bp_proposals(
        size: UInt32(MemoryLayout<bp_proposals>.size), reserved: 0, propose: { ProposalTable.propose($0, $2, $3) }))
    return UnsafePointer(table)
  }()

  private static func propose(
    _ handle: bp_instance, _ proposal: UnsafePointer<bp_proposal>?, _ completion: bp_completion
  ) -> bp_token {
    func refuse(_ answer: ProposalAnswer) -> bp_token {
      // On the thread that asked.
      answer.with { completion.complete(completion.context, $0) }
      return 0
    }
    guard let caller = InstanceRegistry.shared.find(handle) else {
      return refuse(ProposalAnswer(BP_CLOSED, "the instance is gone"))
    }
    switch caller.state {
    // What start has begun may run before the kernel has heard that it came back.
    case .configured, .serving: break
    default: return refuse(ProposalAnswer(BP_CLOSED, "the instance does not serve"))
    }
    guard let proposal = proposal?.pointee, Int(clamping: proposal.json.size) <= Proposal.sizeBytesMax else {
      return refuse(
        ProposalAnswer(BP_INVALID_ARGUMENT, "a proposal has at most \(Proposal.sizeBytesMax) bytes"))
    }
    guard let json = String(validating: proposal.json.bytes, as: UTF8.self) else {
      return refuse(ProposalAnswer(BP_INVALID_ARGUMENT, "the proposal is not valid UTF-8"))
    }
    guard caller.kernel.proposals.admit(handle) else {
      return refuse(
        ProposalAnswer(
          BP_RESOURCE_EXHAUSTED, "\(ProposalDesk.openMax) proposals of this slot are open; wait for their answers",
          isRetryable: true))
    }
    let pending = PendingProposal(caller, json, flags: proposal.flags, completion)
    let token = pending.register()
    caller.kernel.proposals.submit(pending)
    return pending.isAnswered ? 0 : token
  }
}
