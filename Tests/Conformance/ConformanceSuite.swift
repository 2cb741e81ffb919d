import PluginAPI

/// The rules of the boundary, asked of one plugin: of every plugin, then of each of its kinds. Needs no kernel.
///
/// A plugin that crashes takes the process with it and one that blocks for ever hangs it, so whoever does not trust the
/// plugin runs this in a child (`backplane plugin check`). Not for two plugins at the same time in one process when
/// `ownsProcess`.
public struct ConformanceSuite: Sendable {
  let plugin: PluginUnderTest
  let seed: UInt64
  let ownsProcess: Bool
  let extent: Extent
  let only: [String]

  /// - `seed`: chooses the random cases.
  /// - `ownsProcess`: nobody else makes threads, opens descriptors or takes memory in this process, so they may be
  ///   counted.
  /// - `extent`: how much is done.
  /// - `only`: names of checks, or what their names begin with before a dot; others are left out. Empty: all.
  public init(
    _ plugin: PluginUnderTest, seed: UInt64, ownsProcess: Bool, extent: Extent = .quick, only: [String] = []
  ) {
    self.plugin = plugin
    self.seed = seed
    self.ownsProcess = ownsProcess
    self.extent = extent
    self.only = only
  }

  /// Runs everything. `observe` is called in order, on any thread.
  public func run(
    _ observe: @escaping @Sendable (ConformanceProgress) -> Void = { _ in }
  ) async -> ConformanceReport {
    let recording = Recording(seed: seed, only: only, observe)
    let bench = Workbench(plugin, recording, seed: seed, ownsProcess: ownsProcess, extent: extent)
    guard await EntryChecks(bench).run() else { return recording.report }
    await CapabilityTable(bench).fill()
    // Without an accepted configuration nothing can be started: one failure, not twenty.
    guard await ConfigurationChecks(bench).run() else { return recording.report }
    guard await LifeCycleChecks(bench).run() else { return recording.report }
    for kind in plugin.kinds {
      switch kind {
      case "backend": await BackendChecks(bench).run()
      case "schema": await SchemaChecks(bench).run()
      case "transport": await TransportChecks(bench).run()
      case "service": await ServiceChecks(bench).run()
      default: break
      }
    }
    await StateChecks(bench).run()
    await LifeCycleChecks(bench).runResources()
    await recording.check("manners") {
      let breaches = recording.takeBreaches()
      if !breaches.isEmpty { throw Problem(breaches.joined(separator: "; ")) }
      return ""
    }
    return recording.report
  }
}
