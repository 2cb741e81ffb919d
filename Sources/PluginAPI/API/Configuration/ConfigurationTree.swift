/// A value of the document, and what the type being decoded has asked of it.
final class ConfigurationNode {
  let value: ConfigurationValue
  /// One for each keyed container that was opened on this object.
  var records: [ConfigurationKeyRecord] = []

  init(_ value: ConfigurationValue) {
    self.value = value
  }
}

enum ConfigurationValue {
  case null
  case boolean(Bool)
  /// As it is written, so that whole numbers stay exact and errors can quote it.
  case number(String)
  case text(String)
  case list([ConfigurationNode])
  case object(ConfigurationObject)
}

/// The members in the order of the document, which is the order in which problems are reported.
///
/// Keys are compared as Swift compares strings, by canonical equivalence: two spellings of one accented word are one
/// key, because the dictionaries an author decodes into could not hold both.
struct ConfigurationObject {
  private(set) var members: [(key: String, node: ConfigurationNode)] = []
  private var indexByKey: [String: Int] = [:]

  subscript(key: String) -> ConfigurationNode? {
    guard let index = indexByKey[key] else { return nil }
    return members[index].node
  }

  /// Returns false, and keeps the first member, when the key is there already.
  mutating func add(_ node: ConfigurationNode, for key: String) -> Bool {
    guard indexByKey[key] == nil else { return false }
    indexByKey[key] = members.count
    members.append((key, node))
    return true
  }
}

/// The keys that one attempt to decode an object asked for.
final class ConfigurationKeyRecord {
  private(set) var asked: [String] = []
  private var askedSet: Set<String> = []
  /// Set when the initialiser that opened the container returned: only then is a key it did not ask for unknown.
  var isComplete = false

  func hasAsked(_ key: String) -> Bool { askedSet.contains(key) }

  func ask(_ key: String) {
    if askedSet.insert(key).inserted { asked.append(key) }
  }
}

/// Where a value stands in the document.
struct ConfigurationPlace {
  private(set) var pointer = ""
  /// Whether any key on the way here looks as if it named a secret.
  private(set) var isSecret = false

  func appending(key: String) -> ConfigurationPlace {
    var place = self
    place.pointer += "/"
    // A pointer that shows a password would be worse than one that does not resolve.
    for scalar in ConfigurationRedaction.hidingUserInformation(inValue: key).unicodeScalars {
      switch scalar {
      case "~": place.pointer += "~0"
      case "/": place.pointer += "~1"
      default: place.pointer.unicodeScalars.append(scalar)
      }
    }
    place.isSecret = isSecret || ConfigurationRedaction.looksSecret(key)
    return place
  }

  func appending(index: Int) -> ConfigurationPlace {
    var place = self
    place.pointer += "/\(index)"
    return place
  }

  func appending(relativePointer: String) -> ConfigurationPlace {
    var place = self
    place.pointer += relativePointer
    place.isSecret = isSecret || ConfigurationRedaction.looksSecret(relativePointer)
    return place
  }
}

/// A value together with where it stands, in the document's terms and in those of `Decoder`.
struct ConfigurationCursor {
  let node: ConfigurationNode
  let place: ConfigurationPlace
  let codingPath: [any CodingKey]

  init(root: ConfigurationNode) {
    node = root
    place = ConfigurationPlace()
    codingPath = []
  }

  private init(node: ConfigurationNode, place: ConfigurationPlace, codingPath: [any CodingKey]) {
    self.node = node
    self.place = place
    self.codingPath = codingPath
  }

  func member(_ node: ConfigurationNode, key: any CodingKey) -> ConfigurationCursor {
    ConfigurationCursor(
      node: node, place: place.appending(key: key.stringValue), codingPath: codingPath + [key])
  }

  func item(_ node: ConfigurationNode, index: Int) -> ConfigurationCursor {
    ConfigurationCursor(
      node: node, place: place.appending(index: index), codingPath: codingPath + [ConfigurationIndexKey(index)])
  }
}

/// The coding key of a list's item, and of the `super` member.
struct ConfigurationIndexKey: CodingKey {
  let stringValue: String
  let intValue: Int?

  init(_ index: Int) {
    stringValue = "\(index)"
    intValue = index
  }

  init(intValue: Int) {
    self.init(intValue)
  }

  init(stringValue: String) {
    self.stringValue = stringValue
    intValue = nil
  }
}
