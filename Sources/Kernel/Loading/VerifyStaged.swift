import BackplaneABI

extension Verify {
  /// The ABI of this kernel.
  static let kernelABI = Manifest.ABI(major: Int(BP_ABI_MAJOR), minor: Int(BP_ABI_MINOR))

  /// A file that the kernel has staged and verified, as the probe takes it: the content is checked again, its hash is
  /// the name it was staged under.
  static func ofStaged(path: String, sourcePath: String) throws(Refusal) -> VerifiedPlugin {
    let (manifest, image) = try Verify(abi: kernelABI).inspect(path, named: sourcePath, isPrivate: true)
    return VerifiedPlugin(
      manifest: manifest, contentHash: path, stagedPath: path, sourcePath: sourcePath,
      neededLibraries: image.neededLibraries, warnings: [])
  }
}

extension SlotConfiguration {
  /// A slot of one plugin, outside any node: for probes and checks.
  static func probing(slot: String, kind: Kind, json: String) -> SlotConfiguration {
    SlotConfiguration(
      name: slot, kind: kind, plugin: nil, pluginPath: nil, scheme: nil, order: 0, json: json, redactedJSON: "{}",
      origins: [:])
  }
}
