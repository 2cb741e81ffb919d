import JSONText
import ManagedNode
import MessageCrypto

/// The schema of a configuration, ready to be proposed.
struct LoadedSchema: Equatable, Sendable {
  /// `schemaModuleUrl`; nil for `schemaInline`.
  var url: String?
  var slot: SchemaSlot
  /// SHA-256 of its content, in hexadecimal.
  var digest: String
  /// By which a server can say that nothing has changed.
  var entityTag: String?
  /// The file in the state directory that holds it; nil when it lies where the configuration says.
  var file: String?
}

/// Gets the schema that a configuration names. What comes over the network, and what has a digest to be checked, is kept
/// in the state directory, named by its content.
struct SchemaLoader: Sendable {
  static let folder = "schemas"
  /// As much as the kernel reads.
  static let rulesSizeBytesMax = 1 << 20

  let files: StateFiles
  let downloads: any Downloading
  let requiresChecksum: Bool
  let sizeBytesMax: Int

  /// Nil: the configuration has no schema. `before`: what the same configuration was loaded as last.
  func load(
    _ configuration: ManagedConfiguration, after before: LoadedSchema?
  ) async throws(Trouble) -> LoadedSchema? {
    if let url = configuration.schemaModuleUrl { return try await load(url, after: before?.url == url ? before : nil) }
    guard let rules = configuration.schemaInline else { return nil }
    return try keep(rules.bytes, url: nil, suffix: "json", entityTag: nil)
  }

  /// Removes files that nothing refers to any more.
  func clean(keeping schema: LoadedSchema?) {
    for name in files.names(in: Self.folder) where "\(Self.folder)/\(name)" != schema?.file {
      files.remove("\(Self.folder)/\(name)")
    }
  }

  private func load(_ url: String, after before: LoadedSchema?) async throws(Trouble) -> LoadedSchema {
    let source = try SourceURL(url)
    let suffix: String
    switch source.kind {
    case .sharedLibrary: suffix = "so"
    case .yaml: suffix = "yaml"
    case .json: suffix = "json"
    case .script:
      throw Trouble(
        "\(source.text) is JavaScript or TypeScript, which this node does not run; give a schema plugin (.so) or a file of "
          + "rules (.yaml, .json) as schemaModuleUrl, or rules as schemaInline")
    case .other:
      throw Trouble("\(source.text) is neither a schema plugin (.so) nor a file of rules (.yaml, .yml, .json)")
    }
    let limit = source.kind == .sharedLibrary ? sizeBytesMax : Self.rulesSizeBytesMax
    switch source.place {
    case .path(let path):
      let bytes = try StateFiles.read(path: path, sizeBytesMax: limit)
      try check(bytes, source)
      if source.kind == .sharedLibrary, source.digest == nil {
        return LoadedSchema(url: url, slot: .plugin(path: path), digest: Self.digest(bytes))
      }
      return try keep(bytes, url: url, suffix: suffix, entityTag: nil)
    case .network(let address):
      guard source.digest != nil || !requiresChecksum else {
        throw Trouble(
          "\(source.text) comes over the network and has no digest; put #sha256=<64 hexadecimal digits> behind it, or set "
            + "schema_checksum: optional in the slot of managed mode")
      }
      let isKept = before?.file.map { files.exists($0) } ?? false
      // What has the right digest cannot have changed.
      if let before, isKept, source.digest != nil { return before }
      switch try await downloads.download(address, unlessTag: isKept ? before?.entityTag : nil) {
      case .unchanged:
        guard let before else {
          throw Trouble("\(source.text) answers that nothing has changed, and was not asked that")
        }
        return before
      case .file(let bytes, let tag):
        guard bytes.count <= limit else { throw Trouble("\(source.text) has more than \(limit) bytes") }
        try check(bytes, source)
        return try keep(bytes, url: url, suffix: suffix, entityTag: tag)
      }
    }
  }

  private func check(_ bytes: [UInt8], _ source: SourceURL) throws(Trouble) {
    guard let wanted = source.digest else { return }
    let digest = bytes.withUnsafeBytes { SHA256.digest(of: $0) }
    guard digest == wanted else {
      throw Trouble(
        "\(source.text) has the SHA-256 \(Hexadecimal.text(digest)), and the configuration wants \(Hexadecimal.text(wanted))"
      )
    }
  }

  private func keep(
    _ bytes: [UInt8], url: String?, suffix: String, entityTag: String?
  ) throws(Trouble) -> LoadedSchema {
    let digest = Self.digest(bytes)
    let name = "\(Self.folder)/\(digest).\(suffix)"
    if !files.exists(name) { try files.write(name, bytes, mode: suffix == "so" ? 0o500 : 0o400) }
    let path = files.path(name)
    return LoadedSchema(
      url: url, slot: suffix == "so" ? .plugin(path: path) : .rules(path: path), digest: digest, entityTag: entityTag,
      file: name)
  }

  private static func digest(_ bytes: [UInt8]) -> String {
    Hexadecimal.text(bytes.withUnsafeBytes { SHA256.digest(of: $0) })
  }
}
