import Foundation

/// What becomes of receipts: the history, the counters, the log, and the staged files that nothing needs any more.
/// The reload thread only.
final class ReceiptKeeper {
  /// What the node is like after the reload.
  struct Facts {
    var stagingDirectory: String?
    /// Content that serves.
    var live: Set<String>
    /// Content whose staged copy is kept.
    var kept: Set<String>
    var images: [Image]
  }

  private let kernel: KernelContext
  private let history: History
  private var lastRefusals: [String] = []

  init(_ kernel: KernelContext, _ history: History) {
    self.kernel = kernel
    self.history = history
  }

  var nextID: UInt64 { history.nextID }

  func timestamp() -> String { Timestamp.now() }

  func apply(_ limits: NodeConfiguration.Limits) { history.setLimit(limits.historyReceiptsMax) }

  /// False when it tells nothing new and nobody asked: then it is no part of the history.
  func keep(_ receipt: Receipt, isHint: Bool, _ facts: Facts) -> Bool {
    let refusals = receipt.refusals.map { "\($0.slot ?? "") \($0.message)" }
    let isPublished = receipt.generation != receipt.generationBefore
    let isNews = receipt.outcome != .unchanged && (isPublished || refusals != lastRefusals)
    lastRefusals = refusals
    // A hint that came to nothing new is no event: an editor's temporary file must not fill the history.
    guard !isHint || isNews else { return false }
    if isPublished, let directory = facts.stagingDirectory {
      // What is mapped does not need its file any more, but a child that is started anew does, and the next start.
      let kept = facts.kept.union(InstanceRegistry.shared.contentHashes)
      _ = try? Staging(directory: directory).removeUnused(keeping: kept, olderThanMs: 60_000)
    }
    if let problem = history.add(receipt) {
      kernel.log.warning("the receipt could not be written", ["reason": problem])
    }
    count(receipt, facts)
    log(receipt)
    return true
  }

  private func count(_ receipt: Receipt, _ facts: Facts) {
    kernel.reloadCounts.withLock { counts in
      counts.outcomes[receipt.outcome.rawValue, default: 0] += 1
      if receipt.outcome == .applied { counts.lastSuccessMs = Clock.wallMs() }
      let retained = facts.images.filter { !facts.live.contains($0.contentHash) }
      counts.retainedImages = retained.count
      counts.retainedImageBytes = retained.reduce(0) { $0 + $1.sizeBytes }
    }
  }

  private func log(_ receipt: Receipt) {
    for refusal in receipt.refusals {
      kernel.log.warning(
        "refused",
        ["code": refusal.code, "stage": refusal.stage, "reason": refusal.message, "receipt": "\(receipt.id)"])
    }
    for rollback in receipt.rollbacks ?? [] {
      kernel.log.error(
        "rolled back",
        [
          "slot": rollback.slot, "plugin": rollback.plugin, "version": rollback.version,
          "rolled_back_version": rollback.rolledBackVersion, "reason": rollback.reason, "receipt": "\(receipt.id)",
        ])
    }
    for change in receipt.changes {
      guard let state = change.state, state.hasPrefix("cold") else { continue }
      kernel.log.warning(
        "a slot began without its predecessor's state",
        ["slot": change.slot, "plugin": change.plugin, "reason": state, "receipt": "\(receipt.id)"])
    }
    guard receipt.outcome != .unchanged else {
      kernel.log.info("reload: nothing had changed", ["receipt": "\(receipt.id)", "trigger": receipt.trigger])
      return
    }
    kernel.log.notice(
      "reload",
      [
        "receipt": "\(receipt.id)", "trigger": receipt.trigger, "outcome": receipt.outcome.rawValue,
        "generation": "\(receipt.generation)", "duration_ms": "\(receipt.durationMs)",
        "changed": receipt.changes.map { "\($0.slot):\($0.action.rawValue)" }.joined(separator: ","),
      ])
  }
}
