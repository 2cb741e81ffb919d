/// One decoding of one document: reads values, and turns whatever was thrown into problems with a place.
final class ConfigurationRun {
  let root: ConfigurationNode
  /// The value whose initialiser threw the error that is on its way out: the best place for an error that names none.
  /// Forgotten as soon as the type asks for something else, as it has then caught that error.
  private var innermostFailure: ConfigurationCursor?

  init(root: ConfigurationNode) {
    self.root = root
  }

  func willRead() {
    innermostFailure = nil
  }

  // MARK: Reading

  func decode<T: Decodable>(_ type: T.Type, at cursor: ConfigurationCursor) throws -> T {
    willRead()
    let decoder = ConfigurationValueDecoder(run: self, cursor: cursor)
    do {
      let value = try type.init(from: decoder)
      decoder.complete()
      return value
    } catch {
      if innermostFailure == nil { innermostFailure = cursor }
      if let refused = refusedRawValue(type, error, at: cursor) { throw refused }
      throw error
    }
  }

  func boolean(at cursor: ConfigurationCursor) throws -> Bool {
    willRead()
    if case .boolean(let flag) = cursor.node.value { return flag }
    var advice = ""
    if case .text("true") = cursor.node.value { advice = "remove the quotes" }
    if case .text("false") = cursor.node.value { advice = "remove the quotes" }
    throw mismatch(Bool.self, "true or false", at: cursor, advice: advice)
  }

  func text(at cursor: ConfigurationCursor) throws -> String {
    willRead()
    switch cursor.node.value {
    case .text(let text): return text
    case .number, .boolean: throw mismatch(String.self, "a text", at: cursor, advice: "put it in double quotes")
    default: throw mismatch(String.self, "a text", at: cursor)
    }
  }

  func integer<I: FixedWidthInteger>(_ type: I.Type, at cursor: ConfigurationCursor) throws -> I {
    willRead()
    var advice = ""
    switch cursor.node.value {
    case .number(let digits):
      // The grammar has no plus sign, so that only whole numbers get through here, exactly or not at all.
      if let number = I(digits) { return number }
      if digits.utf8.contains(where: { $0 == UInt8(ascii: ".") || $0 | 0x20 == UInt8(ascii: "e") }) {
        advice = "write it without a decimal point or exponent"
      }
    case .text(let text) where I(text) != nil: advice = "remove the quotes"
    default: break
    }
    throw mismatch(type, "a whole number from \(I.min) to \(I.max)", at: cursor, advice: advice)
  }

  func real<R: BinaryFloatingPoint & LosslessStringConvertible>(
    _ type: R.Type, at cursor: ConfigurationCursor
  ) throws -> R {
    willRead()
    var advice = ""
    switch cursor.node.value {
    case .number(let digits):
      if let number = R(digits), number.isFinite { return number }
      throw mismatch(
        type, "a number from \(-R.greatestFiniteMagnitude) to \(R.greatestFiniteMagnitude)", at: cursor)
    case .text(let text) where R(text) != nil: advice = "remove the quotes"
    default: break
    }
    throw mismatch(type, "a number", at: cursor, advice: advice)
  }

  func object(at cursor: ConfigurationCursor) throws -> ConfigurationObject {
    willRead()
    if case .object(let object) = cursor.node.value { return object }
    throw mismatch([String: any Decodable].self, "an object", at: cursor)
  }

  func list(at cursor: ConfigurationCursor) throws -> [ConfigurationNode] {
    willRead()
    if case .list(let items) = cursor.node.value { return items }
    throw mismatch([any Decodable].self, "a list", at: cursor)
  }

  // MARK: Errors of this decoder

  /// Marks a `DecodingError` whose message was composed here and carries no secret.
  private struct Composed: Error {}

  static func context(_ codingPath: [any CodingKey], _ message: String) -> DecodingError.Context {
    DecodingError.Context(codingPath: codingPath, debugDescription: message, underlyingError: Composed())
  }

  private func mismatch(
    _ type: Any.Type, _ expected: String, at cursor: ConfigurationCursor, advice: String = ""
  ) -> DecodingError {
    let found = ConfigurationRedaction.describe(cursor.node.value, at: cursor.place)
    let message = "expected \(expected), found \(found)" + (advice.isEmpty ? "." : "; \(advice).")
    let context = Self.context(cursor.codingPath, message)
    if case .null = cursor.node.value { return .valueNotFound(type, context) }
    return .typeMismatch(type, context)
  }

  /// An enum with raw values says "Cannot initialize Level from invalid String value loud", which names Swift's types to
  /// a reader of JSON and repeats the value; say what is allowed instead, when the enum can list its cases.
  private func refusedRawValue(_ type: Any.Type, _ error: any Error, at cursor: ConfigurationCursor) -> DecodingError? {
    guard type is any RawRepresentable.Type, case DecodingError.dataCorrupted(let context) = error,
      context.underlyingError == nil, context.codingPath.count == cursor.codingPath.count,
      context.debugDescription.hasPrefix("Cannot initialize ")
    else { return nil }
    let found = ConfigurationRedaction.describe(cursor.node.value, at: cursor.place)
    var message = "\(found) is not one of the values allowed here"
    let allowed = (type as? any CaseIterable.Type).map(rawValues) ?? []
    if !allowed.isEmpty { message += ": \(listed(allowed))" }
    return .dataCorrupted(Self.context(cursor.codingPath, message + "."))
  }

  private func rawValues(_ type: any CaseIterable.Type) -> [String] {
    func all<C: CaseIterable>(_ type: C.Type) -> [String] {
      type.allCases.compactMap { ($0 as? any RawRepresentable).map { rawValue($0) } }
    }
    return all(type)
  }

  private func rawValue(_ value: any RawRepresentable) -> String {
    let raw = value.rawValue as Any
    return (raw as? String).map(ConfigurationRedaction.quoted) ?? "\(raw)"
  }

  // MARK: From errors to problems

  func problems(for error: any Error) -> [ConfigurationProblem] {
    switch error {
    case let errors as ConfigurationErrors where !errors.problems.isEmpty: return errors.problems.map(relative)
    case let problem as ConfigurationProblem: return [relative(problem)]
    case let error as DecodingError: return [located(error)]
    default: return [relative(ConfigurationProblem(message: "\(error)"))]
    }
  }

  private func relative(_ problem: ConfigurationProblem) -> ConfigurationProblem {
    let failure = innermostFailure ?? ConfigurationCursor(root: root)
    let isPointer = problem.pointer.isEmpty || problem.pointer.hasPrefix("/")
    let place = failure.place.appending(relativePointer: isPointer ? problem.pointer : "/" + problem.pointer)
    let message = problem.message.isEmpty ? "the value was refused without a reason." : problem.message
    return ConfigurationProblem(
      pointer: place.pointer,
      message: ConfigurationRedaction.message(message, about: failure.node.value, at: place))
  }

  private func located(_ error: DecodingError) -> ConfigurationProblem {
    var path: [any CodingKey] = []
    var message = ""
    var isComposed = false
    func take(_ context: DecodingError.Context, _ suffix: [any CodingKey] = []) {
      path = context.codingPath + suffix
      message = context.debugDescription
      isComposed = context.underlyingError is Composed
    }
    switch error {
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context): take(context)
    case .keyNotFound(let key, let context): take(context, [key])
    @unknown default: message = "\(error)"
    }
    if message.isEmpty { message = "the value does not fit." }
    var (place, node) = resolve(path)
    // An author's context may have an empty path; the value that was being decoded is nearer the truth.
    if !isComposed, let failure = innermostFailure, path.count < failure.codingPath.count {
      (place, node) = (failure.place, failure.node)
    }
    if !isComposed { message = ConfigurationRedaction.message(message, about: node?.value, at: place) }
    return ConfigurationProblem(pointer: place.pointer, message: message)
  }

  private func resolve(_ path: [any CodingKey]) -> (place: ConfigurationPlace, node: ConfigurationNode?) {
    var place = ConfigurationPlace()
    var node: ConfigurationNode? = root
    for key in path {
      switch (node?.value, key.intValue) {
      case (.list(let items), .some(let index)):
        place = place.appending(index: index)
        node = items.indices.contains(index) ? items[index] : nil
      case (.object(let object), _):
        place = place.appending(key: key.stringValue)
        node = object[key.stringValue]
      default:
        place = place.appending(key: key.stringValue)
        node = nil
      }
    }
    return (place, node)
  }

  // MARK: Unknown keys

  /// The keys that nobody asked for, in the order of the document, of every object whose decoding was completed.
  func unknownKeyProblems() -> [ConfigurationProblem] {
    var problems: [ConfigurationProblem] = []
    collectUnknownKeys(of: root, at: ConfigurationPlace(), into: &problems)
    return problems
  }

  private func collectUnknownKeys(
    of node: ConfigurationNode, at place: ConfigurationPlace, into problems: inout [ConfigurationProblem]
  ) {
    switch node.value {
    case .list(let items):
      for (index, item) in items.enumerated() {
        collectUnknownKeys(of: item, at: place.appending(index: index), into: &problems)
      }
    case .object(let object):
      // When one attempt succeeded, those that failed before it do not count: their keys belong to another shape.
      let completed = node.records.filter(\.isComplete)
      let counted = ConfigurationKeyRecord()
      for record in completed.isEmpty ? node.records : completed { record.asked.forEach(counted.ask) }
      for (key, member) in object.members {
        if counted.hasAsked(key) {
          collectUnknownKeys(of: member, at: place.appending(key: key), into: &problems)
        } else if !completed.isEmpty {
          // Those beyond the limit are only counted: nobody sees the suggestion.
          guard problems.count <= ConfigurationDecoder.problemsMax else {
            problems.append(ConfigurationProblem(message: ""))
            continue
          }
          problems.append(
            ConfigurationProblem(
              pointer: place.appending(key: key).pointer, message: unknown(key, in: object, asked: counted.asked)))
        }
      }
    default: break
    }
  }

  private func unknown(_ key: String, in object: ConfigurationObject, asked: [String]) -> String {
    let named = "unknown key \(ConfigurationRedaction.quotedKey(key))"
    // A key that is missing is the likelier target, but a second spelling of one that is there is possible, too.
    let absent = asked.filter { object[$0] == nil }
    if let meant = ConfigurationSpelling.nearest(to: key, among: absent + asked) {
      return "\(named); did you mean \(ConfigurationRedaction.quotedKey(meant))?"
    }
    if asked.isEmpty { return "\(named); remove it, as no keys are known here." }
    return "\(named); the keys known here are \(listed(asked.map(ConfigurationRedaction.quotedKey)))."
  }

  private func listed(_ names: [String]) -> String {
    let namesMax = 16
    let rest = names.count - namesMax
    return names.prefix(namesMax).joined(separator: ", ") + (rest > 0 ? " and \(rest) more" : "")
  }
}
