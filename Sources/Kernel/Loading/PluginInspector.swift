import BackplaneABI

/// Looks at plugin files without running them.
public enum PluginInspector {
  public struct Description: Sendable {
    public var file: String
    public var manifest: Manifest?
    public var warnings: [String] = []
    /// Why the kernel would not take it; nil when it would.
    public var refusal: Refusal?
  }

  /// Every plugin file in these directories, and what is wrong with the directories themselves.
  public static func list(_ directories: [String]) -> (plugins: [Description], refusals: [Refusal], notices: [String]) {
    let discovery = PluginDirectories(directories).scan()
    return (discovery.candidates.map { inspect($0.path) }, discovery.refusals, discovery.notices)
  }

  public static func inspect(_ path: String) -> Description {
    do throws(Refusal) {
      let (manifest, image) = try Verify(abi: Verify.kernelABI).inspect(path)
      return Description(file: path, manifest: manifest, warnings: manifest.warnings + Verify.warnings(image))
    } catch { return Description(file: path, refusal: error) }
  }
}

/// Loads a plugin into this process for a check: a child's work, because an image is never unmapped and may crash.
public enum PluginLoader {
  /// The entry of a plugin file, after every check that a node makes before it opens one. The file must not change
  /// while it is open: give a copy.
  public static func open(_ path: String) throws(Refusal) -> (entry: UnsafePointer<bp_entry>, manifest: Manifest) {
    let plugin = try Verify.ofStaged(path: path, sourcePath: path)
    let image = try ImageStore.map(plugin)
    return (image.entry, image.manifest)
  }
}

extension Kernel {
  /// Lets every slot's plugin judge its configuration in a probe, without touching what runs. One result a slot: nil
  /// when it was accepted.
  public static func check(
    _ configuration: LoadedConfiguration, probeExecutable: String
  ) -> [(slot: String, refusal: Refusal?)] {
    let node = configuration.node
    let catalog = PluginCataloguer().catalogue(
      PluginCataloguer.Request(
        directories: node.directories.plugins, extraPaths: node.slots.compactMap(\.pluginPath),
        stagingDirectory: node.directories.staging, pluginSizeBytesMax: node.limits.pluginSizeBytesMax,
        settleMs: node.reload.settleMs, removalGraceMs: 0, now: ["*"]))
    let prober = Prober(
      executable: probeExecutable, stateDirectory: node.directories.state,
      scratchParent: node.directories.state + "/scratch")
    return node.slots.map { slot in
      do throws(Refusal) {
        guard let plugin = catalog.plugin(for: slot) else { throw SlotRefusals.missing(slot, catalog) }
        guard plugin.manifest.kinds.contains(slot.kind.rawValue) else { throw SlotRefusals.wrongKind(slot, plugin) }
        try prober.probe(plugin, slot, timeoutMs: node.reload.probeTimeoutMs)
        return (slot.name, nil)
      } catch { return (slot.name, error) }
    }
  }
}
