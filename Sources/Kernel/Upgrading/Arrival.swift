import BackplaneABI
import Foundation
import Synchronization

/// The way in: this process takes the place of the one that has started it.
///
/// Everything is built here from what serves there. Until the commit nothing of it is used but by the other process, and
/// the end of that ends this one.
public final class Arrival: @unchecked Sendable {
  // @unchecked: used by the thread that starts the kernel, then by the one that awaits the predecessor's end.
  private let channel: UpgradeChannel
  private var builds: [SlotBuild] = []
  private var roles: [String: UpgradeMessage.Slot.Role] = [:]
  private var servers: [InstanceServer] = []
  private var startTimeoutMs = 10_000
  /// Set when the predecessor's process has let go of everything.
  let isAlone = Promise<Bool>()
  private(set) var predecessors = 0
  private(set) var control: Int32?

  /// The patience of a new process with the old one.
  private static let patienceNs: UInt64 = 3_600_000_000_000

  private init(_ channel: UpgradeChannel) { self.channel = channel }

  /// Nil in a process that takes nobody's place.
  public static let ofThisProcess: Arrival? = ProcessOrigin.current?.upgradeDescriptor.map {
    Arrival(UpgradeChannel($0))
  }

  /// Tells the old process why this one does not take over; then this one ends.
  public func refuse(_ sentence: String) { refuse([Receipt.Refused(slot: nil, SlotRefusals.upgrade(sentence))]) }

  private func refuse(_ refusals: [Receipt.Refused]) { try? channel.send(.refused(refusals)) }

  /// What the old process runs with, to be run here; `configuration` is what was read here.
  func begin(_ configuration: LoadedConfiguration) throws(Refusal) -> (UpgradeMessage.Welcome, [Int32]) {
    do throws(UpgradeChannel.Failure) {
      try channel.send(.hello(UpgradeMessage.Hello(version: BackplaneVersion.current)))
      let (message, descriptors) = try channel.receive(untilNs: Clock.monotonicNs() + Arrival.patienceNs)
      guard case .welcome(let welcome) = message, descriptors.count >= welcome.listeners.count else {
        throw .garbled("no welcome")
      }
      predecessors = welcome.predecessors
      return (welcome, descriptors)
    } catch { throw Arrival.lost(error) }
  }

  private static func lost(_ failure: UpgradeChannel.Failure) -> Refusal {
    SlotRefusals.upgrade("the process whose place this one was to take \(failure.clause)")
  }

  /// Builds every slot, answers what the old process asks, and returns the commit.
  func take(
    _ welcome: UpgradeMessage.Welcome, _ descriptors: [Int32], _ kernel: KernelContext, _ world: KernelWorld,
    publish: ([Instance]) throws(Refusal) -> Void
  ) throws(Refusal) -> UpgradeMessage.Commit {
    if descriptors.count > welcome.listeners.count { control = descriptors[welcome.listeners.count] }
    do throws(Refusal) {
      try build(welcome, descriptors, kernel, world)
      return try answer(welcome, publish)
    } catch {
      refuse([Receipt.Refused(slot: nil, error)])
      throw error
    }
  }

  private func build(
    _ welcome: UpgradeMessage.Welcome, _ descriptors: [Int32], _ kernel: KernelContext, _ world: KernelWorld
  ) throws(Refusal) {
    let node = welcome.node
    world.remember(welcome.files)
    startTimeoutMs = node.reload.startTimeoutMs
    var listeners: [String: [String: Listener]] = [:]
    for (listener, descriptor) in zip(welcome.listeners, descriptors) {
      listeners[listener.slot, default: [:]][listener.name] = Listener(
        adopting: descriptor, address: listener.address)
    }
    let slots = Dictionary(uniqueKeysWithValues: welcome.slots.map { ($0.name, $0) })
    for slot in node.slots {
      guard let served = slots[slot.name] else { continue }
      roles[slot.name] = served.role
      let build = SlotBuild(slot, try plugin(served, slot, node, world), replacing: nil)
      build.handedOver = listeners[slot.name] ?? [:]
      try build.choose(node, kernel.quarantine)
      try build.bindListeners()
      try world.open(build, node)
      try world.prepare(build, node, timeoutMs: startTimeoutMs)
      builds.append(build)
    }
    for build in builds where startsBeforeAll(build) {
      try build.begin(timeoutMs: startTimeoutMs)
    }
  }

  /// The content that serves, as it was staged. When that copy is gone: the file it came from.
  private func plugin(
    _ served: UpgradeMessage.Slot, _ slot: SlotConfiguration, _ node: NodeConfiguration, _ world: KernelWorld
  ) throws(Refusal) -> VerifiedPlugin {
    var facts = stat()
    if lstat(served.stagedPath, &facts) == 0, facts.st_mode == S_IFREG | 0o500, facts.st_uid == geteuid() {
      let (manifest, image) = try Verify(abi: Verify.kernelABI).inspect(served.stagedPath, named: served.sourcePath)
      return VerifiedPlugin(
        manifest: manifest, contentHash: served.contentHash, stagedPath: served.stagedPath,
        sourcePath: served.sourcePath, neededLibraries: image.neededLibraries, warnings: [])
    }
    let catalog = world.catalogue(
      PluginCataloguer.Request(
        directories: node.pluginDirectories, optionalDirectories: Set(node.proposedPluginDirectories),
        extraPaths: node.slots.compactMap(\.pluginPath),
        stagingDirectory: node.directories.staging, pluginSizeBytesMax: node.limits.pluginSizeBytesMax,
        settleMs: node.reload.settleMs, removalGraceMs: 0, now: ["*"]))
    guard let plugin = catalog.plugin(for: slot) else { throw SlotRefusals.missing(slot, catalog) }
    return plugin
  }

  private func answer(
    _ welcome: UpgradeMessage.Welcome, _ publish: ([Instance]) throws(Refusal) -> Void
  ) throws(Refusal) -> UpgradeMessage.Commit {
    try send(.done)
    while true {
      let (message, descriptors) = try receive()
      switch message {
      case .serve(let name): try serve(name, descriptors)
      case .accept:
        try publish(builds.map { $0.instance! })
        for build in builds.inStartOrder where roles[build.slot.name] != .exclusive && !startsBeforeAll(build) {
          try build.begin(timeoutMs: startTimeoutMs)
        }
      case .start(let name):
        guard let build = build(name) else { throw SlotRefusals.upgrade("there is no slot '\(name)'") }
        try build.begin(timeoutMs: startTimeoutMs)
      case .commit(let commit): return commit
      default: throw SlotRefusals.upgrade("the old process asks what this one does not know")
      }
      try send(.done)
    }
  }

  /// What acts by itself waits until the transports are to accept, unless it is given state before.
  private func startsBeforeAll(_ build: SlotBuild) -> Bool {
    switch roles[build.slot.name] {
    case .exclusive: false
    case .moves: build.slot.kind != .transport
    default: build.slot.kind.takesCalls
    }
  }

  private func build(_ name: String) -> SlotBuild? { builds.first { $0.slot.name == name } }

  private func serve(_ name: String, _ descriptors: [Int32]) throws(Refusal) {
    guard descriptors.count == 2, let instance = build(name)?.instance, instance.state == .serving,
      let server = InstanceServer.serve(instance, on: descriptors[0], canonical: descriptors[1])
    else {
      for descriptor in descriptors { close(descriptor) }
      throw SlotRefusals.upgrade("slot '\(name)' cannot be served to another process")
    }
    servers.append(server)
  }

  private func send(_ message: UpgradeMessage) throws(Refusal) {
    do throws(UpgradeChannel.Failure) { try channel.send(message) } catch { throw Arrival.lost(error) }
  }

  private func receive() throws(Refusal) -> (UpgradeMessage, [Int32]) {
    do throws(UpgradeChannel.Failure) {
      return try channel.receive(untilNs: Clock.monotonicNs() + Arrival.patienceNs)
    } catch { throw Arrival.lost(error) }
  }

  /// It serves. From here on the old process may end when it likes; `whenAlone` runs when it has.
  func committed(_ receipt: Receipt, _ kernel: KernelContext, whenAlone: @escaping @Sendable () -> Void) {
    try? channel.send(.committed(receipt))
    let thread = Thread.start(name: "bp-predecessor") { [self] in
      while let (message, descriptors) = try? receive() {
        for descriptor in descriptors { close(descriptor) }
        // What cannot be beside its predecessor; a transport's connections wait in the queue of its socket.
        if case .start(let name) = message, let build = build(name) {
          do throws(Refusal) {
            try build.begin(timeoutMs: startTimeoutMs)
            ServiceNotice.tellReady([build.instance!], timeoutMs: startTimeoutMs)
          } catch {
            kernel.log.error("a slot did not start in the new process", ["slot": name, "reason": error.sentence])
            build.instance?.health = (BP_HEALTH_UNHEALTHY, error.sentence)
          }
        }
      }
      for server in servers {
        server.shutDown()
        _ = server.ended.get()
      }
      servers = []
      isAlone.set(true)
      whenAlone()
    }
    if let thread { pthread_detach(thread) } else { isAlone.set(true) }
  }
}
