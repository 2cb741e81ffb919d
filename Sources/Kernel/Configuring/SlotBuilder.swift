/// Checks merged slots and makes `SlotConfiguration`s of them. What a plugin takes is its own affair: here only the
/// kernel's keys are checked, and those the kernel acts on (`url`, and `port` of a transport).
struct SlotBuilder {
  /// Keys of a slot that are the kernel's; everything else goes to the plugin.
  static let kernelKeys = ["kind", "plugin", "plugin_path", "order", "isolation", "limits", "may_propose"]
  static let slotsMax = 256

  let secrets: Secrets
  /// What relative paths are relative to: values of files, and others.
  let fileBase: String
  let workingDirectory: String
  /// The state directory of a slot: of what its service proposes.
  let slotDirectory: (String) -> String
  /// What placeholders took in so far.
  private(set) var included = IncludedFiles()

  init(secrets: Secrets, fileBase: String, workingDirectory: String, slotDirectory: @escaping (String) -> String) {
    self.secrets = secrets
    self.fileBase = fileBase
    self.workingDirectory = workingDirectory
    self.slotDirectory = slotDirectory
  }

  /// Every slot that is right; what is wrong is in `problems`.
  mutating func build(_ slots: ConfigurationMapping, problems: inout ProblemList) -> [SlotConfiguration] {
    guard slots.entries.count <= Self.slotsMax else {
      problems.add(
        .builtIn, pointer: "/slots", "There are \(slots.entries.count) slots; at most \(Self.slotsMax) are taken.")
      return []
    }
    var built: [SlotConfiguration] = []
    for entry in slots.entries {
      if let slot = build(entry, problems: &problems) { built.append(slot) }
    }
    return built
  }

  private mutating func build(_ entry: ConfigurationMapping.Entry, problems: inout ProblemList) -> SlotConfiguration? {
    let pointer = JSONPointer.appending(entry.key, to: "/slots")
    guard case .mapping(let slot) = entry.node.value else { return nil }
    let countBefore = problems.problems.count + problems.omittedCount
    if !Self.isName(entry.key) {
      problems.add(
        entry.keyOrigin, pointer: pointer,
        "A slot's name must begin with a letter and hold only a-z, 0-9, - and _, at most 63 of them.")
    }
    let kind = kind(slot, entry, pointer, problems: &problems)
    let plugin = text("plugin", slot, pointer, problems: &problems)
    let pluginPath = text("plugin_path", slot, pointer, problems: &problems)
    if let plugin, !Self.isPluginID(plugin) {
      problems.add(
        slot["plugin"]?.origin ?? entry.keyOrigin, pointer: pointer + "/plugin",
        "A plugin's id looks like org.backplane.http, but this is \(Redaction.quoted(plugin)). "
          + "For a file, use plugin_path.")
    }
    if plugin != nil, let node = slot["plugin_path"] {
      problems.add(node.origin, pointer: pointer + "/plugin_path", "Give plugin or plugin_path, not both.")
    }
    let order = order(slot, pointer, problems: &problems)
    let isolation = isolation(slot, pointer, problems: &problems)
    let processLimits = processLimits(slot, pointer, problems: &problems)
    let mayPropose = mayPropose(slot, kind, pointer, problems: &problems)
    // Other kinds may give these keys a meaning of their own.
    let peer = kind == .backend ? PeerReader(slot: slot, pointer: pointer).read(problems: &problems) : nil
    let ownKeys = Self.kernelKeys + (kind == .backend ? PeerReader.keys : [])
    var resolved = ConfigurationMapping()
    for item in slot.entries where !ownKeys.contains(item.key) {
      resolved.set(item.key, item.node, keyOrigin: item.keyOrigin)
    }
    let shown = resolved
    resolved = resolve(resolved, pointer: pointer, problems: &problems)
    let scheme = scheme(&resolved, asWritten: shown, kind, pointer, problems: &problems)
    if kind == .transport { checkPort(resolved, pointer, problems: &problems) }
    if let kind, plugin == nil, pluginPath == nil, slot["plugin"] == nil, slot["plugin_path"] == nil,
      kind != .backend || scheme == nil && resolved["url"] == nil
    {
      problems.add(
        entry.keyOrigin, pointer: pointer,
        kind == .backend
          ? "The slot names neither a plugin nor a url. Give it url: (such as sqlite:///var/data.sqlite) or plugin:."
          : "The slot names no plugin. Give it plugin: with the plugin's id, or plugin_path: with its file.")
    }
    guard let kind, countBefore == problems.problems.count + problems.omittedCount else { return nil }
    let origins = ConfigurationValue.mapping(resolved).origins(entry.keyOrigin)
    var configuration = SlotConfiguration(
      name: entry.key, kind: kind, plugin: plugin,
      pluginPath: pluginPath.map {
        ConfigurationFile.absolute($0, base: base(of: slot["plugin_path"]?.origin ?? .builtIn))
      },
      scheme: scheme, order: order, json: ConfigurationValue.mapping(resolved).canonicalJSON,
      redactedJSON: ConfigurationValue.mapping(shown).redacted(key: "").canonicalJSON, origins: origins)
    configuration.isolation = isolation
    configuration.processLimits = processLimits
    configuration.mayPropose = mayPropose
    configuration.peer = peer
    return configuration
  }

  private func kind(
    _ slot: ConfigurationMapping, _ entry: ConfigurationMapping.Entry, _ pointer: String, problems: inout ProblemList
  ) -> SlotConfiguration.Kind? {
    let known = SlotConfiguration.Kind.allCases.map(\.rawValue)
    guard let node = slot["kind"] else {
      problems.add(
        entry.keyOrigin, pointer: pointer,
        "The slot has no kind. Give it kind: with one of \(known.joined(separator: ", ")).")
      return nil
    }
    if case .text(let text) = node.value {
      if let kind = SlotConfiguration.Kind(rawValue: text) { return kind }
      problems.add(
        node.origin, pointer: pointer + "/kind",
        "The kind \(Redaction.quoted(text)) is unknown.\(Suggestion.sentence(for: text, among: known))")
    } else {
      problems.add(
        node.origin, pointer: pointer + "/kind",
        "The kind must be one of \(known.joined(separator: ", ")), but is \(node.value.found).")
    }
    return nil
  }

  private func text(
    _ key: String, _ slot: ConfigurationMapping, _ pointer: String, problems: inout ProblemList
  ) -> String? {
    guard let node = slot[key] else { return nil }
    guard case .text(let text) = node.value, !text.isEmpty, text.utf8.count <= 4096, !text.utf8.contains(0) else {
      problems.add(node.origin, pointer: pointer + "/" + key, "The value must be a text, but is \(node.value.found).")
      return nil
    }
    return text
  }

  private func order(_ slot: ConfigurationMapping, _ pointer: String, problems: inout ProblemList) -> Int {
    guard let node = slot["order"] else { return 0 }
    guard case .integer(let value) = node.value, (-1_000_000...1_000_000).contains(value) else {
      problems.add(
        node.origin, pointer: pointer + "/order",
        "The value must be a whole number from -1000000 to 1000000, but is \(node.value.found).")
      return 0
    }
    return Int(value)
  }

  private func isolation(
    _ slot: ConfigurationMapping, _ pointer: String, problems: inout ProblemList
  ) -> IsolationMode? {
    guard let node = slot["isolation"] else { return nil }
    if case .text(let text) = node.value, let mode = IsolationMode(rawValue: text) { return mode }
    problems.add(
      node.origin, pointer: pointer + "/isolation",
      "The value must be one of in, process, but is \(node.value.found).")
    return nil
  }

  private func mayPropose(
    _ slot: ConfigurationMapping, _ kind: SlotConfiguration.Kind?, _ pointer: String, problems: inout ProblemList
  ) -> Bool {
    guard let node = slot["may_propose"] else { return false }
    guard case .boolean(let value) = node.value else {
      problems.add(
        node.origin, pointer: pointer + "/may_propose", "The value must be true or false, but is \(node.value.found).")
      return false
    }
    if value, let kind, kind.rawValue != ProposalDocument.serviceKind {
      problems.add(
        node.origin, pointer: pointer + "/may_propose",
        "Only a service can propose a configuration, and this slot is a \(kind.rawValue). Take the key out.")
    }
    return value
  }

  private func processLimits(
    _ slot: ConfigurationMapping, _ pointer: String, problems: inout ProblemList
  ) -> SlotConfiguration.ProcessLimits {
    var limits = SlotConfiguration.ProcessLimits()
    guard let node = slot["limits"] else { return limits }
    guard case .mapping(let mapping) = node.value else {
      problems.add(
        node.origin, pointer: pointer + "/limits",
        "The limits must be a mapping of \(Self.limitKeys.joined(separator: ", ")), but are \(node.value.found).")
      return limits
    }
    for entry in mapping.entries {
      let place = JSONPointer.appending(entry.key, to: pointer + "/limits")
      let range: ClosedRange<Int64>
      switch entry.key {
      // Below this no Swift plugin comes up: every thread's stack counts 8 MiB.
      case "memory_size_bytes_max": range = 67_108_864...(1 << 46)
      case "descriptors_max": range = 32...1_048_576
      case "cpu_seconds_max": range = 1...1_000_000_000
      default:
        problems.add(
          entry.keyOrigin, pointer: place,
          "The limit \(Redaction.quoted(entry.key)) is unknown."
            + Suggestion.sentence(for: entry.key, among: Self.limitKeys))
        continue
      }
      guard case .integer(let value) = entry.node.value, range.contains(value) else {
        problems.add(
          entry.node.origin, pointer: place,
          "The value must be a whole number from \(range.lowerBound) to \(range.upperBound), but is "
            + "\(entry.node.value.found).")
        continue
      }
      switch entry.key {
      case "memory_size_bytes_max": limits.memorySizeBytesMax = Int(value)
      case "descriptors_max": limits.descriptorsMax = Int(value)
      default: limits.cpuSecondsMax = Int(value)
      }
    }
    return limits
  }

  private static let limitKeys = ["memory_size_bytes_max", "descriptors_max", "cpu_seconds_max"]

  /// The scheme of `url`. A `sqlite://` that names no file means the default one in the state directory.
  private func scheme(
    _ slot: inout ConfigurationMapping, asWritten: ConfigurationMapping, _ kind: SlotConfiguration.Kind?,
    _ pointer: String, problems: inout ProblemList
  ) -> String? {
    guard let node = slot["url"] else { return nil }
    guard case .text(let url) = node.value, let scheme = BackendURLs.scheme(of: url) else {
      // Other kinds may give `url` a meaning of their own.
      guard kind == .backend else { return nil }
      // What a secret's file holds is not shown, not even to say that it is wrong.
      let found = asWritten["url"]?.value.foundForURL ?? "something else"
      problems.add(
        node.origin, pointer: pointer + "/url", "The value must be a URL (scheme://…), but is \(found).")
      return nil
    }
    if kind == .backend, url.lowercased() == "\(SlotLayers.defaultBackend)://",
      let full = try? secrets.resolve(SlotLayers.defaultBackendURL, base: workingDirectory)
    {
      slot.set("url", ConfigurationNode(.text(full), node.origin))
    }
    return scheme
  }

  private func checkPort(_ slot: ConfigurationMapping, _ pointer: String, problems: inout ProblemList) {
    guard let node = slot["port"] else { return }
    if case .integer(let port) = node.value, (0...65535).contains(port) { return }
    problems.add(
      node.origin, pointer: pointer + "/port",
      "The port must be a whole number from 0 to 65535 (0: any free one), but is \(node.value.found).")
  }

  // MARK: Secrets

  private mutating func resolve(
    _ mapping: ConfigurationMapping, pointer: String, problems: inout ProblemList
  ) -> ConfigurationMapping {
    var result = ConfigurationMapping()
    for entry in mapping.entries {
      let childPointer = JSONPointer.appending(entry.key, to: pointer)
      if Secrets.isFileKey(entry.key), case .text(let path) = entry.node.value {
        let key = String(entry.key.dropLast("_file".count))
        guard mapping[key] == nil else {
          problems.add(entry.keyOrigin, pointer: childPointer, "Give \(key) or \(entry.key), not both.")
          continue
        }
        do throws(Secrets.Failure) {
          let base = base(of: entry.node.origin)
          let value = try secrets.readFile(try secrets.resolve(path, base: base), base: base)
          result.set(key, ConfigurationNode(.text(value), entry.node.origin), keyOrigin: entry.keyOrigin)
        } catch { problems.add(entry.node.origin, pointer: childPointer, error.message) }
      } else {
        let value = resolve(entry.node, pointer: childPointer, problems: &problems)
        result.set(entry.key, value, keyOrigin: entry.keyOrigin)
      }
    }
    return result
  }

  private mutating func resolve(
    _ node: ConfigurationNode, pointer: String, problems: inout ProblemList
  ) -> ConfigurationNode {
    switch node.value {
    case .text(let text):
      if let path = IncludedFiles.path(in: text) {
        return included.content(
          of: path, base: base(of: node.origin), origin: node.origin, pointer: pointer, problems: &problems)
      }
      do throws(Secrets.Failure) {
        return ConfigurationNode(.text(try secrets.resolve(text, base: base(of: node.origin))), node.origin)
      } catch {
        problems.add(node.origin, pointer: pointer, error.message)
        return node
      }
    case .list(let nodes):
      var resolved: [ConfigurationNode] = []
      for (index, child) in nodes.enumerated() {
        resolved.append(resolve(child, pointer: "\(pointer)/\(index)", problems: &problems))
      }
      return ConfigurationNode(.list(resolved), node.origin)
    case .mapping(let mapping):
      return ConfigurationNode(.mapping(resolve(mapping, pointer: pointer, problems: &problems)), node.origin)
    default: return node
    }
  }

  func base(of origin: ConfigurationOrigin) -> String {
    switch origin {
    case .file: fileBase
    case .proposal(let slot, _): slotDirectory(slot)
    default: workingDirectory
    }
  }

  static func isName(_ name: String) -> Bool {
    guard let first = name.utf8.first, (0x61...0x7A).contains(first), name.utf8.count <= 63 else { return false }
    return name.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D || $0 == 0x5F }
  }

  private static func isPluginID(_ id: String) -> Bool {
    id.utf8.count <= 255 && id.contains(".") && !id.hasPrefix(".") && !id.hasSuffix(".")
      && id.utf8.allSatisfy {
        (0x61...0x7A).contains($0 | 0x20) || (0x30...0x39).contains($0) || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
      }
  }
}

extension ConfigurationValue {
  /// The value as it may be shown under `key`.
  func redacted(key: String) -> ConfigurationValue {
    switch self {
    case .text(let text): return .text(Redaction.shown(text, underKey: key))
    case .integer, .number: return Redaction.isSecretKey(key) ? .text(Redaction.mark) : self
    case .null, .boolean: return self
    case .list(let nodes): return .list(nodes.map { ConfigurationNode($0.value.redacted(key: key), $0.origin) })
    case .mapping(let mapping):
      var result = ConfigurationMapping()
      for entry in mapping.entries {
        // Below a secret key everything is secret, whatever its own key.
        let childKey = Redaction.isSecretKey(key) ? key : entry.key
        result.set(entry.key, ConfigurationNode(entry.node.value.redacted(key: childKey), entry.node.origin))
      }
      return .mapping(result)
    }
  }
}
