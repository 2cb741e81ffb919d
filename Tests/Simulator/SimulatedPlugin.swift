#if SIMULATION
import BackplaneABI
import SimulatedSystem

@testable import Kernel

/// An instance of a plugin, as a file's would be: the kernel calls it through its tables. It watches that the kernel keeps
/// the rules of core.h, and does itself whatever its content's trouble is.
class SimulatedPlugin: @unchecked Sendable {
  // @unchecked: as everything of a simulation, of whose threads one runs at a time.
  enum Phase { case created, configured, starting, started, quiescing, quiesced, stopping, stopped, destroyed }

  let content: Content
  let handle: bp_instance
  unowned let instance: Instance
  let node: SimulatedNode
  private(set) var phase = Phase.created
  /// Threads that are inside of what the plugin does by itself.
  private var busy = 0
  private var table: UnsafePointer<bp_plugin>!

  var name: String { "\(content.role) \(content.plugin.contentHash) #\(handle >> 16)" }

  static func create(_ handle: bp_instance) -> UnsafePointer<bp_plugin>? {
    let node = SimulatedNode.running!
    let instance = InstanceRegistry.shared.find(handle)!
    let content = node.shelf.content(hash: instance.image.contentHash)
    Pause.some(node)
    if content.trouble == .createFails { return nil }
    let plugin: SimulatedPlugin =
      switch content.role {
      case .clients: SimulatedTransport(content, instance, node)
      case .schema, .audit, .index, .labels: SimulatedSchema(content, instance, node)
      case .memory: SimulatedMemory(content, instance, node)
      case .disk: SimulatedDisk(content, instance, node)
      }
    node.plugins.append(plugin)
    return plugin.table
  }

  init(_ content: Content, _ instance: Instance, _ node: SimulatedNode) {
    self.content = content
    self.instance = instance
    self.node = node
    handle = instance.handle
    let table = UnsafeMutablePointer<bp_plugin>.allocate(capacity: 1)
    table.initialize(
      to: bp_plugin(
        size: UInt32(MemoryLayout<bp_plugin>.size), reserved: 0, self: Unmanaged.passUnretained(self).toOpaque(),
        configure: { pointer, _, _ in SimulatedPlugin.at(pointer).configure() },
        start: { pointer, _, _ in SimulatedPlugin.at(pointer).start() },
        quiesce: { pointer, _, _ in SimulatedPlugin.at(pointer).quiesce() },
        stop: { pointer, _, _ in SimulatedPlugin.at(pointer).stop() },
        destroy: { pointer in SimulatedPlugin.at(pointer).destroy() },
        cancel: { pointer, token in SimulatedPlugin.at(pointer).cancel(token) },
        grant: { pointer, token, credits in SimulatedPlugin.at(pointer).grant(token, credits) },
        extension: { pointer, id in SimulatedPlugin.at(pointer).kindTable(id.text) }))
    self.table = UnsafePointer(table)
  }

  static func at(_ pointer: UnsafeMutableRawPointer?) -> SimulatedPlugin {
    Unmanaged<SimulatedPlugin>.fromOpaque(pointer!).takeUnretainedValue()
  }

  // MARK: Life cycle

  private func configure() -> bp_code {
    expect([.created, .configured], "configure")
    Pause.some(node)
    if content.trouble == .configureRefuses { return BP_INVALID_ARGUMENT }
    phase = .configured
    return BP_OK
  }

  private func start() -> bp_code {
    expect([.configured], "start")
    phase = .starting
    Pause.some(node)
    if content.trouble == .startHangs { return hang() }
    if content.trouble == .startFails || !acquire() { return BP_UNAVAILABLE }
    phase = .started
    return BP_OK
  }

  private func quiesce() -> bp_code {
    expect([.started], "quiesce")
    phase = .quiescing
    Pause.some(node)
    if content.trouble == .quiesceHangs { return hang() }
    phase = .quiesced
    return BP_OK
  }

  private func stop() -> bp_code {
    expect([.quiesced], "stop")
    Report.trace("\(name) stops")
    phase = .stopping
    node.invariants.stops(self)
    Pause.some(node)
    if content.trouble == .stopHangs {
      defer { phase = .stopped }
      return hang()
    }
    // Some plugins leave tokens open, which are the host's then.
    let leftover = node.calls.remove(of: self)
    if !Dice.percent(20) { for call in leftover { call.giveUp(BP_UNAVAILABLE) } }
    join()
    release()
    phase = .stopped
    return BP_OK
  }

  private func destroy() {
    Report.require(
      phase == .stopped || phase == .created || phase == .configured || phase == .starting,
      "\(name) is destroyed while it is \(phase)")
    Pause.some(node)
    if content.trouble == .destroyHangs {
      _ = hang()
      return
    }
    join()
    phase = .destroyed
    Report.trace("\(name) is destroyed")
  }

  private func join() {
    while busy > 0 { simulation_sleep(100_000) }
  }

  /// Does not come back before the simulation ends.
  func hang() -> bp_code {
    Report.trace("\(name) hangs")
    node.hangs += 1
    _ = node.hungRelease.get()
    return BP_UNKNOWN
  }

  private func expect(_ phases: [Phase], _ function: String) {
    Report.require(phases.contains(phase), "\(function) of \(name) is called while it is \(phase)")
  }

  /// Every data call comes through here.
  func called(_ function: String, _ call: UnsafePointer<bp_call>?) {
    Report.require(
      phase == .started || phase == .quiescing || phase == .quiesced,
      "\(function) of \(name) is called while it is \(phase)")
    if let generation = call?.pointee.generation, generation != 0 {
      node.invariants.isHeld(generation, "\(function) of \(name) with a lease")
    }
    Report.trace("\(function) of \(name)")
  }

  /// What the plugin does by itself: it is not destroyed meanwhile.
  func byItself(_ body: () -> Void) {
    busy += 1
    body()
    busy -= 1
  }

  // MARK: What kinds add

  func kindTable(_ id: String) -> UnsafeRawPointer? { nil }
  /// Takes what only one instance may have.
  func acquire() -> Bool { true }
  func release() {}
  func grant(_ token: bp_token, _ credits: UInt32) {}
  /// A token that is not among the open calls was cancelled.
  func cancelled(_ token: bp_token) {}

  private func cancel(_ token: bp_token) {
    Report.require(
      phase == .started || phase == .quiescing || phase == .quiesced,
      "cancel of \(name) is called while it is \(phase)")
    guard let call = node.calls.find(token) else { return cancelled(token) }
    call.isStuck = call.isStuck && Dice.percent(20)
    // At once, or in its own time, as if nothing had been asked.
    guard Dice.percent(50), node.calls.remove(call) else { return }
    byItself { call.giveUp(BP_CANCELLED) }
  }

  // MARK: Completing

  func complete<T>(_ token: bp_token, with result: inout T) {
    withUnsafePointer(to: &result) {
      HostTable.pointer.pointee.complete(
        handle, token, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
    }
    // A plugin that completes twice harms nobody.
    if Dice.percent(2) {
      withUnsafePointer(to: &result) {
        HostTable.pointer.pointee.complete(
          handle, token, UnsafeRawPointer($0).assumingMemoryBound(to: bp_result.self))
      }
    }
  }

  func complete<T>(_ token: bp_token, _ code: bp_code, _ type: T.Type) {
    Answers.with(code, "simulated", as: type) { HostTable.pointer.pointee.complete(handle, token, $0) }
  }

  /// A table that is made once and never freed.
  static func constant<T>(_ value: T) -> UnsafeRawPointer {
    let pointer = UnsafeMutablePointer<T>.allocate(capacity: 1)
    pointer.initialize(to: value)
    return UnsafeRawPointer(pointer)
  }

  static func result<T>(_ code: bp_code, _ type: T.Type) -> bp_result {
    bp_result(
      size: UInt32(MemoryLayout<T>.size), code: code, flags: 0, retry_after_ms: 0, message: .empty, detail: .empty)
  }
}

/// A call that a plugin has not completed yet.
final class OpenCall {
  let plugin: SimulatedPlugin
  let token: bp_token
  var isStuck: Bool
  /// Ends it well.
  let finish: () -> Void
  /// Ends it with a code.
  let giveUp: (bp_code) -> Void

  init(
    _ plugin: SimulatedPlugin, _ token: bp_token, isStuck: Bool, finish: @escaping () -> Void,
    giveUp: @escaping (bp_code) -> Void
  ) {
    self.plugin = plugin
    self.token = token
    self.isStuck = isStuck
    self.finish = finish
    self.giveUp = giveUp
  }
}

/// The calls that are open in plugins, in the order in which they came; threads of the simulation's own end them.
final class OpenCalls {
  private var calls: [OpenCall] = []
  private var arrival = Promise<Bool>()

  func add(_ call: OpenCall) {
    calls.append(call)
    arrival.set(true)
  }

  /// Waits for a call, at most so long.
  func wait(ms: UInt64) {
    guard !calls.contains(where: { !$0.isStuck }) else { return }
    if arrival.get(untilNs: 0) != nil { arrival = Promise() }
    _ = arrival.get(untilNs: simulation_now_ns() + ms * 1_000_000)
  }

  func find(_ token: bp_token) -> OpenCall? { calls.first { $0.token == token } }

  func remove(_ call: OpenCall) -> Bool {
    guard let index = calls.firstIndex(where: { $0 === call }) else { return false }
    calls.remove(at: index)
    return true
  }

  func remove(of plugin: SimulatedPlugin) -> [OpenCall] {
    let own = calls.filter { $0.plugin === plugin }
    calls.removeAll { $0.plugin === plugin }
    return own
  }

  /// One that is to end now; nil when there is none.
  func take(evenStuck: Bool) -> OpenCall? {
    let ready = calls.indices.filter { evenStuck || !calls[$0].isStuck }
    guard !ready.isEmpty else { return nil }
    return calls.remove(at: Dice.pick(ready))
  }
}

final class SimulatedTransport: SimulatedPlugin, @unchecked Sendable {
  // @unchecked: as SimulatedPlugin.
  private static nonisolated(unsafe) let kind = SimulatedPlugin.constant(
    bp_transport(size: UInt32(MemoryLayout<bp_transport>.size), flags: 0, connections: { _ in 0 }))

  override func kindTable(_ id: String) -> UnsafeRawPointer? { id == BP_TRANSPORT_ID ? SimulatedTransport.kind : nil }

  /// Clients can be connected to it.
  var serves: Bool { phase == .started || phase == .quiescing || phase == .quiesced }
}
#endif
