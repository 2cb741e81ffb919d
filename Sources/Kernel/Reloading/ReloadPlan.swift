/// What each slot of the next generation is: an instance that serves already, or one to be built.
struct ReloadPlan {
  enum Entry {
    case kept(Instance)
    case built(SlotBuild)
    /// An instance that is still warm takes its place again.
    case restored(Instance, over: Instance)
  }

  var entries: [Entry] = []
  var removed: [Instance] = []

  var builds: [SlotBuild] {
    entries.compactMap { entry in
      if case .built(let build) = entry { return build }
      return nil
    }
  }
}

/// What is under way in one transaction.
struct ReloadTransaction {
  var phases: [Receipt.Phase] = []
  var refusals: [Receipt.Refused] = []
  /// Refused before, and unchanged since: said, but no reason to refuse what else has changed.
  var standing: [Receipt.Refused] = []
  var notes: [String] = []
  var changes: [Receipt.Change] = []
  var rollbacks: [Receipt.Rollback] = []
  /// A change of the configuration, which is taken whole or not at all; so is the first generation.
  var isWhole = false
  let startNs: UInt64
  /// Everything up to the publication is over by then.
  var deadlineNs: UInt64 = .max
  private var phaseNs: UInt64

  init(nowNs: UInt64, refusals: [Receipt.Refused] = []) {
    self.refusals = refusals
    startNs = nowNs
    phaseNs = nowNs
  }

  /// What was refused is reason enough to publish nothing.
  var isLost: Bool { isWhole && !refusals.isEmpty }

  mutating func ended(_ phase: String, nowNs: UInt64) {
    phases.append(Receipt.Phase(name: phase, durationMs: ReloadTransaction.milliseconds(nowNs - phaseNs)))
    phaseNs = nowNs
  }

  static func milliseconds(_ nanoseconds: UInt64) -> Double { (Double(nanoseconds) / 1e4).rounded() / 100 }

  /// A step's own time limit, or what is left of the whole.
  func timeoutMs(_ stepMs: Int, nowNs: UInt64) -> Int {
    deadlineNs == .max ? stepMs : max(1, min(stepMs, Int((max(deadlineNs, nowNs) - nowNs) / 1_000_000)))
  }
}
