import PluginAPI

/// backplane.proposal/1, as managed mode uses it.
struct KernelProposals: Proposing {
  let context: Context

  func propose(_ json: [UInt8]) async -> ProposalOutcome {
    guard let table = context.host.extensionTable("backplane.proposal/1", as: bp_proposals.self) else {
      return .refused(reason: "this host takes no proposals")
    }
    return await withCheckedContinuation { continuation in
      let answer = Unmanaged.passRetained(ProposalAnswer(continuation))
      let completion = bp_completion(
        context: answer.toOpaque(),
        complete: { context, result in
          Unmanaged<ProposalAnswer>.fromOpaque(context!).takeRetainedValue().take(result!)
        }, chunk: nil)
      var call = bp_call()
      call.size = .size(of: bp_call.self)
      json.withView { view in
        // What the operator has signed is what the node is to be, also where records were only in memory; and what could
        // not be had a moment ago may be there now.
        var proposal = bp_proposal(
          size: .size(of: bp_proposal.self), flags: BP_PROPOSAL_LOSES_STATE | BP_PROPOSAL_RETRIES, json: view)
        _ = table.pointee.propose(context.host.instance, &call, &proposal, completion)
      }
    }
  }
}

/// Waits for the one answer.
private final class ProposalAnswer: Sendable {
  private let continuation: CheckedContinuation<ProposalOutcome, Never>

  init(_ continuation: CheckedContinuation<ProposalOutcome, Never>) { self.continuation = continuation }

  func take(_ result: UnsafePointer<bp_result>) {
    let result = result.pointee
    guard result.code != BP_OK else { return continuation.resume(returning: .inPlace) }
    let text = result.message.text.split(separator: "\n").joined(separator: "; ")
    continuation.resume(returning: .refused(reason: text.isEmpty ? "the kernel refuses it (code \(result.code))" : text))
  }
}
