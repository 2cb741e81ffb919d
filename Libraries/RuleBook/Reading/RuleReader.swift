import MessageCrypto
import PluginAPI

/// Reads the rules of a program.
struct RuleReader {
  static let depthMax = 8
  static let rulesMax = 10_000
  static let signersMax = 64
  private static let words = [
    "all", "allow", "any", "content", "deny", "json_schema", "requires_output", "signed_by", "size_bytes_max",
    "uri_pattern", "write_once",
  ]

  var problems = RuleProblems()
  /// By name.
  let keys: [String: [UInt8]]
  let schemas: [String: JSONSchema]
  /// All documents, which inline schemas may refer to.
  let documents: [String: RuleValue]
  let bounds: JSONSchema.Bounds
  private var rulesCount = 0

  init(
    keys: [String: [UInt8]], schemas: [String: JSONSchema], documents: [String: RuleValue], bounds: JSONSchema.Bounds
  ) {
    self.keys = keys
    self.schemas = schemas
    self.documents = documents
    self.bounds = bounds
  }

  /// A rule, or a list of rules.
  mutating func rules(_ value: RuleValue, at pointer: String, depth: Int = 0) -> [PlacedRule] {
    guard case .list(let items) = value else { return rule(value, at: pointer, depth).map { [$0] } ?? [] }
    if items.isEmpty { problems.add(pointer, "The list is empty. To accept everything, write allow.") }
    var result: [PlacedRule] = []
    for (index, item) in items.enumerated() {
      if let rule = rule(item, at: "\(pointer)/\(index)", depth) { result.append(rule) }
    }
    return result
  }

  private mutating func rule(_ value: RuleValue, at pointer: String, _ depth: Int) -> PlacedRule? {
    rulesCount += 1
    guard rulesCount <= Self.rulesMax else {
      if rulesCount == Self.rulesMax + 1 { problems.add(pointer, "There are more than \(Self.rulesMax) rules.") }
      return nil
    }
    switch value {
    case .text(let word): return bare(word, at: pointer)
    case .mapping(let members): return worded(members, at: pointer, depth)
    default:
      problems.add(
        pointer,
        "A rule must be a word (allow, deny, write_once) or a mapping (size_bytes_max: 1000), but is \(value.found).")
      return nil
    }
  }

  private mutating func bare(_ word: String, at pointer: String) -> PlacedRule? {
    let rule: Rule
    switch word {
    case "allow": rule = .allow
    case "deny": rule = .deny(Wording.denied)
    case "write_once": rule = .writeOnce(Wording.exists)
    default:
      if Self.words.contains(word) {
        problems.add(pointer, "The rule \(word) needs a value: \(word): …")
      } else {
        problems.add(pointer, Self.unknown(word))
      }
      return nil
    }
    return PlacedRule(rule: rule, word: word, pointer: pointer)
  }

  private static func unknown(_ word: String) -> String {
    let shown = RuleProblems.shown(word)
    if let meant = ConfigurationSpelling.nearest(to: word, among: words) {
      return "The rule \"\(shown)\" is unknown. Did you mean \"\(meant)\"?"
    }
    return "The rule \"\(shown)\" is unknown. The rules are \(RuleProblems.listed(words))."
  }

  private mutating func worded(_ members: [RuleValue.Member], at pointer: String, _ depth: Int) -> PlacedRule? {
    var otherwise: String?
    var named: [RuleValue.Member] = []
    for member in members {
      let place = Pointer.appending(member.key, to: pointer)
      if member.key == "otherwise" {
        otherwise = problems.text(member.value, at: place, what: "What the client is told")
      } else if Self.words.contains(member.key) {
        named.append(member)
      } else {
        problems.add(place, Self.unknown(member.key))
      }
    }
    guard let member = named.first, named.count == 1 else {
      if named.count > 1 {
        problems.add(
          pointer,
          "This is \(named.count) rules in one (\(RuleProblems.listed(named.map(\.key)))). Write each as an item of its own."
        )
      } else if members.isEmpty || members.allSatisfy({ $0.key == "otherwise" }) {
        problems.add(pointer, "The mapping names no rule. The rules are \(RuleProblems.listed(Self.words)).")
      }
      return nil
    }
    let place = Pointer.appending(member.key, to: pointer)
    guard let rule = rule(member.key, member.value, at: place, depth) else { return nil }
    return PlacedRule(rule: rule, word: member.key, pointer: place, otherwise: otherwise)
  }

  private mutating func rule(_ word: String, _ value: RuleValue, at pointer: String, _ depth: Int) -> Rule? {
    switch word {
    case "deny", "write_once":
      guard let text = problems.text(value, at: pointer, what: "What the client is told") else { return nil }
      return word == "deny" ? .deny(text) : .writeOnce(text)
    case "content":
      if case .text(let text) = value, text == "json" || text == "bytes" { return .content(isJSON: text == "json") }
      problems.add(pointer, "The content must be json or bytes, but is \(value.found).")
      return nil
    case "size_bytes_max":
      return .sizeBytesMax(problems.whole(value, at: pointer, in: 0...(1 << 30), default: 0))
    case "uri_pattern": return pattern(value, at: pointer).map { .uriPattern($0) }
    case "json_schema":
      var name: String?
      if case .text(let text) = value { name = text }
      return schema(value, at: pointer).map { .jsonSchema($0, name: name) }
    case "signed_by": return signers(value, at: pointer).map { .signedBy($0) }
    case "requires_output": return requiredOutput(value, at: pointer).map { .requiresOutput($0) }
    case "any", "all":
      guard depth < Self.depthMax else {
        problems.add(pointer, "The rules are nested deeper than \(Self.depthMax) levels.")
        return nil
      }
      guard case .list = value else {
        problems.add(pointer, "The value of \(word) must be a list of rules, but is \(value.found).")
        return nil
      }
      let nested = rules(value, at: pointer, depth: depth + 1)
      return word == "any" ? .any(nested) : .all(nested)
    default:
      problems.add(pointer, "The rule allow stands alone: - allow")
      return nil
    }
  }

  // MARK: Values

  private mutating func pattern(_ value: RuleValue, at pointer: String) -> TextPattern? {
    guard let text = problems.text(value, at: pointer, what: "The pattern") else { return nil }
    if let pattern = TextPattern(text) { return pattern }
    problems.add(pointer, "The pattern is no regular expression, or longer than \(TextPattern.sizeBytesMax) bytes.")
    return nil
  }

  private mutating func schema(_ value: RuleValue, at pointer: String) -> JSONSchema? {
    if case .text(let name) = value {
      if let schema = schemas[name] { return schema }
      // One that is there and wrong has been reported.
      guard documents[name] == nil else { return nil }
      problems.add(
        pointer,
        "There is no schema \"\(RuleProblems.shown(name))\" under json_schemas."
          + (ConfigurationSpelling.nearest(to: name, among: documents.keys.sorted()).map { " Did you mean \"\($0)\"?" }
            ?? ""))
      return nil
    }
    return Self.compile(value, documents, bounds, at: pointer, &problems)
  }

  static func compile(
    _ value: RuleValue, _ documents: [String: RuleValue], _ bounds: JSONSchema.Bounds, at pointer: String,
    _ problems: inout RuleProblems
  ) -> JSONSchema? {
    do throws(JSONSchema.Problems) {
      return try JSONSchema(value, documents: documents, bounds: bounds)
    } catch {
      for problem in error.problems {
        // What is wrong in another document is said there, once for all.
        guard problem.document == nil else { continue }
        problems.add(pointer + problem.pointer, problem.message)
      }
      return nil
    }
  }

  private mutating func requiredOutput(_ value: RuleValue, at pointer: String) -> RequiredOutput? {
    let known = ["uri_pattern", "json_schema", "number_min"]
    guard let members = problems.members(value, at: pointer, what: "The required output", known: known) else {
      return nil
    }
    guard let pattern = members["uri_pattern"] else {
      problems.add(pointer, "The required output has no uri_pattern, so that any output would do. Give it one.")
      return nil
    }
    var numberMin: Double?
    if let number = members["number_min"] {
      numberMin = number.double
      if numberMin == nil {
        problems.add(pointer + "/number_min", "The value must be a number, but is \(number.found).")
      }
    }
    var schema: JSONSchema??
    if let value = members["json_schema"] { schema = .some(self.schema(value, at: pointer + "/json_schema")) }
    guard let pattern = self.pattern(pattern, at: pointer + "/uri_pattern") else { return nil }
    if case .some(nil) = schema { return nil }
    return RequiredOutput(uriPattern: pattern, numberMin: numberMin, schema: schema ?? nil)
  }

  private mutating func signers(_ value: RuleValue, at pointer: String) -> Signers? {
    switch value {
    case .text("owner"): return .owner
    case .text: return key(value, at: pointer).map { .any([$0]) }
    case .list: return keyList(value, at: pointer).map { .any($0) }
    default:
      guard
        let members = problems.members(
          value, at: pointer, what: "signed_by must be owner, a key, a list of keys of which one is enough, or it",
          known: ["any", "all"])
      else { return nil }
      guard members.count == 1, let (word, keys) = members.first else {
        problems.add(pointer, "Give signed_by either any or all.")
        return nil
      }
      guard let list = keyList(keys, at: Pointer.appending(word, to: pointer)) else { return nil }
      return word == "any" ? .any(list) : .all(list)
    }
  }

  private mutating func keyList(_ value: RuleValue, at pointer: String) -> [[UInt8]]? {
    guard case .list(let items) = value, !items.isEmpty, items.count <= Self.signersMax else {
      problems.add(pointer, "The keys must be a list of 1 to \(Self.signersMax), but are \(value.found).")
      return nil
    }
    var result: [[UInt8]] = []
    for (index, item) in items.enumerated() {
      if let key = key(item, at: "\(pointer)/\(index)") { result.append(key) }
    }
    return result.count == items.count ? result : nil
  }

  private mutating func key(_ value: RuleValue, at pointer: String) -> [UInt8]? {
    guard case .text(let text) = value else {
      problems.add(pointer, "A key must be a name from keys, or 64 hexadecimal digits, but is \(value.found).")
      return nil
    }
    if let key = keys[text] ?? Self.publicKey(text) { return key }
    problems.add(
      pointer,
      "\"\(RuleProblems.shown(text))\" is neither a name from keys nor a public key of 64 hexadecimal digits."
        + (ConfigurationSpelling.nearest(to: text, among: keys.keys.sorted() + ["owner"]).map {
          " Did you mean \"\($0)\"?"
        }
          ?? ""))
    return nil
  }

  static func publicKey(_ text: String) -> [UInt8]? {
    guard let key = Hexadecimal.decode(text), key.count == Ed25519.publicKeySizeBytes else { return nil }
    return key
  }
}

enum Wording {
  static let denied = "This program takes no messages."
  static let exists = "The record exists already, and it is written once."
}
