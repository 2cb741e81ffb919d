import Conformance
import Foundation
import Kernel

/// What the commands ask of the kernel's other parts.
enum KernelHooks {
  /// A plugin file as `plugin list` and `plugin inspect` tell of it.
  struct PluginDescription: Sendable {
    var file: String
    var id: String?
    var version: String?
    var kinds: [String] = []
    var schemes: [String] = []
    /// The manifest as JSON text.
    var manifest: String?
    /// What is worth knowing though the kernel takes it.
    var warnings: [String] = []
    /// Why the kernel would not take it; nil when it would.
    var refusal: String?
  }

  /// One check of `config check --plugins`.
  struct CheckResult: Sendable {
    var name: String
    var isPassed: Bool
    /// For a failure the reason and the remedy, as sentences.
    var detail: String
  }

  /// Runs the node until it is told to end. `reread` gives the configuration anew for a reload, with what services
  /// have proposed; any thread.
  static func serve(
    _ configuration: LoadedConfiguration, reread: @escaping @Sendable ([Proposal]) throws -> LoadedConfiguration
  ) async throws {
    try await NodeRun.run(configuration, reread: reread)
  }

  /// Every plugin file in these directories, in their order.
  static func listPlugins(in directories: [String]) async throws -> [PluginDescription] {
    let (plugins, refusals, _) = PluginInspector.list(directories)
    return plugins.map(describe)
      + refusals.map { PluginDescription(file: $0.file, refusal: $0.sentence) }
  }

  /// Reads one plugin file without running it.
  static func inspectPlugin(_ file: String) async throws -> PluginDescription {
    describe(PluginInspector.inspect(file))
  }

  /// Runs the conformance suite of the file's kinds in a child process, with the configuration given or the suite's own.
  static func checkPlugin(
    _ file: String, seed: UInt64, configuration: String?, extent: Extent, only: [String], timeoutMs: Int
  ) async throws -> ConformanceReport {
    try PluginCheckRun.run(
      file, seed: seed, configuration: configuration, extent: extent, only: only, timeoutMs: timeoutMs)
  }

  /// Lets every slot's plugin judge its configuration in a probe; one result a slot.
  static func checkSlots(_ configuration: LoadedConfiguration) async throws -> [CheckResult] {
    let executable = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    return Kernel.check(configuration, probeExecutable: executable).map { slot, refusal in
      CheckResult(name: slot, isPassed: refusal == nil, detail: refusal?.sentence ?? "")
    }
  }

  private static func describe(_ plugin: PluginInspector.Description) -> PluginDescription {
    guard let manifest = plugin.manifest else {
      return PluginDescription(file: plugin.file, refusal: plugin.refusal?.sentence)
    }
    return PluginDescription(
      file: plugin.file, id: manifest.id, version: manifest.version, kinds: manifest.kinds, schemes: manifest.schemes,
      manifest: nil, warnings: plugin.warnings, refusal: nil)
  }
}
