import BackplaneABI
import Foundation

/// The reload transaction: from the directories and the configuration to a published generation, and a receipt.
///
/// Runs on the reload thread alone. Whatever fails before the publication leaves what serves as it is.
/// `Switchover.swift` has its second half, from started instances to the published generation; `Rollback.swift` the way
/// back.
final class Reconciler {
  struct Request {
    var trigger: String
    var configuration: Result<LoadedConfiguration, any Error>
    /// Files to take without waiting until they have settled; `*` means all.
    var now: Set<String> = []
    /// No state is handed over, and volatile backends may be replaced though their records are lost.
    var losesState = false
    /// Slots may go, or change their plugin, though their records go with them. What can be handed over is.
    var mayLoseRecords = false
    /// What was refused or rolled back is tried again, though neither file nor configuration has changed.
    var retries = false
    /// The slot whose service has proposed the configuration: its own instance stays, whatever it says.
    var proposer: String?
    /// What the receipt is to say besides.
    var notes: [String] = []

    /// Nobody asked: something in a directory has changed.
    var isHint: Bool {
      trigger.components(separatedBy: ", ").allSatisfy {
        $0 == Reconciler.pluginsTrigger || $0 == Reconciler.configurationTrigger
      }
    }
  }

  static let pluginsTrigger = "plugins directory"
  static let configurationTrigger = "configuration"

  let kernel: KernelContext
  var world: any ReloadWorld
  private let keeper: ReceiptKeeper
  var published: Generation?
  var configuration: LoadedConfiguration?
  var trials = Trials()
  /// What was refused, by what was tried: not tried again until its file or its configuration changes.
  var refusedBuilds = RefusedBuilds()
  /// When the last reconcile wants to be followed by another though nobody asks; nil: not at all.
  private(set) var recheckMs: Int?
  /// Reconciles in a row in which a peer could not be started.
  private var absences = 0
  /// At the limit of retained images a reconcile does nothing and says `isUpgradeWanted`, in the place of refusing.
  var mayWantUpgrade = false
  /// How many configurations have been taken.
  private var takenCount = 0
  /// The last reconcile took its configuration.
  private(set) var wasTaken = false
  private(set) var isUpgradeWanted = false

  init(_ kernel: KernelContext, _ world: any ReloadWorld, _ keeper: ReceiptKeeper) {
    self.kernel = kernel
    self.world = world
    self.keeper = keeper
  }

  func reconcile(_ request: Request) -> Receipt {
    var transaction = ReloadTransaction(nowNs: world.nowNs())
    let before = kernel.ring.currentNumber
    var isPublished = false
    isUpgradeWanted = false
    let takenBefore = takenCount
    let proposalsBefore = configuration?.proposals ?? []
    defer { wasTaken = takenCount != takenBefore }
    switch request.configuration {
    case .failure(let error):
      // What was to be looked at again was not.
      recheckMs = recheckMs.map { max($0, 1000) }
      let problems = (error as? ConfigurationError)?.problems.map(\.description) ?? ["\(error)"]
      transaction.refusals = problems.map { Receipt.Refused(configuration: $0) }
    case .success(let loaded):
      transaction.notes += request.notes + loaded.warnings.map(\.description)
      isPublished = run(loaded, request, &transaction)
    }
    if isUpgradeWanted {
      // Nothing has happened, and nothing is kept of it.
      return receipt(request.trigger, .unchanged, from: before, transaction)
    }
    let refusals = transaction.refusals + transaction.standing
    let outcome: Receipt.Outcome =
      if refusals.isEmpty {
        isPublished ? .applied : .unchanged
      } else {
        isPublished && (!transaction.changes.isEmpty || transaction.refusals.isEmpty) ? .partly : .refused
      }
    // A service may propose the same as often as it likes: that is no event.
    let isRepeated = request.proposer != nil && configuration?.proposals.map(\.json) == proposalsBefore.map(\.json)
    let receipt = finish(
      request.trigger, outcome, from: before, transaction, isHint: request.isHint || isRepeated)
    if takenCount != takenBefore { note(receipt, request) }
    return receipt
  }

  /// The proposal is in place by this receipt.
  private func note(_ receipt: Receipt, _ request: Request) {
    guard receipt.id != 0, let index = configuration?.proposals.firstIndex(where: { $0.slot == request.proposer })
    else { return }
    configuration?.proposals[index].receipt = receipt.id
    configuration?.proposals[index].at = receipt.at
  }

  func finish(
    _ trigger: String, _ outcome: Receipt.Outcome, from before: UInt64, _ transaction: ReloadTransaction, isHint: Bool
  ) -> Receipt {
    var receipt = receipt(trigger, outcome, from: before, transaction)
    let live = Set(published?.slots.map(\.image.contentHash) ?? [])
    let isKept = keeper.keep(
      receipt, isHint: isHint,
      ReceiptKeeper.Facts(
        stagingDirectory: configuration?.node.directories.staging, live: live, kept: live.union(trials.contentHashes),
        images: world.images))
    if !isKept { receipt.id = 0 }
    return receipt
  }

  func receipt(
    _ trigger: String, _ outcome: Receipt.Outcome, from before: UInt64, _ transaction: ReloadTransaction
  ) -> Receipt {
    Receipt(
      id: keeper.nextID, trigger: trigger, outcome: outcome, at: keeper.timestamp(),
      durationMs: ReloadTransaction.milliseconds(world.nowNs() - transaction.startNs), generationBefore: before,
      generation: kernel.ring.currentNumber, changes: transaction.changes,
      refusals: transaction.refusals + transaction.standing, notes: transaction.notes, phases: transaction.phases,
      rollbacks: transaction.rollbacks.isEmpty ? nil : transaction.rollbacks)
  }

  /// True when a generation was published.
  private func run(_ loaded: LoadedConfiguration, _ request: Request, _ transaction: inout ReloadTransaction) -> Bool {
    let node = loaded.node
    kernel.apply(node.isolation, startTimeoutMs: node.reload.startTimeoutMs)
    if let old = configuration?.node.directories, old != node.directories {
      let fixed = old.state != node.directories.state || old.runtime != node.directories.runtime
      if fixed { transaction.notes.append("directories.state and directories.runtime take effect at the next start") }
    }
    let catalog = world.catalogue(
      PluginCataloguer.Request(
        directories: node.pluginDirectories, optionalDirectories: Set(node.proposedPluginDirectories),
        extraPaths: node.slots.compactMap(\.pluginPath),
        stagingDirectory: node.directories.staging, pluginSizeBytesMax: node.limits.pluginSizeBytesMax,
        settleMs: node.reload.settleMs, removalGraceMs: node.reload.removalGraceMs, now: request.now))
    recheckMs = catalog.recheckMs
    transaction.notes += catalog.notices
    transaction.ended("verified", nowNs: world.nowNs())
    // Counted from here: how long a file takes to settle is not ours.
    transaction.deadlineNs = world.nowNs() + UInt64(node.limits.reloadTimeoutMs) * 1_000_000

    // A change of the configuration is taken whole or not at all; new files are taken each for itself.
    transaction.isWhole = configuration?.node != node || published == nil
    if request.retries { refusedBuilds.forgetAll() } else if !request.isHint { refusedBuilds.forgetRetriable() }
    let plan = plan(node, catalog, request, &transaction)
    let usedRefusal = catalog.refusals.filter { refusal in
      // A file that no slot would use is worth a note; one whose predecessor serves is a refusal.
      let serves = published?.slots.contains { $0.image.sourcePath == refusal.file } ?? false
      let named = transaction.refusals.contains { $0.file == refusal.file }
      if !serves && !named { transaction.notes.append(refusal.sentence) }
      return serves && !named
    }
    transaction.refusals += usedRefusal.map { Receipt.Refused(slot: nil, $0) }
    if transaction.isLost { return false }
    if mayWantUpgrade, node.reload.upgradeAtImageLimit, isAtImageLimit(plan, node) {
      isUpgradeWanted = true
      return false
    }

    probe(plan, node, &transaction)
    guard !transaction.isLost, start(plan, node, &transaction) else {
      discard(plan)
      return false
    }
    return switchOver(plan, loaded, &transaction, losesState: request.losesState)
  }

  private func plan(
    _ node: NodeConfiguration, _ catalog: PluginCatalog, _ request: Request, _ transaction: inout ReloadTransaction
  ) -> ReloadPlan {
    var plan = ReloadPlan()
    for slot in node.slots {
      let previous = published?.instance(slot: slot.name)
      do throws(Refusal) {
        guard let plugin = catalog.plugin(for: slot) else {
          throw catalog.refusal(ofFileBehind: previous, for: slot) ?? SlotRefusals.missing(slot, catalog)
        }
        guard plugin.manifest.kinds.contains(slot.kind.rawValue) else { throw SlotRefusals.wrongKind(slot, plugin) }
        if let refusal = kernel.quarantine.refusal(plugin, slot, node.quarantinePolicy) { throw refusal }
        let build = SlotBuild(slot, plugin, replacing: previous)
        try build.choose(node, kernel.quarantine)
        if build.isUnchanged {
          plan.entries.append(.kept(previous!))
          continue
        }
        if let previous, slot.name == request.proposer {
          // Its own turn comes with the next reload.
          plan.entries.append(.kept(previous))
          recheckMs = 0
          continue
        }
        if let refused = refusedBuilds[build.identity] {
          // A configuration with a slot that cannot be built is not taken, also when that was found out before.
          let isOld = configuration?.node.slots.contains(slot) ?? false
          if isOld { transaction.standing.append(refused) } else { transaction.refusals.append(refused) }
          if let previous { plan.entries.append(.kept(previous)) }
          continue
        }
        if let previous, previous.losesRecords(to: plugin), !request.losesState, !request.mayLoseRecords {
          throw SlotRefusals.wouldLoseState(previous, removing: false)
        }
        plan.entries.append(.built(build))
      } catch {
        if slot.name == request.proposer {
          recheckMs = 0
        } else {
          transaction.refusals.append(Receipt.Refused(slot: slot.name, error))
        }
        if let previous { plan.entries.append(.kept(previous)) }
      }
    }
    let names = Set(node.slots.map(\.name))
    for instance in published?.slots ?? [] where !names.contains(instance.slot.name) {
      if instance.backend != nil, instance.image.manifest.isVolatile, !request.losesState, !request.mayLoseRecords {
        transaction.refusals.append(
          Receipt.Refused(slot: instance.slot.name, SlotRefusals.wouldLoseState(instance, removing: true)))
        plan.entries.append(.kept(instance))
      } else {
        plan.removed.append(instance)
      }
    }
    for build in plan.builds { build.inheritable = plan.removed.flatMap { $0.listeners.values } }
    return plan
  }

  func refuse(_ build: SlotBuild, _ refusal: Refusal, _ transaction: inout ReloadTransaction) {
    build.isRefused = true
    let refused = Receipt.Refused(slot: build.slot.name, refusal)
    transaction.refusals.append(refused)
    refusedBuilds.add(build.identity, refused)
    if let instance = build.instance, instance.state != .wedged { world.discard(instance) }
  }

  private func probe(_ plan: ReloadPlan, _ node: NodeConfiguration, _ transaction: inout ReloadTransaction) {
    let builds = plan.builds
    let timeoutMs = transaction.timeoutMs(node.reload.probeTimeoutMs, nowNs: world.nowNs())
    for (build, refusal) in zip(builds, world.probe(builds, timeoutMs: timeoutMs)) {
      if let refusal { refuse(build, refusal, &transaction) }
    }
    transaction.ended("probed", nowNs: world.nowNs())
  }

  /// Brings every new instance to life that can be beside its predecessor. False when that is reason to give up.
  func start(_ plan: ReloadPlan, _ node: NodeConfiguration, _ transaction: inout ReloadTransaction) -> Bool {
    let builds = plan.builds.filter { !$0.isRefused }
    for build in builds.inStartOrder {
      var isConfigured = false
      do throws(Refusal) {
        guard world.nowNs() < transaction.deadlineNs else { throw SlotRefusals.reloadTimedOut(build, node) }
        try build.bindListeners()
        try build.choose(node, kernel.quarantine)
        if build.mode == .inProcess { try checkRetained(build.plugin, plan, node.limits.retainedImagesMax) }
        try world.open(build, node)
        isConfigured = true
        if !build.isExclusive {
          try world.start(
            build, node, timeoutMs: transaction.timeoutMs(node.reload.startTimeoutMs, nowNs: world.nowNs()))
        }
      } catch {
        if isConfigured, build.slot.peer != nil {
          setAside(build, error, &transaction)
          continue
        }
        refuse(build, error, &transaction)
        if transaction.isLost { break }
      }
    }
    absences = builds.contains { $0.absence != nil } ? absences + 1 : 0
    if absences > 0 { recheckMs = min(recheckMs ?? .max, Reconciler.absenceMs(absences)) }
    transaction.ended("started", nowNs: world.nowNs())
    return !transaction.isLost
  }

  /// A peer that cannot be started now is no reason to refuse anything: it is tried again from time to time.
  private func setAside(_ build: SlotBuild, _ refusal: Refusal, _ transaction: inout ReloadTransaction) {
    build.isRefused = true
    build.absence = refusal.sentence
    transaction.notes.append("the peer is away, and is tried again: \(refusal.sentence)")
    if let instance = build.instance, instance.state != .wedged { world.discard(instance) }
  }

  /// How long until a peer that could not be started is tried for the `count`th time.
  private static func absenceMs(_ count: Int) -> Int { min(30_000, 1000 << min(count - 1, 5)) }

  /// An image is never unmapped, so their number has an end (architecture.md, point 10).
  private func checkRetained(_ plugin: VerifiedPlugin, _ plan: ReloadPlan, _ limit: Int) throws(Refusal) {
    let images = world.images
    guard !images.contains(where: { $0.contentHash == plugin.contentHash }) else { return }
    let retained = retainedCount(plan)
    guard retained >= limit else { return }
    throw Refusal(
      file: plugin.sourcePath, phase: .loaded, code: Refusal.Code.tooManyImages,
      sentence:
        "\(Wording.printable(plugin.sourcePath)): \(retained) superseded plugin images are kept mapped, which is "
        + "the limit (limits.retained_images_max); a new process has none: `backplane upgrade`, then it is taken")
  }

  /// Images that serve nothing, and will not by this plan.
  private func retainedCount(_ plan: ReloadPlan) -> Int {
    let live = Set((published?.slots.map(\.image.contentHash) ?? []) + plan.builds.map(\.plugin.contentHash))
    return world.images.count { !live.contains($0.contentHash) }
  }

  /// Whether what is new would be refused because too many images are mapped.
  private func isAtImageLimit(_ plan: ReloadPlan, _ node: NodeConfiguration) -> Bool {
    let mapped = Set(world.images.map(\.contentHash))
    let new = Set(plan.builds.filter { $0.mode == .inProcess }.map(\.plugin.contentHash)).subtracting(mapped)
    // A new process has none; where that is the case already, another would not help.
    return !new.isEmpty && retainedCount(plan) >= max(1, node.limits.retainedImagesMax)
  }

  func discard(_ plan: ReloadPlan) {
    for build in plan.builds {
      guard let instance = build.instance, instance.state != .wedged else { continue }
      world.discard(instance)
    }
  }

  func adopt(_ loaded: LoadedConfiguration) {
    configuration = loaded
    takenCount += 1
    kernel.apply(loaded.node)
    for instance in published?.slots ?? [] { instance.admit(loaded.node.limits.inFlightPerSlotMax) }
    keeper.apply(loaded.node.limits)
    world.apply(loaded.node.reload)
  }

  /// Everything that was published retires: the node is ending.
  func shutDown() {
    for warm in trials.endAll() { letGo(warm) }
    guard let published else { return }
    world.quiesceActive(of: published)
    kernel.ring.close()
    world.supersede(published, leaving: published.slots)
    self.published = nil
  }
}

extension Instance {
  /// Whether replacing it by `plugin` loses records: it keeps them in memory, and there is no way to hand them over.
  func losesRecords(to plugin: VerifiedPlugin) -> Bool {
    guard backend != nil, image.manifest.isVolatile else { return false }
    return stateTable == nil || plugin.manifest.stateVersion == nil || plugin.manifest.id != image.id
  }
}

extension Reconciler {
  /// What another process served is served by these instances from now on, as far as the ring gives leases.
  func arrive(_ instances: [Instance], _ welcome: UpgradeMessage.Welcome, _ loaded: LoadedConfiguration) throws(Refusal)
  {
    let missing = welcome.missing.compactMap { missing in
      loaded.node.slots.first { $0.name == missing.slot }.map {
        Generation.MissingSlot(slot: $0, plugin: missing.plugin, version: missing.version, reason: missing.reason)
      }
    }
    let generation = try Publication.generation(
      welcome.generation + 1, instances, loaded.node.writePolicy, missing)
    let born = Dictionary(uniqueKeysWithValues: welcome.slots.map { ($0.name, $0.born) })
    for instance in instances {
      instance.generations.add(1, ordering: .relaxed)
      instance.wasPublished(in: born[instance.slot.name] ?? generation.number)
    }
    published = generation
    refusedBuilds = welcome.refusedBuilds
    adopt(loaded)
    kernel.ring.publish(generation)
  }
}
