/// A value read from YAML, with the place each part stands at.
struct ConfigurationNode: Sendable {
  var value: ConfigurationValue
  var origin: ConfigurationOrigin

  init(_ value: ConfigurationValue, _ origin: ConfigurationOrigin) {
    self.value = value
    self.origin = origin
  }
}

/// The JSON values, as the YAML 1.2 core schema maps onto them.
indirect enum ConfigurationValue: Sendable {
  case null
  case boolean(Bool)
  case integer(Int64)
  case number(Double)
  case text(String)
  case list([ConfigurationNode])
  case mapping(ConfigurationMapping)

  /// How an error names what it found. Texts are shown (redacted and shortened), since seeing them helps most.
  var found: String {
    switch self {
    case .null: "empty"
    case .boolean(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .text(let value): "the text \(Redaction.quoted(value))"
    case .list: "a list"
    case .mapping: "a mapping"
    }
  }

  /// Likewise, of what ought to be a URL and is none: where its password stands nobody can say.
  var foundForURL: String {
    guard case .text(let text) = self, text.contains("@") else { return found }
    return "a text that is none (not shown: it may hold a password)"
  }
}

/// Keys in the order of the file; a key stands once.
struct ConfigurationMapping: Sendable {
  struct Entry: Sendable {
    let key: String
    /// Where the key stands, which is what an unknown key's error names.
    var keyOrigin: ConfigurationOrigin
    var node: ConfigurationNode
  }

  private(set) var entries: [Entry] = []
  private var indices: [String: Int] = [:]

  subscript(key: String) -> ConfigurationNode? { indices[key].map { entries[$0].node } }

  var keys: [String] { entries.map(\.key) }

  mutating func set(_ key: String, _ node: ConfigurationNode, keyOrigin: ConfigurationOrigin? = nil) {
    let keyOrigin = keyOrigin ?? node.origin
    if let index = indices[key] {
      entries[index].keyOrigin = keyOrigin
      entries[index].node = node
    } else {
      indices[key] = entries.count
      entries.append(Entry(key: key, keyOrigin: keyOrigin, node: node))
    }
  }

  mutating func remove(_ key: String) {
    guard let index = indices[key] else { return }
    entries.remove(at: index)
    indices = Dictionary(uniqueKeysWithValues: entries.enumerated().map { ($1.key, $0) })
  }

  /// Lays a later layer over this one: mappings merge key by key, anything else is replaced whole. A list is one
  /// value: joining lists would leave no way to shorten one.
  mutating func merge(_ later: ConfigurationMapping) {
    for entry in later.entries {
      if case .mapping(var mine)? = self[entry.key]?.value, case .mapping(let theirs) = entry.node.value {
        mine.merge(theirs)
        set(entry.key, ConfigurationNode(.mapping(mine), entry.node.origin), keyOrigin: entry.keyOrigin)
      } else {
        set(entry.key, entry.node, keyOrigin: entry.keyOrigin)
      }
    }
  }
}

extension ConfigurationValue {
  /// The value as canonical JSON: keys sorted by their UTF-8 bytes, no white space, shortest numbers. Two values are
  /// equal exactly when their canonical texts are, which is how a reload sees that a slot changed.
  func writeCanonicalJSON(to text: inout String) {
    switch self {
    case .null: text += "null"
    case .boolean(let value): text += value ? "true" : "false"
    case .integer(let value): text += String(value)
    case .number(let value): text += String(value)
    case .text(let value): JSONString.write(value, to: &text)
    case .list(let nodes):
      text += "["
      for (index, node) in nodes.enumerated() {
        if index > 0 { text += "," }
        node.value.writeCanonicalJSON(to: &text)
      }
      text += "]"
    case .mapping(let mapping):
      text += "{"
      let sorted = mapping.entries.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
      for (index, entry) in sorted.enumerated() {
        if index > 0 { text += "," }
        JSONString.write(entry.key, to: &text)
        text += ":"
        entry.node.value.writeCanonicalJSON(to: &text)
      }
      text += "}"
    }
  }

  var canonicalJSON: String {
    var text = ""
    writeCanonicalJSON(to: &text)
    return text
  }

  /// Every leaf below this value with its pointer and origin, in the order of the file; an empty list or mapping is a
  /// leaf, too.
  func forEachLeaf(
    pointer: String, origin: ConfigurationOrigin,
    _ body: (_ pointer: String, _ value: ConfigurationValue, _ origin: ConfigurationOrigin) -> Void
  ) {
    switch self {
    case .list(let nodes) where !nodes.isEmpty:
      for (index, node) in nodes.enumerated() {
        node.value.forEachLeaf(pointer: "\(pointer)/\(index)", origin: node.origin, body)
      }
    case .mapping(let mapping) where !mapping.entries.isEmpty:
      for entry in mapping.entries {
        entry.node.value.forEachLeaf(
          pointer: JSONPointer.appending(entry.key, to: pointer), origin: entry.node.origin, body)
      }
    default: body(pointer, self, origin)
    }
  }
}

/// Strings as JSON text (RFC 8259, section 7), escaping only what must be.
enum JSONString {
  static func write(_ value: String, to text: inout String) {
    text += "\""
    for scalar in value.unicodeScalars {
      switch scalar {
      case "\"": text += "\\\""
      case "\\": text += "\\\\"
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: text.unicodeScalars.append(scalar)
      }
    }
    text += "\""
  }

  static func quoted(_ value: String) -> String {
    var text = ""
    write(value, to: &text)
    return text
  }
}
