import PluginAPI

/// The rules of a schema without code, as a rules file says them. Immutable; any number of threads.
package final class RuleBook: Sendable {
  /// What judging one message may use.
  struct Limits: Sendable, Equatable {
    var schema = JSONSchema.Bounds()
    var timeMsMax = 1000
  }

  static let programsMax = 10_000
  static let keysMax = 10_000
  static let schemasMax = 256
  /// Stands for every program that is not named.
  static let everyOther = "*"

  let limits: Limits
  private let byKey: [[UInt8]: ProgramRules]
  private let everyOther: ProgramRules?
  /// In the order of the file.
  package let programs: [Program]
  package let judgesDeletes: Bool

  /// - Throws: everything that is wrong, with pointers into `value`.
  package init(_ value: RuleValue) throws(ConfigurationErrors) {
    var problems = RuleProblems()
    let known = ["version", "limits", "keys", "json_schemas", "programs"]
    let members = problems.members(value, at: "", what: "The rules", known: known) ?? [:]
    Self.checkVersion(members["version"], &problems)
    limits = Self.limits(members["limits"], &problems)
    let documents = Self.documents(members["json_schemas"], &problems)
    var schemas: [String: JSONSchema] = [:]
    for name in documents.keys.sorted() {
      schemas[name] = RuleReader.compile(
        documents[name] ?? .null, documents, limits.schema, at: Pointer.appending(name, to: "/json_schemas"), &problems)
    }
    var reader = RuleReader(
      keys: Self.keys(members["keys"], &problems), schemas: schemas, documents: documents, bounds: limits.schema)
    reader.problems = problems
    let list = Self.programs(members["programs"], isThere: members["programs"] != nil || members.isEmpty, &reader)
    try reader.problems.throwIfAny()

    byKey = Dictionary(
      list.filter { $0.key != Self.everyOther }.map { (Array($0.key.utf8), $0) },
      uniquingKeysWith: { first, _ in first })
    everyOther = list.first { $0.key == Self.everyOther }
    judgesDeletes = list.contains { !$0.allowsDeletes }
    var programs = list.filter { $0.key != Self.everyOther }.map {
      Program($0.key, isCanonical: $0.key == "hash://sha256")
    }
    if everyOther != nil {
      programs.append(.fallback)
      if byKey[Array("hash://sha256".utf8)] == nil {
        programs.append(Program("hash://sha256", isCanonical: true, isUnlisted: true))
      }
    }
    self.programs = programs
  }

  /// What `program` demands; nil when nobody has said.
  func rules(of program: BorrowedBytes) -> ProgramRules? {
    // The dictionary's key is an array: one small copy.
    byKey[Array(program)] ?? everyOther
  }

  // MARK: Reading

  private static func checkVersion(_ value: RuleValue?, _ problems: inout RuleProblems) {
    guard let value else {
      return problems.add("/version", "The version of the format is missing. Begin with version: 1.")
    }
    if value.whole == 1 { return }
    problems.add("/version", "The version must be 1, the only one there is, but is \(value.found).")
  }

  private static func limits(_ value: RuleValue?, _ problems: inout RuleProblems) -> Limits {
    var limits = Limits()
    guard let value else { return limits }
    let known = ["json_schema_size_bytes_max", "json_schema_depth_max", "time_ms_max"]
    guard let members = problems.members(value, at: "/limits", what: "The limits", known: known) else { return limits }
    limits.schema.sizeBytesMax = problems.whole(
      members[known[0]], at: "/limits/\(known[0])", in: 1...(64 << 20), default: limits.schema.sizeBytesMax)
    limits.schema.depthMax = problems.whole(
      members[known[1]], at: "/limits/\(known[1])", in: 1...128, default: limits.schema.depthMax)
    limits.timeMsMax = problems.whole(
      members[known[2]], at: "/limits/\(known[2])", in: 1...60_000, default: limits.timeMsMax)
    return limits
  }

  private static func keys(_ value: RuleValue?, _ problems: inout RuleProblems) -> [String: [UInt8]] {
    guard let value else { return [:] }
    guard case .mapping(let members) = value, members.count <= keysMax else {
      problems.add(
        "/keys", "The keys must be a mapping from names to public keys, at most \(keysMax), but are \(value.found).")
      return [:]
    }
    var keys: [String: [UInt8]] = [:]
    for member in members {
      let pointer = Pointer.appending(member.key, to: "/keys")
      guard member.key != "owner", RuleReader.publicKey(member.key) == nil else {
        problems.add(pointer, "A key cannot be named like this: the word means something else. Choose another name.")
        continue
      }
      if case .text(let text) = member.value, let key = RuleReader.publicKey(text) {
        keys[member.key] = key
      } else {
        problems.add(
          pointer, "A public key has 64 hexadecimal digits, but this is \(member.value.found). Put it in quotes.")
      }
    }
    return keys
  }

  private static func documents(_ value: RuleValue?, _ problems: inout RuleProblems) -> [String: RuleValue] {
    guard let value else { return [:] }
    guard case .mapping(let members) = value, members.count <= schemasMax else {
      problems.add(
        "/json_schemas",
        "The schemas must be a mapping from names to JSON Schemas, at most \(schemasMax), but are \(value.found).")
      return [:]
    }
    return Dictionary(members.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
  }

  private static func programs(_ value: RuleValue?, isThere: Bool, _ reader: inout RuleReader) -> [ProgramRules] {
    guard let value else {
      if isThere { return [] }
      reader.problems.add("/programs", "The programs are missing. Say what each demands, as in mutable://open: allow.")
      return []
    }
    guard case .mapping(let members) = value, !members.isEmpty, members.count <= programsMax else {
      reader.problems.add(
        "/programs",
        "The programs must be a mapping from programs to rules, 1 to \(programsMax), but are \(value.found).")
      return []
    }
    return members.map { member in
      let pointer = Pointer.appending(member.key, to: "/programs")
      if !isProgram(member.key) {
        reader.problems.add(
          pointer,
          "A program is written like mutable://open, without a path (or * for every program that is not named), "
            + "but this is \"\(RuleProblems.shown(member.key))\".")
      }
      return program(member.key, member.value, at: pointer, &reader)
    }
  }

  /// One rule, a list of rules, or `rules:` and `delete:`.
  private static func program(
    _ key: String, _ value: RuleValue, at pointer: String, _ reader: inout RuleReader
  ) -> ProgramRules {
    guard case .mapping(let members) = value, members.contains(where: { $0.key == "rules" || $0.key == "delete" })
    else {
      return ProgramRules(key: key, rules: reader.rules(value, at: pointer), allowsDeletes: true)
    }
    let found = reader.problems.members(value, at: pointer, what: "A program", known: ["rules", "delete"]) ?? [:]
    var allowsDeletes = true
    switch found["delete"] {
    case nil, .text("open"): break
    case .text("none"): allowsDeletes = false
    case .some(let value):
      reader.problems.add(
        pointer + "/delete", "The value must be open (anyone deletes) or none, but is \(value.found).")
    }
    if found["rules"] == nil {
      reader.problems.add(pointer + "/rules", "The rules are missing. To accept everything, write rules: allow.")
    }
    return ProgramRules(
      key: key, rules: found["rules"].map { reader.rules($0, at: pointer + "/rules") } ?? [],
      allowsDeletes: allowsDeletes)
  }

  /// As the boundary has it: `^[a-z][a-z0-9+.-]*://[^/]*$`.
  private static func isProgram(_ key: String) -> Bool {
    if key == everyOther { return true }
    guard let scheme = key.firstRange(of: "://"), key.utf8.count <= 1024 else { return false }
    let name = key[..<scheme.lowerBound].utf8
    guard let first = name.first, (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(first) else { return false }
    let isScheme = name.allSatisfy { byte in
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        || byte == UInt8(ascii: "+") || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-")
    }
    return isScheme && !key[scheme.upperBound...].utf8.contains { $0 == UInt8(ascii: "/") || $0 <= 0x20 }
  }
}
