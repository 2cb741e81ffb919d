import PluginAPI

/// Makes one self-contained document of a schema and those it refers to, as the engine can bear it: every `$ref` leads
/// straight to a schema in the document, patterns are in ICU's dialect, and nothing is fetched.
struct SchemaPreparation {
  /// Where the other documents stand in the result.
  private static let filesKey = "x-files"
  /// Most schemas in one document and those it refers to.
  static let schemasMax = 5000

  /// Unknown keywords are problems: a misspelt one would silently demand nothing.
  let isStrict: Bool
  /// Other documents, which a `$ref` can name.
  let documents: [String: RuleValue]
  /// What is wrong, with pointers into the root document, or into the one named.
  private(set) var problems: [(document: String?, pointer: String, message: String)] = []
  private var names: [String] = []
  private var waiting: [Int] = []
  private var schemaPlaces: Set<String> = []
  private var references: [(from: Place, to: Place)] = []
  private(set) var schemaCount = 0
  private let root: RuleValue

  private struct Place: Hashable {
    /// Nil: the root.
    var document: Int?
    var pointer: String
    var key: String { "\(document ?? -1)#\(pointer)" }
  }

  init(_ root: RuleValue, documents: [String: RuleValue], isStrict: Bool) {
    self.root = root
    self.documents = documents
    self.isStrict = isStrict
  }

  /// The draft that `$schema` names: 4 or 7 (6 is a part of 7); nil, and a problem, for any other.
  mutating func draft() -> Int32? {
    guard let named = root["$schema"] else { return 7 }
    if case .text(let text) = named {
      if text.contains("json-schema.org/draft-04/") { return 4 }
      if text.contains("json-schema.org/draft-06/") || text.contains("json-schema.org/draft-07/") { return 7 }
    }
    problems.append(
      (nil, "/$schema", "The drafts 4, 6 and 7 of JSON Schema are known here, but this is \(named.found)."))
    return nil
  }

  /// The document; of no use when there are problems.
  mutating func prepare() -> RuleValue {
    var result = schema(root, Place(document: nil, pointer: ""))
    var files: [RuleValue.Member] = []
    while let document = waiting.popLast() {
      let value = documents[names[document]] ?? .null
      files.append(.init("\(document)", schema(value, Place(document: document, pointer: ""))))
    }
    for reference in references where !schemaPlaces.contains(reference.to.key) {
      add(reference.from, "$ref", "The $ref leads to something that is not used as a schema; put it under definitions.")
    }
    if !files.isEmpty, case .mapping(var members) = result {
      members.append(.init(Self.filesKey, .mapping(files)))
      result = .mapping(members)
    }
    return result
  }

  private mutating func add(_ place: Place, _ key: String? = nil, _ message: String) {
    guard problems.count < RuleProblems.problemsMax else { return }
    problems.append(
      (
        place.document.map { names[$0] }, key.map { Pointer.appending($0, to: place.pointer) } ?? place.pointer, message
      ))
  }

  // MARK: Schemas

  private mutating func schema(_ value: RuleValue, _ place: Place) -> RuleValue {
    schemaPlaces.insert(place.key)
    schemaCount += 1
    guard schemaCount <= Self.schemasMax else {
      if schemaCount == Self.schemasMax + 1 { add(place, nil, "There are more than \(Self.schemasMax) schemas.") }
      return .boolean(true)
    }
    guard case .mapping(let members) = value else {
      if case .boolean = value { return value }
      add(place, nil, "A schema must be a mapping, true or false, but is \(value.found).")
      return value
    }
    if let reference = value["$ref"], isStrict || !isPropertyName(reference) {
      return referring(reference, members, place)
    }
    var result: [RuleValue.Member] = []
    for member in members {
      guard let content = SchemaKeywords.contents[member.key] else {
        checkUnknown(member.key, place)
        continue
      }
      if case .identity = content { continue }
      let pointer = Pointer.appending(member.key, to: place.pointer)
      result.append(
        .init(member.key, keyword(member.value, content, Place(document: place.document, pointer: pointer))))
    }
    return .mapping(result)
  }

  /// A `$ref` that is no text is a member of that name, says the test suite.
  private func isPropertyName(_ reference: RuleValue) -> Bool { if case .text = reference { false } else { true } }

  private mutating func checkUnknown(_ key: String, _ place: Place) {
    guard isStrict, !key.hasPrefix("x-") else { return }
    if SchemaKeywords.later.contains(key) {
      add(
        place, key, "The keyword \(key) is of a draft after 7 and would not be checked. Say it in the words of draft 7."
      )
    } else {
      add(
        place, key,
        "The keyword \"\(RuleProblems.shown(key))\" is unknown and would not be checked."
          + (ConfigurationSpelling.nearest(to: key, among: SchemaKeywords.contents.keys.sorted())
            .map { " Did you mean \"\($0)\"?" } ?? " For a remark of your own, begin it with x-."))
    }
  }

  private mutating func keyword(_ value: RuleValue, _ content: SchemaKeywords.Content, _ place: Place) -> RuleValue {
    switch content {
    case .value, .identity, .reference: return value
    case .schema: return schema(value, place)
    case .items:
      if case .list = value { return list(value, place) }
      return schema(value, place)
    case .schemas: return list(value, place)
    case .schemasByName: return mapping(value, place) { preparation, value, place in preparation.schema(value, place) }
    case .dependencies:
      return mapping(value, place) { preparation, value, place in
        if case .list = value { return value }
        return preparation.schema(value, place)
      }
    case .schemasByPattern:
      guard case .mapping(let members) = mapping(value, place, { $0.schema($1, $2) }) else { return value }
      return .mapping(
        members.map { member in
          check(pattern: member.key, place, member.key)
          return .init(ECMAPattern.translated(member.key), member.value)
        })
    case .pattern:
      guard case .text(let text) = value else {
        add(place, nil, "A pattern must be a text, but is \(value.found).")
        return value
      }
      check(pattern: text, place, nil)
      return .text(ECMAPattern.translated(text))
    case .divisor:
      if let number = value.double, number > 0 { return value }
      add(place, nil, "multipleOf must be a number above zero, but is \(value.found).")
      return value
    }
  }

  private mutating func check(pattern: String, _ place: Place, _ key: String?) {
    guard !TextPattern.isPattern(pattern) else { return }
    add(place, key, "The pattern is no regular expression, or longer than \(TextPattern.sizeBytesMax) bytes.")
  }

  private mutating func list(_ value: RuleValue, _ place: Place) -> RuleValue {
    guard case .list(let items) = value else {
      add(place, nil, "The value must be a list of schemas, but is \(value.found).")
      return value
    }
    var result: [RuleValue] = []
    for (index, item) in items.enumerated() {
      result.append(schema(item, Place(document: place.document, pointer: "\(place.pointer)/\(index)")))
    }
    return .list(result)
  }

  private mutating func mapping(
    _ value: RuleValue, _ place: Place, _ body: (inout Self, RuleValue, Place) -> RuleValue
  ) -> RuleValue {
    guard case .mapping(let members) = value else {
      add(place, nil, "The value must be a mapping of schemas, but is \(value.found).")
      return value
    }
    var result: [RuleValue.Member] = []
    for member in members {
      let pointer = Pointer.appending(member.key, to: place.pointer)
      result.append(.init(member.key, body(&self, member.value, Place(document: place.document, pointer: pointer))))
    }
    return .mapping(result)
  }

  // MARK: References

  /// In these drafts everything beside a `$ref` is ignored, but for what other references lead to.
  private mutating func referring(_ reference: RuleValue, _ members: [RuleValue.Member], _ place: Place) -> RuleValue {
    var result: [RuleValue.Member] = []
    for member in members where member.key != "$ref" {
      if SchemaKeywords.besideReference.contains(member.key) {
        let pointer = Pointer.appending(member.key, to: place.pointer)
        result.append(
          .init(member.key, keyword(member.value, .schemasByName, Place(document: place.document, pointer: pointer))))
      } else if isStrict, !SchemaKeywords.annotations.contains(member.key), !member.key.hasPrefix("x-") {
        add(place, member.key, "Beside $ref nothing else is checked. Put both into allOf.")
      }
    }
    if let target = target(of: reference, place) {
      references.append((place, target))
      result.append(.init("$ref", .text(text(of: target))))
    }
    return .mapping(result)
  }

  /// Where a reference leads in the end, when it leads to references.
  private mutating func target(of reference: RuleValue, _ place: Place) -> Place? {
    var reference = reference
    var current = place
    var seen: Set<String> = [place.key]
    while true {
      guard case .text(let text) = reference else {
        add(place, "$ref", "A $ref must be a text, but is \(reference.found).")
        return nil
      }
      guard let next = resolve(text, from: current, place) else { return nil }
      guard seen.insert(next.place.key).inserted else {
        add(place, "$ref", "The $ref leads back to itself.")
        return nil
      }
      guard let further = next.value["$ref"] else { return next.place }
      (reference, current) = (further, next.place)
    }
  }

  private mutating func resolve(_ text: String, from current: Place, _ origin: Place) -> (
    place: Place, value: RuleValue
  )? {
    let parts = text.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
    guard let name = Self.percentDecoded(parts.first ?? ""),
      let fragment = Self.percentDecoded(parts.count > 1 ? parts[1] : "")
    else {
      add(origin, "$ref", "The $ref \"\(RuleProblems.shown(text))\" is no URI reference.")
      return nil
    }
    guard let keys = Pointer.parts(fragment[...]) else {
      add(
        origin, "$ref",
        "The $ref \"\(RuleProblems.shown(text))\" names a place by a name. Use a JSON pointer, such as "
          + "#/definitions/amount.")
      return nil
    }
    guard let document = document(name, current, origin) else { return nil }
    var value = document.map { documents[names[$0]] ?? .null } ?? root
    for key in keys {
      var found = value[key]
      if case .list(let items) = value, let index = Int(key), items.indices.contains(index) { found = items[index] }
      guard let found else {
        add(origin, "$ref", "The $ref \"\(RuleProblems.shown(text))\" leads to nothing.")
        return nil
      }
      value = found
    }
    return (Place(document: document, pointer: keys.reduce("") { Pointer.appending($1, to: $0) }), value)
  }

  /// Double optional: nil for none, and then there is a problem.
  private mutating func document(_ name: String, _ current: Place, _ origin: Place) -> Int?? {
    if name.isEmpty { return .some(current.document) }
    let name = name.hasPrefix("./") ? String(name.dropFirst(2)) : name
    if let index = names.firstIndex(of: name) { return .some(index) }
    guard documents[name] != nil else {
      add(
        origin, "$ref",
        name.contains(":")
          ? "The $ref to \(RuleProblems.shown(name)) is not followed: nothing is fetched. Put the document under "
            + "json_schemas and refer to it by its name there."
          : "The $ref names \"\(RuleProblems.shown(name))\", which is not under json_schemas. Put it there.")
      return nil
    }
    names.append(name)
    waiting.append(names.count - 1)
    return .some(names.count - 1)
  }

  private func text(of place: Place) -> String {
    let pointer = (place.document.map { "/\(Self.filesKey)/\($0)" } ?? "") + place.pointer
    return "#" + pointer.split(separator: "%", omittingEmptySubsequences: false).joined(separator: "%25")
  }

  private static func percentDecoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard rest.count >= 2, let value = UInt8(Substring(rest.prefix(2)), radix: 16) else { return nil }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}
