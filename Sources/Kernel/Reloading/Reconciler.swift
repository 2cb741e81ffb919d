import BackplaneABI
import Foundation
import Synchronization

/// The reload transaction: from the directories and the configuration to a published generation, and a receipt.
///
/// Runs on the reload thread alone. Whatever fails before the publication leaves what serves as it is.
final class Reconciler {
  struct Request {
    var trigger: String
    var configuration: Result<LoadedConfiguration, any Error>
    /// Files to take without waiting until they have settled; `*` means all.
    var now: Set<String> = []
    /// Volatile backends may be replaced though their records are lost.
    var losesState = false
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

  private let kernel: KernelContext
  private let images = ImageStore()
  private let cataloguer = PluginCataloguer()
  private let reaper: Reaper
  private let history: History
  private let prober: Prober
  private var published: Generation?
  private(set) var configuration: LoadedConfiguration?
  /// What was refused, by what was tried: not tried again by a mere hint until its file or its configuration changes.
  private var refusedBuilds: [String: Receipt.Refused] = [:]
  private var lastRefusals: [String] = []

  init(_ kernel: KernelContext, _ reaper: Reaper, _ history: History, _ prober: Prober) {
    self.kernel = kernel
    self.reaper = reaper
    self.history = history
    self.prober = prober
  }

  /// What is under way in one transaction.
  private struct Transaction {
    var phases: [Receipt.Phase] = []
    var refusals: [Receipt.Refused] = []
    var notes: [String] = []
    var changes: [Receipt.Change] = []
    let startNs = Clock.monotonicNs()
    private var phaseNs = Clock.monotonicNs()

    mutating func ended(_ phase: String) {
      let now = Clock.monotonicNs()
      phases.append(Receipt.Phase(name: phase, durationMs: Reconciler.milliseconds(now - phaseNs)))
      phaseNs = now
    }
  }

  static func milliseconds(_ nanoseconds: UInt64) -> Double { (Double(nanoseconds) / 1e4).rounded() / 100 }

  func reconcile(_ request: Request) -> Receipt {
    var transaction = Transaction()
    let before = kernel.ring.currentNumber
    let at = Timestamp.now()
    var isPublished = false
    switch request.configuration {
    case .failure(let error):
      let problems = (error as? ConfigurationError)?.problems.map(\.description) ?? ["\(error)"]
      transaction.refusals = problems.map { Receipt.Refused(configuration: $0) }
    case .success(let loaded):
      transaction.notes += request.notes + loaded.warnings.map(\.description)
      isPublished = run(loaded, request, &transaction)
    }
    let outcome: Receipt.Outcome =
      if transaction.refusals.isEmpty {
        isPublished ? .applied : .unchanged
      } else {
        isPublished && !transaction.changes.isEmpty ? .partly : .refused
      }
    let receipt = Receipt(
      id: history.nextID, trigger: request.trigger, outcome: outcome, at: at,
      durationMs: Reconciler.milliseconds(Clock.monotonicNs() - transaction.startNs), generationBefore: before,
      generation: kernel.ring.currentNumber, changes: transaction.changes, refusals: transaction.refusals,
      notes: transaction.notes, phases: transaction.phases)
    let refusals = receipt.refusals.map { "\($0.slot ?? "") \($0.message)" }
    let isNews = receipt.outcome != .unchanged && (isPublished || refusals != lastRefusals)
    lastRefusals = refusals
    // A hint that came to nothing new is no event: an editor's temporary file must not fill the history.
    if !request.isHint || isNews { finish(receipt) }
    return receipt
  }

  private func finish(_ receipt: Receipt) {
    if receipt.generation != receipt.generationBefore, let directory = configuration?.node.directories.staging {
      // Images that are mapped do not need their file any more; the ones that serve keep it for the next start.
      let live = Set(published?.slots.map(\.image.contentHash) ?? [])
      _ = try? Staging(directory: directory).removeUnused(keeping: live, olderThanMs: 60_000)
    }
    if let problem = history.add(receipt) {
      kernel.log.warning("the receipt could not be written", ["reason": problem])
    }
    let images = images.images
    let live = Set(published?.slots.map(\.image.contentHash) ?? [])
    kernel.reloadCounts.withLock { counts in
      counts.outcomes[receipt.outcome.rawValue, default: 0] += 1
      if receipt.outcome == .applied { counts.lastSuccessMs = Clock.wallMs() }
      let retained = images.filter { !live.contains($0.contentHash) }
      counts.retainedImages = retained.count
      counts.retainedImageBytes = retained.reduce(0) { $0 + $1.sizeBytes }
    }
    for refusal in receipt.refusals {
      kernel.log.warning(
        "refused",
        ["code": refusal.code, "stage": refusal.stage, "reason": refusal.message, "receipt": "\(receipt.id)"]
      )
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

  /// True when a generation was published.
  private func run(_ loaded: LoadedConfiguration, _ request: Request, _ transaction: inout Transaction) -> Bool {
    let node = loaded.node
    if let old = configuration?.node.directories, old != node.directories {
      let fixed = old.state != node.directories.state || old.runtime != node.directories.runtime
      if fixed { transaction.notes.append("directories.state and directories.runtime take effect at the next start") }
    }
    let catalog = cataloguer.catalogue(
      PluginCataloguer.Request(
        directories: node.directories.plugins, extraPaths: node.slots.compactMap(\.pluginPath),
        stagingDirectory: node.directories.staging, pluginSizeBytesMax: node.limits.pluginSizeBytesMax,
        settleMs: node.reload.settleMs, now: request.now))
    transaction.notes += catalog.notices
    transaction.ended("verified")

    // A change of the configuration is taken whole or not at all; new files are taken each for itself.
    let isWhole = configuration?.node != node
    let plan = plan(node, catalog, request, &transaction)
    let usedRefusal = catalog.refusals.filter { refusal in
      // A file that no slot would use is worth a note; one whose predecessor serves is a refusal.
      let serves = published?.slots.contains { $0.image.sourcePath == refusal.file } ?? false
      let named = transaction.refusals.contains { $0.file == refusal.file }
      if !serves && !named { transaction.notes.append(refusal.sentence) }
      return serves && !named
    }
    transaction.refusals += usedRefusal.map { Receipt.Refused(slot: nil, $0) }
    if !transaction.refusals.isEmpty && (isWhole || published == nil) { return false }

    if !request.isHint { refusedBuilds = [:] }
    build(plan, node, &transaction, stopsAtFirst: isWhole || published == nil)
    if !transaction.refusals.isEmpty && (isWhole || published == nil) {
      discard(plan)
      return false
    }
    return publish(plan, loaded, &transaction)
  }

  /// What each slot of the next generation is: an instance that serves already, or one to be built.
  private struct Plan {
    enum Entry {
      case kept(Instance)
      case built(SlotBuild)
    }
    var entries: [Entry] = []
    var removed: [Instance] = []
  }

  private func plan(
    _ node: NodeConfiguration, _ catalog: PluginCatalog, _ request: Request, _ transaction: inout Transaction
  ) -> Plan {
    var plan = Plan()
    for slot in node.slots {
      let previous = published?.instance(slot: slot.name)
      do throws(Refusal) {
        guard let plugin = catalog.plugin(for: slot) else {
          throw catalog.refusal(ofFileBehind: previous, for: slot) ?? SlotRefusals.missing(slot, catalog)
        }
        guard plugin.manifest.kinds.contains(slot.kind.rawValue) else { throw SlotRefusals.wrongKind(slot, plugin) }
        if let refusal = kernel.quarantine.refusal(plugin, slot, node.quarantinePolicy) { throw refusal }
        let build = SlotBuild(slot, plugin, replacing: previous)
        if build.isUnchanged {
          plan.entries.append(.kept(previous!))
          continue
        }
        if let previous, previous.backend != nil, previous.image.manifest.isVolatile, !request.losesState {
          throw SlotRefusals.wouldLoseState(previous, removing: false)
        }
        plan.entries.append(.built(build))
      } catch {
        transaction.refusals.append(Receipt.Refused(slot: slot.name, error))
        if let previous { plan.entries.append(.kept(previous)) }
      }
    }
    let names = Set(node.slots.map(\.name))
    for instance in published?.slots ?? [] where !names.contains(instance.slot.name) {
      if instance.backend != nil, instance.image.manifest.isVolatile, !request.losesState {
        transaction.refusals.append(
          Receipt.Refused(slot: instance.slot.name, SlotRefusals.wouldLoseState(instance, removing: true)))
        plan.entries.append(.kept(instance))
      } else {
        plan.removed.append(instance)
      }
    }
    return plan
  }

  /// Brings every new instance to life. What fails falls back to the instance that serves.
  private func build(
    _ plan: borrowing Plan, _ node: NodeConfiguration, _ transaction: inout Transaction, stopsAtFirst: Bool
  ) {
    var builds = plan.entries.compactMap { entry in
      if case .built(let build) = entry { return build }
      return nil
    }
    for build in builds {
      if let refused = refusedBuilds[build.identity] { transaction.refusals.append(refused) }
    }
    builds.removeAll { refusedBuilds[$0.identity] != nil }
    func refuse(_ build: SlotBuild, _ refusal: Refusal) {
      let refused = Receipt.Refused(slot: build.slot.name, refusal)
      transaction.refusals.append(refused)
      refusedBuilds[build.identity] = refused
    }
    // Probes run side by side: each is a process.
    let probes = builds.map { build -> Promise<Result<Void, Refusal>> in
      let promise = Promise<Result<Void, Refusal>>()
      let prober = prober
      let thread = Thread.start(name: "bp-probe") {
        do throws(Refusal) {
          try prober.probe(build.plugin, build.slot, timeoutMs: node.reload.probeTimeoutMs)
          promise.set(.success(()))
        } catch { promise.set(.failure(error)) }
      }
      if let thread { pthread_detach(thread) } else { promise.set(.success(())) }
      return promise
    }
    var failed: Set<String> = []
    for (build, probe) in zip(builds, probes) {
      if case .failure(let refusal) = probe.get() {
        refuse(build, refusal)
        failed.insert(build.slot.name)
      }
    }
    transaction.ended("probed")
    if stopsAtFirst && !failed.isEmpty { return }
    // Transports last: they accept as soon as they have started.
    let ordered = builds.filter { $0.slot.kind != .transport } + builds.filter { $0.slot.kind == .transport }
    for build in ordered where !failed.contains(build.slot.name) {
      do throws(Refusal) {
        try build.bindListeners()
        try checkRetained(build.plugin, node.limits.retainedImagesMax)
        let image = try images.open(build.plugin)
        let directory = "\(node.directories.state)/slots/\(build.slot.name)"
        try? FileManager.default.createDirectory(
          atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        try build.start(image, kernel, stateDirectory: directory, timeoutMs: node.reload.startTimeoutMs)
      } catch {
        refuse(build, error)
        if stopsAtFirst { break }
      }
    }
    transaction.ended("started")
  }

  /// An image is never unmapped, so their number has an end (architecture.md, point 10).
  private func checkRetained(_ plugin: VerifiedPlugin, _ limit: Int) throws(Refusal) {
    let images = images.images
    guard !images.contains(where: { $0.contentHash == plugin.contentHash }) else { return }
    let live = Set(published?.slots.map(\.image.contentHash) ?? [])
    let retained = images.filter { !live.contains($0.contentHash) }.count
    guard retained >= limit else { return }
    throw Refusal(
      file: plugin.sourcePath, phase: .loaded, code: Refusal.Code.tooManyImages,
      sentence:
        "\(Wording.printable(plugin.sourcePath)): \(retained) superseded plugin images are kept mapped, which is "
        + "the limit (limits.retained_images_max); restart the node, then it is taken")
  }

  private func discard(_ plan: Plan) {
    for entry in plan.entries {
      guard case .built(let build) = entry, let instance = build.instance, instance.state != .wedged else { continue }
      reaper.discard(instance)
    }
  }

  private func publish(_ plan: Plan, _ loaded: LoadedConfiguration, _ transaction: inout Transaction) -> Bool {
    var slots: [Instance] = []
    var changes: [Receipt.Change] = []
    for entry in plan.entries {
      switch entry {
      case .kept(let instance): slots.append(instance)
      case .built(let build):
        guard let instance = build.instance, instance.state == .serving else {
          if let instance = build.instance, instance.state != .wedged { reaper.discard(instance) }
          if let previous = build.previous { slots.append(previous) }
          continue
        }
        slots.append(instance)
        changes.append(Reconciler.change(build, instance))
      }
    }
    for instance in plan.removed {
      changes.append(
        Receipt.Change(
          slot: instance.slot.name, action: .removed, plugin: instance.image.id, version: "",
          previousVersion: instance.image.version, reason: "no longer configured", content: ""))
    }
    let policy = loaded.node.writePolicy
    let isSame =
      published.map { old in
        old.slots.count == slots.count && zip(old.slots, slots).allSatisfy { $0 === $1 } && old.writePolicy == policy
      } ?? false
    if isSame {
      adopt(loaded)
      return false
    }
    guard let number = kernel.ring.nextNumber() else {
      transaction.refusals.append(
        Receipt.Refused(
          slot: nil,
          Refusal(
            file: "", phase: .started, code: Refusal.Code.tooManyImages,
            sentence: "\(GenerationRing.capacity) superseded generations are still held by requests; see the log for "
              + "who holds them, or restart the node")))
      discard(plan)
      return false
    }
    let generation: Generation
    do throws(Refusal) {
      generation = try makeGeneration(number, slots, policy)
    } catch {
      transaction.refusals.append(Receipt.Refused(slot: nil, error))
      discard(plan)
      return false
    }
    for instance in slots {
      instance.generations.add(1, ordering: .relaxed)
      instance.wasPublished(in: number)
    }
    adopt(loaded)
    kernel.ring.publish(generation)
    transaction.ended("published")
    transaction.changes = changes
    if let old = published {
      reaper.supersede(old, leaving: old.slots.filter { instance in !slots.contains { $0 === instance } })
    }
    published = generation
    return true
  }

  private func adopt(_ loaded: LoadedConfiguration) {
    configuration = loaded
    kernel.apply(loaded.node.limits)
    kernel.log.apply(loaded.node.log)
    history.setLimit(loaded.node.limits.historyReceiptsMax)
    reaper.apply(
      Reaper.Limits(
        drainSoftMs: loaded.node.reload.drainSoftMs, drainHardMs: loaded.node.reload.drainHardMs, stopMs: 10_000))
  }

  private static func change(_ build: SlotBuild, _ instance: Instance) -> Receipt.Change {
    let previous = build.previous
    let reason =
      previous.map { $0.image.contentHash != build.plugin.contentHash ? "new file" : "new configuration" } ?? "new slot"
    return Receipt.Change(
      slot: build.slot.name, action: previous == nil ? .added : .replaced, plugin: instance.image.id,
      version: instance.image.version, previousVersion: previous?.image.version ?? "", reason: reason,
      content: build.plugin.contentHash)
  }

  private func makeGeneration(_ number: UInt64, _ slots: [Instance], _ policy: WritePolicy) throws(Refusal)
    -> Generation
  {
    var routes: [Generation.ProgramRoute] = []
    var fallback: Instance?
    for instance in slots where instance.schema != nil {
      for program in instance.programs {
        if program.flags & BP_PROGRAM_FALLBACK != 0 {
          if let fallback { throw Reconciler.conflict("every other program", fallback, instance) }
          fallback = instance
        } else if let owner = routes.first(where: { $0.key == program.key })?.schema {
          throw Reconciler.conflict(
            "the program '\(Wording.printable(String(decoding: program.key, as: UTF8.self)))'", owner, instance)
        } else {
          routes.append(Generation.ProgramRoute(key: program.key, schema: instance, flags: program.flags))
        }
      }
    }
    return Generation(number: number, slots: slots, programs: routes, fallback: fallback, writePolicy: policy)
  }

  private static func conflict(_ what: String, _ first: Instance, _ second: Instance) -> Refusal {
    Refusal(
      file: second.image.sourcePath, phase: .started, code: Refusal.Code.programConflict,
      sentence:
        "slots '\(first.slot.name)' (\(first.image.id)) and '\(second.slot.name)' (\(second.image.id)) both claim "
        + "\(what); remove one of the slots, or configure one of them to leave it")
  }

  /// Everything that was published retires: the node is ending.
  func shutDown() {
    guard let published else { return }
    reaper.quiesceTransports(of: published)
    kernel.ring.close()
    reaper.supersede(published, leaving: published.slots)
    self.published = nil
  }
}
