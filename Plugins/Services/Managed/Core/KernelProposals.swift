import PluginAPI

/// The kernel, as managed mode proposes to it.
struct KernelProposals: Proposing {
  let context: Context

  func propose(_ json: [UInt8]) async -> ProposalVerdict {
    do {
      // What the operator has signed is what the node is to be, also where records were only in memory; and what could
      // not be had a moment ago may be there now.
      let outcome = try await context.propose(
        json: String(decoding: json, as: UTF8.self), flags: [.losesState, .retries])
      if outcome.isTaken { return .inPlace }
      let text = outcome.message.split(separator: "\n").joined(separator: "; ")
      return .refused(reason: text.isEmpty ? "the kernel does not take it (\(outcome.code))" : text)
    } catch { return .refused(reason: Failure(error).message) }
  }
}
