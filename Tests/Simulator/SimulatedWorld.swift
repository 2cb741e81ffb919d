#if SIMULATION
import BackplaneABI
import SimulatedSystem

@testable import Kernel

/// The world of a reload: the kernel's own, but that files come from the shelf and no process is probed, that others run
/// before and after each effect, and that effects fail now and then.
final class SimulatedWorld: ReloadWorld {
  private let real: KernelWorld
  private unowned let node: SimulatedNode
  private(set) var images: [Image] = []

  init(_ kernel: KernelContext, _ reaper: Reaper, _ node: SimulatedNode) {
    real = KernelWorld(kernel, reaper, Prober(executable: "", stateDirectory: "", scratchParent: ""))
    self.node = node
  }

  private func step<Result>(_ what: String, _ body: () -> Result) -> Result {
    Report.trace("world: \(what)")
    Pause.some(node)
    defer { Pause.some(node) }
    return body()
  }

  private var isFaulty: Bool { Dice.percent(node.style.faultPercent) }

  func nowNs() -> UInt64 { real.nowNs() }

  func catalogue(_ request: PluginCataloguer.Request) -> PluginCatalog {
    step("catalogue") {
      node.cataloguedVersion = node.shelf.version
      var catalog = node.shelf.catalog()
      if isFaulty { catalog.recheckMs = 1 + Dice.below(300) }
      return catalog
    }
  }

  func probe(_ builds: [SlotBuild], timeoutMs: Int) -> [Refusal?] {
    step("probe") {
      builds.map { build in
        Pause.some(node)
        let isRefused = node.shelf.content(hash: build.plugin.contentHash).trouble == .probeRefuses
        guard isRefused || isFaulty else { return nil }
        return Refusal(
          file: build.plugin.sourcePath, phase: .probed,
          code: isRefused ? Refusal.Code.probeCrashed : Refusal.Code.probeTimedOut, sentence: "simulated")
      }
    }
  }

  func open(_ build: SlotBuild, _ configuration: NodeConfiguration) throws(Refusal) {
    if step("open", { isFaulty }) {
      throw Refusal(
        file: build.plugin.sourcePath, phase: .loaded, code: Refusal.Code.loadFailed, sentence: "simulated")
    }
    let image = node.shelf.content(hash: build.plugin.contentHash).image
    if !images.contains(where: { $0 === image }) { images.append(image) }
    build.image = image
  }

  func start(_ build: SlotBuild, _ configuration: NodeConfiguration, timeoutMs: Int) throws(Refusal) {
    Report.trace("world: start \(build.slot.name) \(build.plugin.contentHash)")
    Pause.some(node)
    try build.start(node.kernel, stateDirectory: "", timeoutMs: timeoutMs)
    if let memory = node.plugin(of: build.instance) as? SimulatedMemory {
      memory.mayBeEmpty =
        node.mayLoseState || build.previous == nil || StateTransfer.obstacle(build.previous!, build.instance!) != nil
    }
    Pause.some(node)
  }

  func move(
    _ phase: UInt32, _ transfer: StateTransfer, to successor: Instance?, _ limits: StateTransfer.Limits
  ) throws(StateTransfer.Failure) {
    if step("move \(phase)", { isFaulty }) { throw .failed("simulated, before") }
    if Defect.present == .halfMoved, phase == BP_STATE_REST { return }
    node.isMovingRest = phase == BP_STATE_REST
    defer { node.isMovingRest = false }
    try real.move(phase, transfer, to: successor, limits)
    node.isMovingRest = false
    if step("moved \(phase)", { isFaulty }) { throw .failed("simulated, after") }
  }

  func deliver(_ transfer: StateTransfer, to successor: Instance, deadlineNs: UInt64) throws(StateTransfer.Failure) {
    if step("deliver", { isFaulty }) { throw .failed("simulated, before") }
    try real.deliver(transfer, to: successor, deadlineNs: deadlineNs)
  }

  func abandon(_ transfer: StateTransfer) { step("abandon") { real.abandon(transfer) } }

  func waitUntilEmpty(_ fence: Fence, untilNs deadlineNs: UInt64) -> Bool {
    step("wait until the fence is empty") { real.waitUntilEmpty(fence, untilNs: deadlineNs) && !isFaulty }
  }

  func waitUntilReleased(_ instance: Instance, by leases: () -> Int, untilNs deadlineNs: UInt64) -> Bool {
    if Defect.present == .earlyStop { return true }
    return step("wait until it is released") {
      real.waitUntilReleased(instance, by: leases, untilNs: deadlineNs) && !isFaulty
    }
  }

  func stop(_ instance: Instance) -> Bool { step("stop") { real.stop(instance) } }

  func discard(_ instance: Instance) {
    Report.trace("world: discard \(instance.slot.name) \(instance.image.contentHash)")
    real.discard(instance)
  }

  func supersede(_ generation: Generation, leaving: [Instance]) {
    Report.trace("world: supersede \(generation.number), leaving \(leaving.map(\.slot.name))")
    node.noteGeneration()
    real.supersede(generation, leaving: leaving)
    Pause.some(node)
  }

  var heldGenerations: [Generation] { real.heldGenerations }

  func cancelCalls(of instance: Instance) { step("cancel the calls") { real.cancelCalls(of: instance) } }

  func tellReady(_ instances: [Instance], timeoutMs: Int) { real.tellReady(instances, timeoutMs: timeoutMs) }
  func quiesceActive(of generation: Generation) {
    step("quiesce the transports") { real.quiesceActive(of: generation) }
  }

  func apply(_ reload: NodeConfiguration.Reload) { real.apply(reload) }
}
#endif
