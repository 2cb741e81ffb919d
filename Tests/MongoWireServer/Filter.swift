/// Which documents a statement is about. An operator that is not known here is an error, as on a server.
struct Filter {
  private indirect enum Test {
    case equals(String, Value)
    case atLeast(String, Text)
    case above(String, Text)
    case below(String, Text)
    case anyOf(String, [Value])
    case expression(Expression)
  }

  /// Of `$expr`.
  private indirect enum Expression {
    case and([Expression])
    case not(Expression)
    case equal(String, String)
  }

  private var tests: [Test] = []

  init(_ document: Document) throws(ServerError) {
    for field in document.fields {
      let name = "\(field.name)"
      if name == "$expr" {
        tests.append(.expression(try Self.expression(field.value)))
      } else if name.hasPrefix("$") {
        throw .badValue("unknown top level operator: \(name)")
      } else if let operators = field.value.document, operators.fields.first?.name.bytes.first == UInt8(ascii: "$") {
        for entry in operators.fields { tests.append(try Self.test(name, entry)) }
      } else {
        tests.append(.equals(name, field.value))
      }
    }
  }

  private static func test(_ name: String, _ entry: Document.Field) throws(ServerError) -> Test {
    switch (entry.name, entry.value) {
    case ("$gte", .text(let bound)): return .atLeast(name, bound)
    case ("$gt", .text(let bound)): return .above(name, bound)
    case ("$lt", .text(let bound)): return .below(name, bound)
    case ("$in", .array(let values)): return .anyOf(name, values)
    default: throw .badValue("unknown operator: \(entry.name)")
    }
  }

  private static func expression(_ value: Value) throws(ServerError) -> Expression {
    guard let document = value.document, document.fields.count == 1, let arguments = document.fields[0].value.array
    else {
      throw .failedToParse("an expression is an object with one operator and its arguments")
    }
    switch document.fields[0].name {
    case "$and":
      var parts: [Expression] = []
      for argument in arguments { parts.append(try expression(argument)) }
      return .and(parts)
    case "$not":
      guard arguments.count == 1 else {
        throw ServerError(16_020, "Location16020", "Expression $not takes exactly 1 argument")
      }
      return .not(try expression(arguments[0]))
    case "$eq":
      let paths = arguments.compactMap(\.text).map { "\($0)" }.filter { $0.hasPrefix("$") }.map {
        String($0.dropFirst())
      }
      guard paths.count == 2 else { throw .failedToParse("$eq here compares two fields") }
      return .equal(paths[0], paths[1])
    case let name: throw ServerError(168, "InvalidPipelineOperator", "Unrecognized expression '\(name)'")
    }
  }

  func matches(_ document: Document) -> Bool {
    tests.allSatisfy { test in
      switch test {
      case .equals(let path, let value): document[path: path].map { $0.equals(value) } ?? (value == .null)
      case .atLeast(let path, let bound): document[path: path]?.text.map { $0 >= bound } ?? false
      case .above(let path, let bound): document[path: path]?.text.map { $0 > bound } ?? false
      case .below(let path, let bound): document[path: path]?.text.map { $0 < bound } ?? false
      case .anyOf(let path, let values):
        document[path: path].map { found in values.contains { found.equals($0) } } ?? false
      case .expression(let expression): Self.holds(expression, document)
      }
    }
  }

  private static func holds(_ expression: Expression, _ document: Document) -> Bool {
    switch expression {
    case .and(let parts): return parts.allSatisfy { holds($0, document) }
    case .not(let part): return !holds(part, document)
    case .equal(let left, let right):
      // Two missing fields are equal.
      switch (document[path: left], document[path: right]) {
      case (let left?, let right?): return left.equals(right)
      case (nil, nil): return true
      default: return false
      }
    }
  }

  // MARK: For the index and for upserts

  /// The URIs that alone can match; nil: any.
  var uris: [Text]? {
    for test in tests {
      if case .equals("uri", .text(let uri)) = test { return [uri] }
      if case .anyOf("uri", let values) = test { return Array(Set(values.compactMap(\.text))) }
    }
    return nil
  }

  /// The first URI that can match, and the one that all lie below.
  var uriBounds: (from: Text?, below: Text?) {
    var bounds: (from: Text?, below: Text?) = (nil, nil)
    for test in tests {
      if case .atLeast("uri", let bound) = test { bounds.from = bound }
      if case .above("uri", let bound) = test { bounds.from = bound }
      if case .below("uri", let bound) = test { bounds.below = bound }
    }
    return bounds
  }

  /// What an upsert puts into a new document: the fields that are asked to equal something.
  var equalities: Document {
    var document = Document()
    for test in tests {
      if case .equals(let path, let value) = test, !path.contains(".") { document[Text(path)] = value }
    }
    return document
  }
}
