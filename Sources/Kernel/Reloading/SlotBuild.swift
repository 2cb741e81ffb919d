import BackplaneABI
import Foundation

/// One slot on its way into a generation: from a verified file and a configuration to a started instance. Each step
/// throws one sentence and leaves nothing behind that `discard` does not clean up.
final class SlotBuild: @unchecked Sendable {
  // @unchecked: one step runs at a time; the reload thread waits for each.
  let slot: SlotConfiguration
  let plugin: VerifiedPlugin
  let previous: Instance?
  /// Where its code comes from; set before `start`.
  var image: Image?
  private(set) var instance: Instance?
  private(set) var listeners: [String: Listener] = [:]
  /// Where the instance is to run.
  private(set) var mode = IsolationMode.inProcess
  /// Sockets of this slot in the kernel before this one, by the manifest's name.
  var handedOver: [String: Listener] = [:]
  /// Sockets of slots that leave, to be taken over by address.
  var inheritable: [Listener] = []
  /// The state of the previous instance, on its way.
  var transfer: StateTransfer?
  /// What became of the state, for the receipt: nil when there was none.
  var stateNote: String?
  /// It was refused: the previous instance stays, or what stands in for it.
  var isRefused = false
  /// The previous instance was stopped to make room: what runs in its place when this build was refused.
  var standIn: Instance?
  var isPreviousStopped = false
  /// Why a peer could not be started: the slot stays empty for now, and nothing else waits for it.
  var absence: String?
  /// It is a rollback: there is no probation against what it replaces.
  var isWayBack = false

  init(_ slot: SlotConfiguration, _ plugin: VerifiedPlugin, replacing previous: Instance?) {
    self.slot = slot
    self.plugin = plugin
    self.previous = previous
  }

  /// What is tried: this content with this configuration.
  var identity: String {
    let place = "\(slot.isolation?.rawValue ?? "") \(slot.processLimits)"
    let role = slot.peer.map { " \($0.direction.rawValue)" } ?? ""
    return "\(slot.name) \(plugin.contentHash) \(slot.json) \(place)\(role)"
  }

  /// Decides where the instance is to run.
  func choose(_ node: NodeConfiguration, _ quarantine: Quarantine) throws(Refusal) {
    mode = try IsolationChoice.decide(
      slot, plugin, policy: node.isolation.policy,
      isQuarantined: quarantine.isolates(plugin, node.quarantinePolicy))
  }

  /// The previous instance must be gone before this one starts (`stop-then-start`).
  var isExclusive: Bool {
    guard let previous else { return false }
    return previous.image.manifest.handover == .stopThenStart || plugin.manifest.handover == .stopThenStart
  }

  /// It is started and is to be published.
  var isServing: Bool { !isRefused && instance?.state == .serving }

  /// What the slot has in the next generation; nil when nothing is left to serve it.
  var published: Instance? {
    if isServing { return instance }
    if absence != nil { return nil }
    return isPreviousStopped ? standIn : previous
  }

  /// Whether the instance that serves is what is wanted already.
  var isUnchanged: Bool {
    guard let previous else { return false }
    return previous.image.contentHash == plugin.contentHash && previous.slot.json == slot.json
      && previous.slot.kind == slot.kind && previous.slot.scheme == slot.scheme && previous.slot.peer == slot.peer
      && (previous.proxy != nil) == (mode == .process)
      && (mode == .inProcess || previous.slot.processLimits == slot.processLimits)
  }

  /// Binds the listening sockets that the manifest declares, or takes over those that the previous instance was lent.
  func bindListeners() throws(Refusal) {
    let object =
      (try? JSONSerialization.jsonObject(with: Data(slot.json.utf8))).flatMap { $0 as? [String: Any] } ?? [:]
    for wanted in plugin.manifest.listeners {
      let address: String
      switch object[wanted.configurationKey] {
      case let text as String: address = text
      case let number as NSNumber: address = "\(number)"
      default:
        guard let text = wanted.defaultAddress else { continue }
        address = text
      }
      if let existing = handedOver[wanted.name] ?? previous?.listeners[wanted.name], existing.address == address {
        listeners[wanted.name] = existing
        continue
      }
      // Another slot's that is not configured any more: the slot was renamed, perhaps.
      if let existing = inheritable.first(where: { $0.address == address }) {
        listeners[wanted.name] = existing
        continue
      }
      do throws(ListenerError) {
        listeners[wanted.name] = try Listener(address: address)
      } catch {
        throw Refusal(
          file: plugin.sourcePath, phase: .configured, code: Refusal.Code.listenerFailed,
          sentence: "slot '\(slot.name)': \(error.sentence)")
      }
    }
  }

  /// Creates, configures and starts.
  func start(_ kernel: KernelContext, stateDirectory: String, timeoutMs: Int) throws(Refusal) {
    try prepare(kernel, stateDirectory: stateDirectory, timeoutMs: timeoutMs)
    try begin(timeoutMs: timeoutMs)
  }

  /// An instance that another process has made and started stands for the slot.
  func adopt(_ remote: Instance) {
    image = remote.image
    instance = remote
  }

  /// Creates and configures.
  func prepare(_ kernel: KernelContext, stateDirectory: String, timeoutMs: Int) throws(Refusal) {
    let image = image!
    let made = InstanceRegistry.shared.register {
      Instance(handle: $0, slot: slot, image: image, kernel: kernel, listeners: listeners)
    }
    guard let made else {
      throw SlotRefusals.startFailed("create", "too many instances are alive", plugin, slot)
    }
    instance = made
    if image.isIsolated {
      made.proxy = ProxyPlugin(
        made, ProxyPlugin.Subject(plugin: plugin, limits: slot.processLimits), kernel.isolation.withLock { $0 })
    }
    try create(made, timeoutMs)
    try configure(made, stateDirectory, timeoutMs)
  }

  /// Starts what was prepared.
  func begin(timeoutMs: Int) throws(Refusal) {
    try run(.start, timeoutMs) { instance, report, deadline in
      instance.plugin!.pointee.start?(instance.pointer, deadline, report) ?? BP_OK
    }
    instance!.state = .serving
  }

  private func create(_ made: Instance, _ timeoutMs: Int) throws(Refusal) {
    let diagnostics = Diagnostics()
    let outcome = LifeCycle.run(made, .create, timeoutMs: timeoutMs, diagnostics) { instance, report, _ in
      guard let table = instance.image.entry.pointee.create(HostTable.pointer, instance.handle, report) else {
        return BP_INTERNAL
      }
      instance.adopt(table)
      return BP_OK
    }
    try check("create", outcome, diagnostics, timeoutMs)
  }

  private func configure(_ made: Instance, _ stateDirectory: String, _ timeoutMs: Int) throws(Refusal) {
    let diagnostics = Diagnostics()
    let outcome = LifeCycle.run(made, .configure, timeoutMs: timeoutMs, diagnostics) { instance, report, _ in
      let code = LifeCycle.configure(
        instance, purpose: BP_PURPOSE_SERVE, stateDirectory: stateDirectory, diagnostics)
      if code == BP_OK, let missing = instance.bindKinds() {
        diagnostics.add("its extension() has no \(missing)")
        return BP_UNIMPLEMENTED
      }
      return code
    }
    if case .returned(let code) = outcome, code != BP_OK {
      throw SlotRefusals.refused(
        step: "configure", code: Refusal.Code.configurationRefused, problems: diagnostics.problems, plugin, slot,
        phase: .configured)
    }
    try check("configure", outcome, diagnostics, timeoutMs)
    made.state = .configured
  }

  private func run(
    _ step: MarkedCall, _ timeoutMs: Int,
    _ body: @escaping @Sendable (Instance, UnsafePointer<bp_report>, UInt64) -> bp_code
  ) throws(Refusal) {
    let diagnostics = Diagnostics()
    let outcome = LifeCycle.run(instance!, step, timeoutMs: timeoutMs, diagnostics, body)
    try check(step.name, outcome, diagnostics, timeoutMs)
  }

  private func check(
    _ step: String, _ outcome: LifeCycle.Outcome, _ diagnostics: Diagnostics, _ timeoutMs: Int
  ) throws(Refusal) {
    switch outcome {
    case .returned(BP_OK): return
    case .returned: throw SlotRefusals.startFailed(step, diagnostics.text, plugin, slot)
    case .timedOut:
      if let instance { instance.kernel.wedged.add(instance, in: step) }
      throw SlotRefusals.timedOut(step, plugin, slot, timeoutMs)
    }
  }

  /// The programs of a schema, asked once.
  static func programs(of instance: Instance) -> [(key: [UInt8], flags: UInt32)] {
    guard let schema = instance.schema else { return [] }
    final class List {
      var programs: [(key: [UInt8], flags: UInt32)] = []
    }
    let list = List()
    ThreadMark.own.during(.programs, instance.handle, startNs: Clock.monotonicNs()) {
      schema.pointee.programs(
        instance.pointer, Unmanaged.passUnretained(list).toOpaque(),
        { context, program in
          let list = Unmanaged<List>.fromOpaque(context!).takeUnretainedValue()
          list.programs.append((Array(program!.pointee.key.bytes), program!.pointee.flags))
        })
    }
    return list.programs
  }
}

extension [SlotBuild] {
  /// In the order in which they are started.
  var inStartOrder: [SlotBuild] {
    // A stable sort: within a rank the order of the configuration stays.
    enumerated().sorted { ($0.element.slot.kind.startRank, $0.offset) < ($1.element.slot.kind.startRank, $1.offset) }
      .map(\.element)
  }
}
