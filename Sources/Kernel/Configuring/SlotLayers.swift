/// Merges the slots of all layers; `SlotBuilder` then checks what came out.
///
/// Slots are not scalars: a slot holds whatever its plugin takes, so they are merged as trees. Mappings merge key by
/// key, a slot set to null in a later file is taken out.
struct SlotLayers {
  /// A setting of the environment or a flag, as it was written.
  struct Override {
    let text: String
    let origin: ConfigurationOrigin
  }

  static let defaultTransport = "http"
  static let defaultSchema = "schema"
  static let defaultBackend = "sqlite"
  private static let rulesPlugin = "org.backplane.rules"
  /// The file of the backend that needs no configuration at all.
  static let defaultBackendURL = "sqlite://${state_directory}/backplane.sqlite"

  private(set) var slots = ConfigurationMapping()
  private var removedNames: Set<String> = []

  /// Lays the `slots:` of one file over what there is.
  mutating func add(_ node: ConfigurationNode, problems: inout ProblemList) {
    guard case .mapping(let mapping) = node.value else {
      if case .null = node.value { return }
      problems.add(
        node.origin, pointer: "/slots",
        "The slots must be a mapping from names to slots, but are \(node.value.found). Write `slots:`, then `  NAME:`.")
      return
    }
    for entry in mapping.entries {
      let pointer = JSONPointer.appending(entry.key, to: "/slots")
      switch entry.node.value {
      case .null:
        slots.remove(entry.key)
        removedNames.insert(entry.key)
      case .mapping:
        var one = ConfigurationMapping()
        one.set(entry.key, entry.node, keyOrigin: entry.keyOrigin)
        slots.merge(one)
        removedNames.remove(entry.key)
      default:
        problems.add(
          entry.node.origin, pointer: pointer,
          "A slot must be a mapping with `kind` and what its plugin takes, but is \(entry.node.value.found).")
      }
    }
  }

  /// The names of backend slots that are no peers: what the list of BACKEND_URL takes the place of.
  private var ownBackends: [String] {
    names(of: .backend).filter { name in
      if case .mapping(let slot)? = slots[name]?.value { slot["peer"] == nil } else { true }
    }
  }

  /// The names of the slots that say they are of `kind`, in the order of the files.
  func names(of kind: SlotConfiguration.Kind) -> [String] { names(ofKind: kind.rawValue) }

  func names(ofKind kind: String) -> [String] {
    slots.keys.filter { name in
      guard case .text(let text)? = value("kind", of: name)?.value else { return false }
      return text == kind
    }
  }

  /// Puts the built-in transport and schema under what the files say.
  mutating func addDefaults() {
    addDefault(
      Self.defaultTransport, .transport, plugin: "org.backplane.http",
      [("port", .integer(9942)), ("cors_origin", .text("*"))])
    addDefault(Self.defaultSchema, .schema, plugin: "org.backplane.permissive", [])
  }

  private mutating func addDefault(
    _ name: String, _ kind: SlotConfiguration.Kind, plugin: String, _ keys: [(String, ConfigurationValue)]
  ) {
    var slot = ConfigurationMapping()
    if let node = slots[name] {
      guard case .mapping(let mine) = node.value else { return }
      if let kindNode = mine["kind"] {
        guard case .text(kind.rawValue) = kindNode.value else { return }
      }
      slot.set("kind", ConfigurationNode(.text(kind.rawValue), .builtIn))
      // Another plugin under this name takes other keys, so only the default plugin gets the default keys.
      let isOther =
        mine["plugin_path"] != nil
        || mine["plugin"].map { if case .text(plugin) = $0.value { false } else { true } } ?? false
      if !isOther {
        slot.set("plugin", ConfigurationNode(.text(plugin), .builtIn))
        for (key, value) in keys { slot.set(key, ConfigurationNode(value, .builtIn)) }
      }
      slot.merge(mine)
      slots.set(name, ConfigurationNode(.mapping(slot), node.origin))
    } else if names(of: kind).isEmpty, !removedNames.contains(name) {
      slot.set("kind", ConfigurationNode(.text(kind.rawValue), .builtIn))
      slot.set("plugin", ConfigurationNode(.text(plugin), .builtIn))
      for (key, value) in keys { slot.set(key, ConfigurationNode(value, .builtIn)) }
      slots.set(name, ConfigurationNode(.mapping(slot), .builtIn))
    }
  }

  /// PORT and `--port`: the port of the transport.
  mutating func setPort(_ override: Override, problems: inout ProblemList) {
    guard let target = target(of: .transport, preferred: Self.defaultTransport, override, problems: &problems) else {
      return
    }
    guard let port = SettingReader.decimal(override.text), port <= 65535 else {
      problems.add(
        override.origin, pointer: "/slots/\(target)/port",
        "The port must be a whole number from 0 to 65535 (0: any free one), but is the text "
          + "\(Redaction.quoted(override.text)).")
      return
    }
    set("port", .integer(Int64(port)), in: target, override.origin)
  }

  /// CORS_ORIGIN and `--cors-origin`.
  mutating func setCORSOrigin(_ override: Override, problems: inout ProblemList) {
    guard let target = target(of: .transport, preferred: Self.defaultTransport, override, problems: &problems) else {
      return
    }
    set("cors_origin", .text(override.text), in: target, override.origin)
  }

  /// SCHEMA_MODULE and `--schema`: the file takes the place of whatever plugin the schema slot had. One that ends in
  /// `.yaml`, `.yml` or `.json` holds rules for the plugin that judges by such a file.
  mutating func setSchemaModule(_ override: Override, problems: inout ProblemList) {
    if names(of: .schema).isEmpty, slots[Self.defaultSchema] == nil {
      var slot = ConfigurationMapping()
      slot.set("kind", ConfigurationNode(.text("schema"), override.origin))
      slots.set(Self.defaultSchema, ConfigurationNode(.mapping(slot), override.origin))
    }
    guard let target = target(of: .schema, preferred: Self.defaultSchema, override, problems: &problems) else { return }
    let isRules = [".yaml", ".yml", ".json"].contains { override.text.hasSuffix($0) }
    set("plugin_path", isRules ? nil : .text(override.text), in: target, override.origin)
    set("plugin", isRules ? .text(Self.rulesPlugin) : nil, in: target, override.origin)
    if isRules { set("rules", .text("${yaml:\(override.text)}"), in: target, override.origin) }
  }

  /// BACKEND_URL and `--backend`: exactly these backends, in this order. A slot of the files with the name an entry
  /// gets keeps its other keys; other backend slots are left out, which is a warning.
  mutating func setBackends(
    _ override: Override, secrets: Secrets, base: String, problems: inout ProblemList,
    warnings: inout [ConfigurationProblem]
  ) {
    let urls = BackendURLs.entries(override.text)
    guard !urls.isEmpty, urls.count <= BackendURLs.entriesMax else {
      let message =
        urls.isEmpty
        ? "The list holds no backend. Give at least one URL, such as memory:// or sqlite://."
        : "The list holds \(urls.count) backends; at most \(BackendURLs.entriesMax) are taken."
      problems.add(override.origin, message)
      return
    }
    var schemes: [String] = []
    for (index, url) in urls.enumerated() {
      do throws(Secrets.Failure) {
        guard let scheme = BackendURLs.scheme(of: try secrets.resolve(url, base: base)) else {
          problems.add(
            override.origin,
            "Entry \(index + 1), \(Redaction.quoted(url)), is not a URL. Write scheme://…, such as sqlite:///var/data.sqlite; "
              + "a comma inside a URL is written %2C.")
          continue
        }
        schemes.append(scheme)
      } catch { problems.add(override.origin, "Entry \(index + 1): \(error.message)") }
    }
    guard schemes.count == urls.count else { return }
    let names = BackendURLs.slotNames(schemes: schemes)
    let replaced = ownBackends.filter { !names.contains($0) }
    if !replaced.isEmpty {
      warnings.append(
        ConfigurationProblem(
          override.origin,
          "It takes the place of these backend slots of the files: \(replaced.joined(separator: ", "))."))
      for name in replaced { slots.remove(name) }
    }
    for (index, name) in names.enumerated() {
      if slots[name] == nil {
        slots.set(name, ConfigurationNode(.mapping(ConfigurationMapping()), override.origin))
        set("kind", .text("backend"), in: name, override.origin)
      } else if !ownBackends.contains(name) {
        problems.add(
          override.origin, pointer: "/slots/\(name)",
          "The backend's slot would be named \(name), but the files have a slot of that name that is no backend, or a peer. "
            + "Rename that slot.")
        continue
      }
      set("url_file", nil, in: name, override.origin)
      set("url", .text(urls[index]), in: name, override.origin)
      set("order", .integer(Int64(index)), in: name, override.origin)
    }
  }

  /// The backend of a node that names none.
  mutating func addDefaultBackend() {
    guard names(of: .backend).isEmpty, slots[Self.defaultBackend] == nil, !removedNames.contains(Self.defaultBackend)
    else { return }
    slots.set(Self.defaultBackend, ConfigurationNode(.mapping(ConfigurationMapping()), .builtIn))
    set("kind", .text("backend"), in: Self.defaultBackend, .builtIn)
    set("url", .text(Self.defaultBackendURL), in: Self.defaultBackend, .builtIn)
  }

  /// A slot as it is to be, whatever there was; nil takes it out.
  mutating func put(_ name: String, _ slot: ConfigurationNode?) {
    guard let slot else { return slots.remove(name) }
    slots.set(name, slot)
  }

  /// The value of a key of a slot, if it has both.
  func value(_ key: String, of name: String) -> ConfigurationNode? {
    guard let node = slots[name], case .mapping(let slot) = node.value else { return nil }
    return slot[key]
  }

  /// Which slot a setting that names none is meant for.
  private func target(
    of kind: SlotConfiguration.Kind, preferred: String, _ override: Override, problems: inout ProblemList
  ) -> String? {
    let names = names(of: kind)
    if names.contains(preferred) { return preferred }
    if names.count == 1 { return names[0] }
    problems.add(
      override.origin,
      names.isEmpty
        ? "There is no \(kind.rawValue) slot it could be for."
        : "It could be for any of these \(kind.rawValue) slots: \(names.joined(separator: ", ")). Set it in the file, or name "
          + "one of them \(preferred).")
    return nil
  }

  mutating func set(
    _ key: String, _ value: ConfigurationValue?, in name: String, _ origin: ConfigurationOrigin
  ) {
    guard let node = slots[name], case .mapping(var slot) = node.value else { return }
    if let value { slot.set(key, ConfigurationNode(value, origin)) } else { slot.remove(key) }
    slots.set(name, ConfigurationNode(.mapping(slot), node.origin))
  }
}
