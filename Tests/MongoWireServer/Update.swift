/// `$set` and `$setOnInsert`, with what a server refuses.
struct Update {
  private var set = Document()
  private var setOnInsert = Document()

  init(_ document: Document) throws(ServerError) {
    guard !document.fields.isEmpty else { throw .failedToParse("an update must not be empty") }
    var seen: Set<Text> = []
    for field in document.fields {
      guard let fields = field.value.document else {
        throw .failedToParse("Modifiers operate on fields but we found something else for \(field.name)")
      }
      switch field.name {
      case "$set": set = fields
      case "$setOnInsert": setOnInsert = fields
      default: throw .failedToParse("Unknown modifier: \(field.name). Expected a valid update modifier")
      }
      for entry in fields.fields {
        if entry.name == "_id" { throw ServerError(66, "ImmutableField", "the field '_id' cannot be changed") }
        if entry.name.bytes.isEmpty || entry.name.bytes.contains(UInt8(ascii: ".")) {
          throw ServerError(56, "EmptyFieldName", "the update path '\(entry.name)' is not supported here")
        }
        guard seen.insert(entry.name).inserted else {
          throw ServerError(
            40, "ConflictingUpdateOperators", "Updating the path '\(entry.name)' would create a conflict")
        }
      }
    }
  }

  func applied(to document: Document) throws(ServerError) -> Document {
    var document = document
    for field in set.fields { document[field.name] = field.value }
    try Self.check(document)
    return document
  }

  /// What an upsert inserts.
  func inserted(_ equalities: Document, id: Value) throws(ServerError) -> Document {
    var document: Document = ["_id": id]
    for field in equalities.fields + set.fields + setOnInsert.fields { document[field.name] = field.value }
    try Self.check(document)
    return document
  }

  /// What no server stores, of any version that libmongoc speaks to. Newer ones allow `$` in front of inner names; a
  /// backend must not count on it.
  static func check(_ document: Document) throws(ServerError) {
    try check(document, depth: 1)
    let count = document.bson.count
    if count > 16 << 20 {
      throw ServerError(17_419, "Location17419", "Resulting document after update is larger than 16777216")
    }
  }

  private static func check(_ document: Document, depth: Int) throws(ServerError) {
    if depth > 100 { throw ServerError(15, "Overflow", "BSONObj exceeds maximum nested object depth") }
    for field in document.fields {
      if field.name.bytes.first == UInt8(ascii: "$") {
        throw ServerError(
          52, "DollarPrefixedFieldName", "The dollar ($) prefixed field '\(field.name)' is not valid for storage.")
      }
      try check(field.value, depth: depth)
    }
  }

  private static func check(_ value: Value, depth: Int) throws(ServerError) {
    switch value {
    case .document(let inner): try check(inner, depth: depth + 1)
    case .array(let values):
      if depth + 1 > 100 { throw ServerError(15, "Overflow", "BSONObj exceeds maximum nested object depth") }
      for value in values { try check(value, depth: depth + 1) }
    case .unsupported(let type): throw .badValue("a value of the BSON type \(type) is not kept by this server")
    default: break
    }
  }
}
