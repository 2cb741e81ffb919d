import Glibc

/// What is in the plugin directories: settled, staged, verified. Files that have not changed are not read again.
struct PluginCatalog {
  /// When to look again though nobody asks: something is still being written, or has just gone. nil: never.
  var recheckMs: Int?
  var plugins: [VerifiedPlugin] = []
  var refusals: [Refusal] = []
  var notices: [String] = []
  var directories: [String] = []

  /// The plugin a slot wants; nil when there is none.
  func plugin(for slot: SlotConfiguration) -> VerifiedPlugin? {
    if let path = slot.pluginPath { return extra[path] }
    if let id = slot.plugin { return plugins.first { $0.manifest.id == id } }
    guard let scheme = slot.scheme else { return nil }
    return plugins.first { $0.manifest.schemes.contains(scheme) && $0.manifest.kinds.contains(slot.kind.rawValue) }
  }

  /// Files that slots name by path.
  var extra: [String: VerifiedPlugin] = [:]
  /// Why files are not among the plugins, by path.
  var refusedFiles: [String: Refusal] = [:]

  /// Why the file that serves a slot is not there any more, when it is the file and not the slot that has changed.
  func refusal(ofFileBehind instance: Instance?, for slot: SlotConfiguration) -> Refusal? {
    guard let instance, instance.slot.plugin == slot.plugin, instance.slot.pluginPath == slot.pluginPath,
      instance.slot.scheme == slot.scheme
    else { return nil }
    let path = instance.image.sourcePath
    return refusedFiles[path] ?? refusals.first { path.hasPrefix($0.file + "/") }
  }
}
