import BackplaneABI

/// Probation and the way back.
extension Reconciler {
  /// Why slots go back.
  struct RollbackRequest {
    var trigger: String
    /// Nil: what the last publication replaced.
    var slots: [String]?
    /// What the probation found, by slot.
    var figures: [String: Probation.Figures] = [:]
  }

  static let probationTrigger = "probation"

  private var probation: Probation.Limits {
    let reload = configuration?.node.reload
    return Probation.Limits(windowMs: reload?.probationMs ?? 0, calls: reload?.probationCalls ?? 0)
  }

  /// A generation is published: what it replaced is compared with from now on. Answers instances that stay warm.
  func beginTrials(_ plan: ReloadPlan, superseding old: Generation?) -> [Instance] {
    let isWatched = probation.windowMs > 0
    var replaced: [(target: Trials.Target, candidate: Instance)] = []
    var pinned: [Instance] = []
    // What fails at a peer is the other node's doing, and says nothing of the plugin.
    for build in plan.builds where build.isServing && !build.isWayBack && build.slot.peer == nil {
      guard let previous = build.previous, let old else { continue }
      let isWarm = isWatched && !build.isExclusive && previous.canStayWarm
      if isWarm {
        previous.generations.add(1, ordering: .relaxed)
        pinned.append(previous)
      }
      replaced.append(
        (
          Trials.Target(
            slot: previous.slot, plugin: previous.image.plugin, warm: isWarm ? previous : nil, sample: previous.sample,
            stateFormats: previous.stateTable.map {
              min($0.pointee.format_version_oldest, $0.pointee.format_version)...$0.pointee.format_version
            }, generation: old.number), build.instance!
        ))
    }
    let names = Set(plan.removed.map(\.slot.name))
    for name in names { if let warm = trials.ended(name, keepsTarget: false) { letGo(warm) } }
    for warm in trials.began(replaced, nowNs: world.nowNs(), isWatched: isWatched) { letGo(warm) }
    let stillWarm = trials.running.values.compactMap(\.target.warm)
    return pinned.filter { instance in stillWarm.contains { $0 === instance } }
  }

  /// Unpins an instance that was kept warm.
  func letGo(_ instance: Instance) {
    if instance.generations.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 { world.discard(instance) }
  }

  /// Whether anything is; counted for the metrics, too.
  var isOnProbation: Bool {
    kernel.slotsOnProbation.store(trials.running.count, ordering: .relaxed)
    return !trials.running.isEmpty
  }

  /// Looks at everything that is on probation: ends what has passed, rolls back what regressed. Answers the receipt of
  /// the rollback when there was one.
  func judgeTrials() -> Receipt? {
    var figures: [String: Probation.Figures] = [:]
    for (name, trial) in trials.running {
      let elapsedMs = Int((world.nowNs() - trial.sinceNs) / 1_000_000)
      switch Probation.judge(
        trial.candidate.sample, against: trial.target.sample, elapsedMs: elapsedMs, probation)
      {
      case .undecided: _ = trials.found(name, isWorse: false, nowNs: world.nowNs())
      case .passed:
        if let warm = trials.ended(name, keepsTarget: true) { letGo(warm) }
        kernel.log.info("probation passed", ["slot": name, "version": trial.candidate.image.version])
      case .failed(let found):
        if trials.found(name, isWorse: true, nowNs: world.nowNs()) { figures[name] = found }
      }
    }
    guard !figures.isEmpty else { return nil }
    return rollBack(
      RollbackRequest(trigger: Reconciler.probationTrigger, slots: figures.keys.sorted(), figures: figures))
  }

  /// Puts slots back to what served before them.
  func rollBack(_ request: RollbackRequest) -> Receipt {
    var transaction = ReloadTransaction(nowNs: world.nowNs())
    let before = kernel.ring.currentNumber
    guard let published, let loaded = configuration else {
      return finish(request.trigger, .unchanged, from: before, transaction, isHint: false)
    }
    transaction.deadlineNs = world.nowNs() + UInt64(loaded.node.limits.reloadTimeoutMs) * 1_000_000
    let wanted = request.slots ?? trials.lastReplaced
    var targets: [String: Trials.Target] = [:]
    for name in wanted {
      guard let current = published.instance(slot: name), let target = trials.target(of: name) else {
        transaction.refusals.append(Receipt.Refused(slot: name, SlotRefusals.nothingToRollBackTo(name)))
        continue
      }
      if let reason = Reconciler.obstacle(current, target) {
        transaction.refusals.append(
          Receipt.Refused(slot: name, SlotRefusals.rollbackImpossible(current, target, reason)))
        // Nothing will change that: the candidate stays, and is not looked at again.
        if let warm = trials.ended(name, keepsTarget: true) { letGo(warm) }
        continue
      }
      targets[name] = target
    }
    if wanted.isEmpty {
      transaction.notes.append("nothing has been replaced since the start that could go back")
      return finish(request.trigger, .unchanged, from: before, transaction, isHint: false)
    }
    let isPublished = !targets.isEmpty && goBack(targets, request, loaded, &transaction)
    return finish(
      request.trigger, isPublished ? .rolledBack : .refused, from: before, transaction, isHint: false)
  }

  private func goBack(
    _ targets: [String: Trials.Target], _ request: RollbackRequest, _ loaded: LoadedConfiguration,
    _ transaction: inout ReloadTransaction
  ) -> Bool {
    var plan = ReloadPlan()
    for current in published!.slots {
      guard let target = targets[current.slot.name] else {
        plan.entries.append(.kept(current))
        continue
      }
      if let warm = target.warm, warm.state == .serving {
        plan.entries.append(.restored(warm, over: current))
      } else {
        let build = SlotBuild(target.slot, target.plugin, replacing: current)
        build.isWayBack = true
        plan.entries.append(.built(build))
      }
    }
    let candidates = published!.slots.filter { targets[$0.slot.name] != nil }
    guard start(plan, loaded.node, &transaction), switchOver(plan, loaded, &transaction, losesState: false) else {
      return false
    }
    for candidate in candidates {
      let name = candidate.slot.name
      guard let now = published?.instance(slot: name), now !== candidate else { continue }
      let figures = request.figures[name]
      let reason =
        figures.map { "it regressed: \($0.clause)" } ?? "an operator asked for it"
      transaction.rollbacks.append(
        Receipt.Rollback(
          slot: name, plugin: now.image.id, version: now.image.version, content: now.image.contentHash,
          rolledBackVersion: candidate.image.version, rolledBackContent: candidate.image.contentHash, reason: reason,
          figures: figures.map {
            Receipt.Rollback.Figures(
              measure: $0.measure, value: $0.value, valueBefore: $0.valueBefore, samples: $0.samples,
              samplesBefore: $0.samplesBefore)
          }))
      let refusal = SlotRefusals.rolledBack(candidate, reason)
      refusedBuilds.add(
        SlotBuild(candidate.slot, candidate.image.plugin, replacing: nil).identity,
        Receipt.Refused(slot: name, refusal))
      if let warm = trials.ended(name, keepsTarget: false) { letGo(warm) }
    }
    return true
  }

  /// Why the target cannot take over from what serves now; nil when it can. State versions gate rollback: what the
  /// newer version wrote must be read by the older.
  private static func obstacle(_ current: Instance, _ target: Trials.Target) -> String? {
    if let written = current.stateTable?.pointee.format_version {
      guard let formats = target.stateFormats else { return "it takes no state" }
      guard formats.contains(written) else {
        return
          "it reads state of format \(formats.lowerBound) to \(formats.upperBound), and format \(written) was written"
      }
      return nil
    }
    if let written = current.image.manifest.stateVersion, written > target.plugin.manifest.stateVersion ?? 0 {
      return "version \(current.image.version) writes state of version \(written), which it does not know"
    }
    return nil
  }
}

extension Instance {
  /// Superseded, it could go on serving as it is: it neither handed its state over nor stopped accepting.
  var canStayWarm: Bool { stateTable == nil && slot.kind.takesCalls && state == .serving }
}
