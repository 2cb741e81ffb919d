import BackplaneABI
import Foundation
import Glibc

/// What a reload does outside its own bookkeeping: everything that takes time, can fail, or lets other things happen
/// meanwhile. The reload thread calls it; tests put a world of their own in its place, with its own clock and faults.
protocol ReloadWorld: AnyObject {
  /// CLOCK_MONOTONIC, in nanoseconds.
  func nowNs() -> UInt64
  /// What lies in the directories, verified.
  func catalogue(_ request: PluginCataloguer.Request) -> PluginCatalog
  /// Probes side by side; a refusal or nil for each.
  func probe(_ builds: [SlotBuild], timeoutMs: Int) -> [Refusal?]
  /// Maps the image of a new slot, as far as it is to run in this process.
  func open(_ build: SlotBuild, _ node: NodeConfiguration) throws(Refusal)
  /// Creates, configures and starts.
  func start(_ build: SlotBuild, _ node: NodeConfiguration, timeoutMs: Int) throws(Refusal)
  /// State has been exported while everything serves; fences and door are about to shut. The last that may refuse.
  func beforeFence() throws(Refusal)
  /// Moves one phase of a slot's state; nil as successor keeps it for `deliver`.
  func move(_ phase: UInt32, _ transfer: StateTransfer, to successor: Instance?, _ limits: StateTransfer.Limits)
    throws(StateTransfer.Failure)
  func deliver(_ transfer: StateTransfer, to successor: Instance, deadlineNs: UInt64) throws(StateTransfer.Failure)
  func abandon(_ transfer: StateTransfer)
  /// Waits until no write is inside the fence.
  func waitUntilEmpty(_ fence: Fence, untilNs deadlineNs: UInt64) -> Bool
  /// Waits until no request holds the instance.
  func waitUntilReleased(_ instance: Instance, by leases: () -> Int, untilNs deadlineNs: UInt64) -> Bool
  /// Quiesces, stops and destroys, and waits for it. False when it is wedged.
  func stop(_ instance: Instance) -> Bool
  /// An instance that was started and not published goes.
  func discard(_ instance: Instance)
  /// A generation has been superseded; `leaving` are its instances that its successor does not have.
  func supersede(_ generation: Generation, leaving: [Instance])
  /// Superseded generations that requests still hold.
  var heldGenerations: [Generation] { get }
  /// Gives up the calls that are open in an instance.
  func cancelCalls(of instance: Instance)
  /// Tells those services of a published generation that have not been told yet that the node serves.
  func tellReady(_ instances: [Instance], timeoutMs: Int)
  /// Quiesces the services of a generation, then its transports, and waits for it: the node is ending.
  func quiesceActive(of generation: Generation)
  func apply(_ reload: NodeConfiguration.Reload)
  /// Images that are mapped in this process.
  var images: [Image] { get }
  /// What the paths in the directories held when they were last looked at.
  var knownFiles: [PluginCataloguer.KnownFile] { get }
}

extension ReloadWorld {
  func beforeFence() throws(Refusal) {}
  var knownFiles: [PluginCataloguer.KnownFile] { [] }
}

/// The kernel's.
final class KernelWorld: ReloadWorld {
  private let kernel: KernelContext
  private let store = ImageStore()
  private let cataloguer = PluginCataloguer()
  private let prober: Prober
  private let reaper: Reaper

  init(_ kernel: KernelContext, _ reaper: Reaper, _ prober: Prober) {
    self.kernel = kernel
    self.reaper = reaper
    self.prober = prober
  }

  var images: [Image] { store.images }

  var knownFiles: [PluginCataloguer.KnownFile] { cataloguer.knownFiles }

  func remember(_ files: [PluginCataloguer.KnownFile]) { cataloguer.remember(files) }

  func nowNs() -> UInt64 { Clock.monotonicNs() }

  func catalogue(_ request: PluginCataloguer.Request) -> PluginCatalog { cataloguer.catalogue(request) }

  func probe(_ builds: [SlotBuild], timeoutMs: Int) -> [Refusal?] {
    let probes = builds.map { build -> Promise<Refusal?> in
      let promise = Promise<Refusal?>()
      let thread = Thread.start(name: "bp-probe") { [prober] in
        do throws(Refusal) {
          try prober.probe(build.plugin, build.slot, timeoutMs: timeoutMs)
          promise.set(nil)
        } catch { promise.set(error) }
      }
      if let thread { pthread_detach(thread) } else { promise.set(nil) }
      return promise
    }
    return probes.map { $0.get() }
  }

  func open(_ build: SlotBuild, _ node: NodeConfiguration) throws(Refusal) {
    build.image = build.mode == .process ? Image(build.plugin, entry: ProxyTables.entry) : try store.open(build.plugin)
  }

  func start(_ build: SlotBuild, _ node: NodeConfiguration, timeoutMs: Int) throws(Refusal) {
    try build.start(kernel, stateDirectory: stateDirectory(build, node), timeoutMs: timeoutMs)
  }

  /// Creates and configures.
  func prepare(_ build: SlotBuild, _ node: NodeConfiguration, timeoutMs: Int) throws(Refusal) {
    try build.prepare(kernel, stateDirectory: stateDirectory(build, node), timeoutMs: timeoutMs)
  }

  private func stateDirectory(_ build: SlotBuild, _ node: NodeConfiguration) -> String {
    let directory = "\(node.directories.state)/slots/\(build.slot.name)"
    try? FileManager.default.createDirectory(
      atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    return directory
  }

  func move(
    _ phase: UInt32, _ transfer: StateTransfer, to successor: Instance?, _ limits: StateTransfer.Limits
  ) throws(StateTransfer.Failure) {
    try transfer.move(phase, to: successor, limits)
  }

  func deliver(_ transfer: StateTransfer, to successor: Instance, deadlineNs: UInt64) throws(StateTransfer.Failure) {
    try transfer.deliver(to: successor, deadlineNs: deadlineNs)
  }

  func abandon(_ transfer: StateTransfer) { transfer.abandon() }

  func waitUntilEmpty(_ fence: Fence, untilNs deadlineNs: UInt64) -> Bool {
    fence.waitUntilEmpty(untilNs: deadlineNs)
  }

  func waitUntilReleased(_ instance: Instance, by leases: () -> Int, untilNs deadlineNs: UInt64) -> Bool {
    while leases() > 0 {
      guard nowNs() < deadlineNs else { return false }
      usleep(500)
    }
    return true
  }

  func stop(_ instance: Instance) -> Bool { reaper.stop(instance) }

  var heldGenerations: [Generation] { reaper.heldGenerations }

  func cancelCalls(of instance: Instance) {
    for token in CallSlab.shared.openTokens(of: instance) { instance.cancel(token) }
  }

  func tellReady(_ instances: [Instance], timeoutMs: Int) { ServiceNotice.tellReady(instances, timeoutMs: timeoutMs) }

  func quiesceActive(of generation: Generation) { reaper.quiesceActive(of: generation) }

  func apply(_ reload: NodeConfiguration.Reload) {
    reaper.apply(
      Reaper.Limits(
        drainSoftMs: reload.drainSoftMs, drainHardMs: reload.drainHardMs, stopMs: 10_000,
        cancelGraceMs: reload.cancelGraceMs))
  }

  func discard(_ instance: Instance) { reaper.discard(instance) }

  func supersede(_ generation: Generation, leaving: [Instance]) { reaper.supersede(generation, leaving: leaving) }
}
