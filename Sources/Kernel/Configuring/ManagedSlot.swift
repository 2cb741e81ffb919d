/// The slot of a node that gets its configuration over the protocol: CONFIG_URL and what belongs to it.
extension SlotLayers {
  static let managedName = "managed"
  private static let managedPlugin = "org.backplane.managed"

  /// Variables and the keys of the slot that they set; those that are needed in the order in which they are missed.
  static let managedVariables: [(name: String, key: String, isNeeded: Bool)] = [
    ("OPERATOR_KEY", "operator_key", true), ("NODE_ID", "node_id", true),
    ("NODE_PRIVATE_KEY_PEM", "node_private_key_pem", true),
    ("NODE_ENCRYPTION_PRIVATE_KEY_HEX", "node_encryption_private_key_hex", false),
    ("OPERATOR_ENCRYPTION_PUBLIC_KEY_HEX", "operator_encryption_public_key_hex", false),
  ]

  /// CONFIG_URL and `--config-url`: a slot for the service of managed mode, which may propose. A slot of that name in the
  /// files keeps its other keys.
  mutating func setManaged(_ url: Override, environment: [String: String], problems: inout ProblemList) {
    let name = Self.managedName
    if slots[name] == nil { put(name, ConfigurationNode(.mapping(ConfigurationMapping()), url.origin)) }
    if let kind = value("kind", of: name), kind.value.canonicalJSON != #""\#(ProposalDocument.serviceKind)""# {
      problems.add(
        url.origin, pointer: "/slots/\(name)",
        "The slot of managed mode would be named \(name), but the files have a slot of that name that is no service. "
          + "Rename that slot.")
      return
    }
    set("kind", .text(ProposalDocument.serviceKind), in: name, url.origin)
    if value("plugin", of: name) == nil, value("plugin_path", of: name) == nil {
      set("plugin", .text(Self.managedPlugin), in: name, url.origin)
    }
    set("may_propose", .boolean(true), in: name, url.origin)
    setManaged("config_url", url)
    for variable in Self.managedVariables {
      if let text = environment[variable.name] {
        // A file of variables has no line breaks in a value: they may be written \n.
        let pem = text.split(separator: "\\n", omittingEmptySubsequences: false).joined(separator: "\n")
        setManaged(
          variable.key,
          Override(
            text: variable.key.hasSuffix("_pem") ? pem : text, origin: .environment(name: variable.name)))
      } else if variable.isNeeded, value(variable.key, of: name) == nil, value(variable.key + "_file", of: name) == nil
      {
        problems.add(
          url.origin, pointer: "/slots/\(name)/\(variable.key)",
          "\(variable.name) env var required when CONFIG_URL is set")
      }
    }
  }

  private mutating func setManaged(_ key: String, _ value: Override) {
    set(key + "_file", nil, in: Self.managedName, value.origin)
    set(key, .text(value.text), in: Self.managedName, value.origin)
  }
}
