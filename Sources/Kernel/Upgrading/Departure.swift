import BackplaneABI
import Foundation
import SystemShims

/// The way out: another process takes this one's place, and this one ends what it has begun.
///
/// Everything that can fail comes before the publication in which slots with state are instances of the other process.
/// The reload thread alone.
final class Departure {
  /// So many processes may drain before the one that serves.
  static let predecessorsMax = 4
  /// How long the new process may take to say that it serves, once nothing can fail any more.
  private static let commitTimeoutMs: UInt64 = 30_000

  private let kernel: KernelContext
  private let reconciler: Reconciler
  private let notifier: ServiceManager
  private let origin: ProcessOrigin
  private let process: SuccessorProcess
  private let world: UpgradeWorld
  private let line: ShepherdLine?
  private var builds: [SlotBuild] = []
  private var isPublished = false

  /// What has happened when it has gone well.
  struct Done {
    let process: SuccessorProcess
    let line: ShepherdLine?
    let receipt: Receipt
  }

  private init(
    _ kernel: KernelContext, _ reconciler: Reconciler, _ notifier: ServiceManager, _ origin: ProcessOrigin,
    _ process: SuccessorProcess, _ line: ShepherdLine?, deadlineNs: UInt64
  ) {
    self.kernel = kernel
    self.reconciler = reconciler
    self.notifier = notifier
    self.origin = origin
    self.process = process
    self.line = line
    world = UpgradeWorld(reconciler.world, kernel, process, deadlineNs: deadlineNs)
  }

  /// - Parameters:
  ///   - executable: what to run; nil: what runs now.
  ///   - control: the listening control socket.
  ///   - predecessors: processes before this one that still drain.
  ///   - isReloadComing: the reload that made it necessary is asked for again as soon as it is done.
  static func run(
    _ kernel: KernelContext, _ reconciler: Reconciler, _ notifier: ServiceManager, trigger: String, executable: String?,
    control: Int32?, predecessors: Int, isReloadComing: Bool, _ transaction: inout ReloadTransaction
  ) throws(Refusal) -> Done {
    guard let origin = ProcessOrigin.current, let loaded = reconciler.configuration,
      let published = reconciler.published
    else { throw SlotRefusals.upgrade("this process is no node that can be replaced") }
    guard predecessors < predecessorsMax else {
      throw SlotRefusals.upgrade(
        "\(predecessors) processes before this one still end what they have begun; wait until they have")
    }
    for instance in published.backends where instance.image.manifest.isVolatile && instance.stateTable == nil {
      throw SlotRefusals.upgrade(
        "slot '\(instance.slot.name)' keeps its records in memory, and \(instance.image.id) cannot hand them over")
    }
    let timeoutNs = UInt64(loaded.node.reload.upgradeTimeoutMs) * 1_000_000
    transaction.deadlineNs = Clock.monotonicNs() + timeoutNs
    transaction.isWhole = true
    let line = origin.hasServiceManager ? nil : try ShepherdLine.ofThisProcess(origin)
    let process: SuccessorProcess
    do throws(SuccessorProcess.Failure) {
      process = try SuccessorProcess.start(origin, executable: executable, shepherd: line?.kernelEnd)
    } catch { throw SlotRefusals.upgrade(error.sentence) }
    let departure = Departure(
      kernel, reconciler, notifier, origin, process, line, deadlineNs: transaction.deadlineNs)
    do throws(Refusal) {
      let receipt = try departure.handOver(
        loaded, published, trigger, control: control, predecessors: predecessors, isReloadComing: isReloadComing,
        &transaction)
      return Done(process: process, line: line, receipt: receipt)
    } catch {
      departure.giveUp()
      throw error
    }
  }

  private func giveUp() {
    world.end()
    for build in builds {
      if let instance = build.instance, instance.generations.load(ordering: .acquiring) == 0 {
        reconciler.world.discard(instance)
      }
    }
  }

  private func handOver(
    _ loaded: LoadedConfiguration, _ published: Generation, _ trigger: String, control: Int32?, predecessors: Int,
    isReloadComing: Bool, _ transaction: inout ReloadTransaction
  ) throws(Refusal) -> Receipt {
    let hello: UpgradeMessage.Hello
    switch try world.receive() {
    case .hello(let received): hello = received
    case .refused(let refusals): throw UpgradeWorld.refusal(refusals)
    default: throw SlotRefusals.upgrade("the new process is no kernel that can take over")
    }
    guard hello.protocolVersion == UpgradeMessage.protocolVersion else {
      throw SlotRefusals.upgrade(
        "the new process speaks version \(hello.protocolVersion) of the handover and this one "
          + "\(UpgradeMessage.protocolVersion); restart the node")
    }
    try welcome(loaded, published, control: control, predecessors: predecessors)
    try world.awaitDone()
    transaction.ended("started", nowNs: world.nowNs())
    try moveSlots(published, loaded, &transaction)
    return try commit(hello, trigger, published, isReloadComing, &transaction)
  }

  private func welcome(
    _ loaded: LoadedConfiguration, _ published: Generation, control: Int32?, predecessors: Int
  ) throws(Refusal) {
    var descriptors: [Int32] = []
    var listeners: [UpgradeMessage.Listener] = []
    for instance in published.slots {
      for (name, listener) in instance.listeners {
        listeners.append(
          UpgradeMessage.Listener(slot: instance.slot.name, name: name, address: listener.address))
        descriptors.append(listener.descriptor)
      }
    }
    let slots = published.slots.map { instance in
      UpgradeMessage.Slot(
        name: instance.slot.name, role: role(instance), contentHash: instance.image.contentHash,
        stagedPath: instance.image.stagedPath, sourcePath: instance.image.sourcePath,
        born: instance.bornGeneration.load(ordering: .relaxed))
    }
    try world.send(
      .welcome(
        UpgradeMessage.Welcome(
          node: loaded.node, generation: published.number, versionLane: kernel.versions.nextLane,
          predecessors: predecessors + 1, slots: slots,
          missing: published.missing.map {
            UpgradeMessage.Missing(slot: $0.slot.name, plugin: $0.plugin, version: $0.version, reason: $0.reason)
          }, listeners: listeners, refusedBuilds: reconciler.refusedBuilds, files: reconciler.world.knownFiles,
          proposals: loaded.proposals)),
      descriptors: descriptors + (control.map { [$0] } ?? []))
  }

  /// It is stopped here and started there once the other process serves: nothing of it moves, and no request waits for it.
  static func isHandedOverLate(_ instance: Instance) -> Bool {
    guard instance.slot.kind.isActive, instance.image.manifest.handover == .stopThenStart else { return false }
    return instance.slot.kind == .transport || instance.stateTable == nil
  }

  private func role(_ instance: Instance) -> UpgradeMessage.Slot.Role {
    if instance.image.manifest.handover == .stopThenStart { return .exclusive }
    return instance.stateTable != nil ? .moves : .beside
  }

  /// What keeps something that only one can have goes to the other process, by the same steps as in a reload.
  private func moveSlots(
    _ published: Generation, _ loaded: LoadedConfiguration, _ transaction: inout ReloadTransaction
  ) throws(Refusal) {
    for instance in published.slots where instance.slot.kind != .transport && !Departure.isHandedOverLate(instance) {
      let role = role(instance)
      guard role != .beside else { continue }
      let build = SlotBuild(instance.slot, instance.image.plugin, replacing: instance)
      build.isWayBack = true
      builds.append(build)
      world.expect(build)
      if role == .moves { try world.connect(build) }
    }
    guard !builds.isEmpty else {
      try world.beforeFence()
      transaction.ended("accepted", nowNs: world.nowNs())
      return
    }
    let base = reconciler.world
    let refusedBuilds = reconciler.refusedBuilds
    reconciler.world = world
    isPublished = reconciler.switchOver(
      ReloadPlan(handingOver: builds, of: published), loaded, &transaction, losesState: false)
    reconciler.world = base
    // What serves is not refused content.
    reconciler.refusedBuilds = refusedBuilds
    if let refused = transaction.refusals.popLast() {
      throw SlotRefusals.upgrade(refused.message)
    }
    for build in builds {
      if let note = build.stateNote { transaction.notes.append("slot '\(build.slot.name)': \(note)") }
    }
  }

  private func commit(
    _ hello: UpgradeMessage.Hello, _ trigger: String, _ published: Generation, _ isReloadComing: Bool,
    _ transaction: inout ReloadTransaction
  ) throws(Refusal) -> Receipt {
    transaction.notes.insert("process \(getpid()) has handed over to process \(process.pid)", at: 0)
    if hello.version != BackplaneVersion.current {
      transaction.changes.append(
        Receipt.Change(
          slot: "", action: .replaced, plugin: "kernel", version: hello.version,
          previousVersion: BackplaneVersion.current, reason: "upgrade", content: ""))
    } else {
      transaction.changes = []
    }
    let receipt = reconciler.receipt(trigger, .applied, from: published.number, transaction)
    // In this order: systemd takes what the new process says only when it knows that it is the main one.
    notifier.mainProcess(process.pid)
    line?.announce(process.pid)
    let counters = UpgradeCounters(kernel, published)
    do throws(UpgradeChannel.Failure) {
      try process.channel.send(
        .commit(UpgradeMessage.Commit(receipt: receipt, counters: counters, isReloadComing: isReloadComing)))
      let deadlineNs = Clock.monotonicNs() + Departure.commitTimeoutMs * 1_000_000
      if case .committed(let receipt) = try process.channel.receive(untilNs: deadlineNs).0 { return receipt }
      throw .garbled("no answer to the commit")
    } catch {
      kernel.log.error("the new process \(error.clause), after it had been given the node")
      notifier.mainProcess(getpid())
      line?.announce(getpid())
      guard isPublished else {
        throw SlotRefusals.upgrade("the new process \(error.clause)")
      }
      // What was in memory is there and gone: as after a crash, the node begins anew.
      process.end()
      _exit(70)
    }
  }
}

extension ReloadPlan {
  /// The plan by which some slots go to another process and the rest stay as they are.
  init(handingOver builds: [SlotBuild], of generation: Generation) {
    self.init()
    entries = generation.slots.map { instance in
      builds.first { $0.previous === instance }.map { .built($0) } ?? .kept(instance)
    }
  }
}
