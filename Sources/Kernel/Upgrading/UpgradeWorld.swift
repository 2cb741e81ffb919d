import Glibc
import SystemShims

/// The world of a reload whose new instances are in another process: what they do there is asked for over the channel,
/// everything else is as ever.
final class UpgradeWorld: ReloadWorld {
  private let base: any ReloadWorld
  private let kernel: KernelContext
  private let successor: SuccessorProcess
  private let deadlineNs: UInt64
  /// Slots whose new instance is in the other process.
  private var builds: [SlotBuild] = []
  private var isGone = false

  init(_ base: any ReloadWorld, _ kernel: KernelContext, _ successor: SuccessorProcess, deadlineNs: UInt64) {
    self.base = base
    self.kernel = kernel
    self.successor = successor
    self.deadlineNs = deadlineNs
  }

  /// The next message is `done`; or throws why not.
  func awaitDone() throws(Refusal) {
    switch try receive() {
    case .done: return
    case .refused(let refusals):
      throw UpgradeWorld.refusal(refusals)
    default: throw SlotRefusals.upgrade("the new process does not answer what it was asked")
    }
  }

  static func refusal(_ refusals: [Receipt.Refused]) -> Refusal {
    SlotRefusals.upgrade("the new process refuses: " + refusals.map(\.message).joined(separator: "; "))
  }

  func receive() throws(Refusal) -> UpgradeMessage {
    do throws(UpgradeChannel.Failure) {
      let (message, descriptors) = try successor.channel.receive(untilNs: deadlineNs)
      for descriptor in descriptors { close(descriptor) }
      return message
    } catch { throw refusal(error) }
  }

  func refusal(_ failure: UpgradeChannel.Failure) -> Refusal {
    isGone = true
    var patienceMs: Int32 = 0
    // It has closed its end, and may not have ended yet.
    if case .ended = failure { patienceMs = 500 }
    let ending = successor.end(patienceMs: patienceMs)
    return SlotRefusals.upgrade(
      "the new process \(failure.clause)\(ending.isEmpty ? "" : " (\(ending)); its log says more")")
  }

  func send(_ message: UpgradeMessage, descriptors: [Int32] = []) throws(Refusal) {
    do throws(UpgradeChannel.Failure) {
      try successor.channel.send(message, descriptors: descriptors)
    } catch { throw refusal(error) }
  }

  func end() {
    guard !isGone else { return }
    isGone = true
    successor.end()
  }

  /// Makes the slot's instance there one of ours.
  func connect(_ build: SlotBuild) throws(Refusal) {
    var calls: [Int32] = [-1, -1]
    var canonical: [Int32] = [-1, -1]
    guard bp_shim_socket_pair(&calls) == 0, bp_shim_socket_pair(&canonical) == 0 else {
      for descriptor in calls + canonical where descriptor >= 0 { close(descriptor) }
      throw SlotRefusals.upgrade("no descriptor is free: \(String(cString: strerror(errno)))")
    }
    defer {
      close(calls[1])
      close(canonical[1])
    }
    do throws(Refusal) {
      try send(.serve(slot: build.slot.name), descriptors: [calls[1], canonical[1]])
      try awaitDone()
    } catch {
      close(calls[0])
      close(canonical[0])
      throw error
    }
    do throws(RemoteInstance.Failure) {
      let now = Clock.monotonicNs()
      build.adopt(
        try RemoteInstance.connect(
          calls[0], canonical: canonical[0], slot: build.slot, plugin: build.plugin, kernel,
          timeoutMs: Int((max(now, deadlineNs) - now) / 1_000_000) + 1))
    } catch { throw SlotRefusals.upgrade(error.sentence) }
  }

  func expect(_ build: SlotBuild) { builds.append(build) }

  // MARK: What is different

  func start(_ build: SlotBuild, _ node: NodeConfiguration, timeoutMs: Int) throws(Refusal) {
    guard builds.contains(where: { $0 === build }) else {
      // What served is started again: nothing of the other process's may be in its way.
      end()
      return try base.start(build, node, timeoutMs: timeoutMs)
    }
    try send(.start(slot: build.slot.name))
    try awaitDone()
    try connect(build)
  }

  /// The transports of the other process accept from here.
  func beforeFence() throws(Refusal) {
    try send(.accept)
    try awaitDone()
  }

  func stop(_ instance: Instance) -> Bool {
    // To stop what is in the other process is to give the upgrade up.
    if builds.contains(where: { $0.instance === instance }) { end() }
    return base.stop(instance)
  }

  /// What is in the other process is told there, once it has been given the node.
  func tellReady(_ instances: [Instance], timeoutMs: Int) {
    let ours = instances.filter { instance in !builds.contains { $0.instance === instance } }
    base.tellReady(ours, timeoutMs: timeoutMs)
  }

  // MARK: What is not

  func nowNs() -> UInt64 { base.nowNs() }
  func catalogue(_ request: PluginCataloguer.Request) -> PluginCatalog { base.catalogue(request) }
  func probe(_ builds: [SlotBuild], timeoutMs: Int) -> [Refusal?] { base.probe(builds, timeoutMs: timeoutMs) }
  func open(_ build: SlotBuild, _ node: NodeConfiguration) throws(Refusal) { try base.open(build, node) }
  func move(
    _ phase: UInt32, _ transfer: StateTransfer, to successor: Instance?, _ limits: StateTransfer.Limits
  ) throws(StateTransfer.Failure) {
    try base.move(phase, transfer, to: successor, limits)
  }
  func deliver(_ transfer: StateTransfer, to successor: Instance, deadlineNs: UInt64) throws(StateTransfer.Failure) {
    try base.deliver(transfer, to: successor, deadlineNs: deadlineNs)
  }
  func abandon(_ transfer: StateTransfer) { base.abandon(transfer) }
  func waitUntilEmpty(_ fence: Fence, untilNs deadlineNs: UInt64) -> Bool {
    base.waitUntilEmpty(fence, untilNs: deadlineNs)
  }
  func waitUntilReleased(_ instance: Instance, by leases: () -> Int, untilNs deadlineNs: UInt64) -> Bool {
    base.waitUntilReleased(instance, by: leases, untilNs: deadlineNs)
  }
  func discard(_ instance: Instance) { base.discard(instance) }
  func supersede(_ generation: Generation, leaving: [Instance]) { base.supersede(generation, leaving: leaving) }
  var heldGenerations: [Generation] { base.heldGenerations }
  func cancelCalls(of instance: Instance) { base.cancelCalls(of: instance) }
  func quiesceActive(of generation: Generation) { base.quiesceActive(of: generation) }
  func apply(_ reload: NodeConfiguration.Reload) { base.apply(reload) }
  var images: [Image] { base.images }
  var knownFiles: [PluginCataloguer.KnownFile] { base.knownFiles }
}

extension SlotRefusals {
  static func upgrade(_ sentence: String) -> Refusal {
    Refusal(file: "", phase: .started, code: Refusal.Code.upgradeRefused, sentence: sentence)
  }
}

extension Refusal.Code {
  static let upgradeRefused = "kernel.upgrade-refused"
}
