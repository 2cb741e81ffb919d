/// What the server holds and does. One caller at a time.
struct Engine {
  let persona: Persona
  /// "127.0.0.1:port"
  let address: String
  var collections: [String: StoredCollection] = [:]
  /// Counts every change.
  var revision = 0
  private var nextID: UInt64 = 0
  private var cursors: [Int64: [Document]] = [:]
  private var nextCursor: Int64 = 0
  /// The last answer to a write of each session: a driver that has not had it asks again.
  private var answered: [[UInt8]: Answered] = [:]
  var transactions: [[UInt8]: Transaction] = [:]

  private struct Answered {
    var number: Int
    var reply: Document
  }

  init(persona: Persona, address: String) {
    self.persona = persona
    self.address = address
  }

  private var hasTransactions: Bool { persona != .standalone }
  private static let replyBytesMax = 16 << 20
  private static let batchDefault = 101

  /// A database's collection by its full name, for tests.
  mutating func insert(_ document: Document, into namespace: String) throws(ServerError) {
    revision += 1
    var document = document
    if document["_id"] == nil { document.fields.insert(.init(name: "_id", value: newID()), at: 0) }
    try collections[namespace, default: StoredCollection()].insert(document, revision: revision)
  }

  /// As the peer's `updateOne` with `upsert` and `$set` does it, for tests.
  mutating func set(_ fields: Document, uri: String, in namespace: String) throws(ServerError) {
    revision += 1
    var collection = collections[namespace] ?? StoredCollection()
    let filter = try Filter(["uri": .text(Text(uri))])
    guard let place = collection.places(filter).first else {
      throw .badValue("there is no document with this uri")
    }
    var document = collection.stored[place]!.document
    for field in fields.fields { document[field.name] = field.value }
    try collection.replace(place, document, revision: revision)
    collections[namespace] = collection
  }

  mutating func createCollection(_ namespace: String, locale: String) {
    collections[namespace] = StoredCollection(locale: locale)
  }

  mutating func createIndex(_ index: Document, on namespace: String) throws(ServerError) {
    try collections[namespace, default: StoredCollection()].createIndex(index)
  }

  mutating func newID() -> Value {
    nextID += 1
    return .objectID((0..<12).map { UInt8(truncatingIfNeeded: $0 < 4 ? 0x66 : nextID >> ((11 - $0) * 8)) })
  }

  // MARK: Commands

  /// The answer to a command that is not about the connection.
  mutating func run(_ name: String, _ command: Document, database: String) throws(ServerError) -> Document {
    switch name {
    case "hello", "ismaster", "isMaster": return hello(usesHello: name == "hello")
    case "ping": return ["ok": .double(1)]
    case "buildInfo", "buildinfo": return ["version": "6.0.0", "maxBsonObjectSize": .int32(16 << 20), "ok": .double(1)]
    case "endSessions": return ["ok": .double(1)]
    case "killCursors": return killCursors(command)
    case "getMore": return try getMore(command)
    case "listIndexes": return try listIndexes(command, database)
    case "createIndexes": return try createIndexes(command, database)
    case "find": return try find(command, database)
    case "update", "delete": return try write(name, command, database)
    case "commitTransaction": return try commit(command)
    case "abortTransaction": return try abort(command)
    default: throw .commandNotFound(name)
    }
  }

  private func hello(usesHello: Bool) -> Document {
    var reply: Document = [
      "helloOk": .bool(true), usesHello ? "isWritablePrimary" : "ismaster": .bool(true),
      "maxBsonObjectSize": .int32(16 << 20), "maxMessageSizeBytes": .int32(48_000_000),
      "maxWriteBatchSize": .int32(100_000), "logicalSessionTimeoutMinutes": .int32(30), "connectionId": .int32(1),
      "minWireVersion": .int32(0), "maxWireVersion": .int32(17), "readOnly": .bool(false),
    ]
    switch persona {
    case .standalone: break
    case .mongos: reply["msg"] = "isdbgrid"
    case .replicaSet(let name, let others):
      reply["setName"] = .text(Text(name))
      reply["setVersion"] = .int32(1)
      reply["secondary"] = .bool(false)
      reply["hosts"] = .array(([address] + others).map { .text(Text($0)) })
      reply["primary"] = .text(Text(address))
      reply["me"] = .text(Text(address))
      reply["electionId"] = .objectID(Array(repeating: 1, count: 12))
    }
    reply["ok"] = .double(1)
    return reply
  }

  private func namespace(_ command: Document, _ database: String) throws(ServerError) -> String {
    guard let name = command.fields.first?.value.text, !name.bytes.isEmpty else {
      throw ServerError(73, "InvalidNamespace", "collection name has invalid type or is empty")
    }
    return "\(database).\(name)"
  }

  /// A misspelt field must not pass: servers refuse them too.
  func check(_ command: Document, _ name: String, _ fields: Set<Text>) throws(ServerError) {
    let everywhere: Set<Text> = [
      Text(name), "$db", "lsid", "$clusterTime", "txnNumber", "startTransaction", "autocommit", "readConcern",
      "writeConcern", "$readPreference", "maxTimeMS",
    ]
    for field in command.fields where !fields.contains(field.name) && !everywhere.contains(field.name) {
      throw .unknownField(field.name, name)
    }
    for (index, field) in command.fields.enumerated()
    where command.fields[..<index].contains(where: { $0.name == field.name }) {
      throw ServerError(40_413, "IDLDuplicateField", "BSON field '\(name).\(field.name)' is a duplicate field")
    }
    let isInTransaction = command["autocommit"] != nil
    if isInTransaction, command["writeConcern"] != nil, name != "commitTransaction", name != "abortTransaction" {
      throw ServerError(72, "InvalidOptions", "writeConcern is not allowed within a multi-statement transaction")
    }
    if command["txnNumber"] != nil, !hasTransactions {
      throw ServerError(
        20, "IllegalOperation", "Transaction numbers are only allowed on a replica set member or mongos")
    }
    if let concern = command["readConcern"]?.document?["level"]?.text, concern == "snapshot", !hasTransactions {
      throw ServerError(72, "InvalidOptions", "read concern level snapshot is not supported here")
    }
    if let concern = command["writeConcern"]?.document { try checkWriteConcern(concern) }
  }

  private func checkWriteConcern(_ concern: Document) throws(ServerError) {
    let known: Set<Text> = ["w", "j", "wtimeout", "fsync"]
    if let other = concern.fields.first(where: { !known.contains($0.name) }) {
      throw ServerError(9, "FailedToParse", "unrecognized write concern field: \(other.name)")
    }
    let membersCount = if case .replicaSet(_, let others) = persona { 1 + others.count } else { 1 }
    switch concern["w"] {
    case nil, .text("majority"): break
    case .text(let tag):
      throw ServerError(
        79, "UnknownReplWriteConcern", "No write concern mode named '\(tag)' found in replica set configuration")
    case let members?:
      guard let count = members.integer, count > 0 else { throw .badValue("w has to be above 0 here") }
      if count > membersCount {
        throw ServerError(100, "UnsatisfiableWriteConcern", "Not enough data-bearing nodes")
      }
    }
  }

  // MARK: Indexes

  private func listIndexes(_ command: Document, _ database: String) throws(ServerError) -> Document {
    try check(command, "listIndexes", ["cursor"])
    let namespace = try namespace(command, database)
    guard let collection = collections[namespace] else {
      throw ServerError(26, "NamespaceNotFound", "ns does not exist: \(namespace)")
    }
    return Self.cursor(collection.indexes, id: 0, namespace, isFirst: true)
  }

  private mutating func createIndexes(_ command: Document, _ database: String) throws(ServerError) -> Document {
    try check(command, "createIndexes", ["indexes", "commitQuorum"])
    let namespace = try namespace(command, database)
    var collection = collections[namespace] ?? StoredCollection()
    let before = collection.indexes.count
    for index in command["indexes"]?.array ?? [] {
      guard let index = index.document else { throw .failedToParse("an index is an object") }
      try collection.createIndex(index)
    }
    collections[namespace] = collection
    return [
      "numIndexesBefore": .int32(Int32(before)), "numIndexesAfter": .int32(Int32(collection.indexes.count)),
      "ok": .double(1),
    ]
  }

  // MARK: Reading

  private mutating func find(_ command: Document, _ database: String) throws(ServerError) -> Document {
    try check(command, "find", ["filter", "projection", "sort", "limit", "batchSize", "singleBatch"])
    let namespace = try namespace(command, database)
    let filter = try Filter(command["filter"]?.document ?? Document())
    let transaction = try transaction(of: command)
    var found: [Document] = []
    if var collection = collections[namespace] {
      found = try collection.places(filter).map { place throws(ServerError) in
        let stored = collection.stored[place]!
        if let transaction, stored.revision > transaction.startRevision { throw .snapshotGone }
        return stored.document
      }
      if let transaction {
        // What went since it began would have to be shown.
        for uri in filter.uris ?? [] where collection.revision(of: uri) > transaction.startRevision {
          throw .snapshotGone
        }
        guard filter.uris != nil else { throw .badValue("a find in a transaction names its URIs here") }
        if !transaction.changes.isEmpty {
          throw .badValue("a find after a write of the same transaction is not supported here")
        }
      }
      collections[namespace] = collection
    }
    if let sort = command["sort"]?.document {
      guard sort == ["uri": .int32(1)] else { throw .badValue("the only order here is {uri: 1}") }
      found.sort { ($0["uri"]?.text ?? "") < ($1["uri"]?.text ?? "") }
    }
    if let limit = command["limit"]?.integer, limit > 0 { found = Array(found.prefix(limit)) }
    if let projection = command["projection"]?.document {
      for field in projection.fields where field.value.integer != 0 {
        throw .badValue("a projection here leaves fields out: \(field.name)")
      }
      for index in found.indices {
        for field in projection.fields { found[index].remove(path: "\(field.name)") }
      }
    }
    return page(found, batch: command["batchSize"]?.integer ?? Self.batchDefault, namespace, isFirst: true)
  }

  private mutating func page(_ documents: [Document], batch: Int, _ namespace: String, isFirst: Bool) -> Document {
    var count = 0
    var sizeBytes = 0
    while count < min(batch, documents.count) {
      sizeBytes += documents[count].bson.count
      // One always fits.
      if count > 0, sizeBytes > Self.replyBytesMax { break }
      count += 1
    }
    var id: Int64 = 0
    if count < documents.count {
      nextCursor += 1
      id = nextCursor
      cursors[id] = Array(documents[count...])
    }
    return Self.cursor(Array(documents[..<count]), id: id, namespace, isFirst: isFirst)
  }

  private static func cursor(_ batch: [Document], id: Int64, _ namespace: String, isFirst: Bool) -> Document {
    [
      "cursor": .document([
        isFirst ? "firstBatch" : "nextBatch": .array(batch.map { .document($0) }), "id": .int64(id),
        "ns": .text(Text(namespace)),
      ]),
      "ok": .double(1),
    ]
  }

  private mutating func getMore(_ command: Document) throws(ServerError) -> Document {
    try check(command, "getMore", ["collection", "batchSize"])
    guard let id = command["getMore"]?.integer, let rest = cursors.removeValue(forKey: Int64(id)) else {
      throw ServerError(43, "CursorNotFound", "cursor id not found")
    }
    let name = command["$db"]?.text.map { "\($0).\(command["collection"]?.text ?? "")" } ?? ""
    return page(rest, batch: command["batchSize"]?.integer ?? Int.max, name, isFirst: false)
  }

  private mutating func killCursors(_ command: Document) -> Document {
    for id in command["cursors"]?.array ?? [] { cursors[Int64(id.integer ?? 0)] = nil }
    return ["ok": .double(1)]
  }

  // MARK: Writing

  private mutating func write(_ name: String, _ command: Document, _ database: String) throws(ServerError) -> Document {
    let list: Text = name == "update" ? "updates" : "deletes"
    try check(command, name, [list, "ordered", "bypassDocumentValidation"])
    let namespace = try namespace(command, database)
    guard let statements = command[list]?.array, !statements.isEmpty, statements.count <= 100_000 else {
      throw ServerError(16, "InvalidLength", "Write batch sizes must be between 1 and 100000")
    }
    let isInTransaction = command["autocommit"] != nil
    let session = command["lsid"]?.document?.bson
    let retryNumber = isInTransaction ? nil : command["txnNumber"]?.integer
    // The driver had no answer and asks again: it is not done twice.
    if let session, let last = answered[session], last.number == retryNumber { return last.reply }
    if isInTransaction { _ = try transaction(of: command) }
    var reply = Document()
    var count: Int32 = 0
    var modifiedCount: Int32 = 0
    var upserted: [Value] = []
    var errors: [Value] = []
    for (index, statement) in statements.enumerated() {
      do throws(ServerError) {
        guard let statement = statement.document else { throw .failedToParse("a statement is an object") }
        let done = try self.statement(name, statement, namespace, command)
        count += done.count
        modifiedCount += done.modified
        if let id = done.upserted {
          upserted.append(.document(["index": .int32(Int32(index)), "_id": id]))
        }
      } catch {
        // In a transaction an error ends all of it.
        if isInTransaction { throw error }
        errors.append(error.writeError(index))
        if command["ordered"]?.bool != false { break }
      }
    }
    reply["n"] = .int32(count)
    if name == "update" { reply["nModified"] = .int32(modifiedCount) }
    if !upserted.isEmpty { reply["upserted"] = .array(upserted) }
    if !errors.isEmpty { reply["writeErrors"] = .array(errors) }
    reply["ok"] = .double(1)
    if let session, let retryNumber { answered[session] = Answered(number: retryNumber, reply: reply) }
    return reply
  }

  struct Done {
    var count: Int32 = 0
    var modified: Int32 = 0
    var upserted: Value?
  }

  private mutating func statement(
    _ name: String, _ statement: Document, _ namespace: String, _ command: Document
  ) throws(ServerError) -> Done {
    let known: Set<Text> = name == "update" ? ["q", "u", "upsert", "multi"] : ["q", "limit"]
    if let other = statement.fields.first(where: { !known.contains($0.name) }) {
      throw .unknownField(other.name, "\(name).statements")
    }
    guard let query = statement["q"]?.document else { throw .failedToParse("a statement has a q") }
    let filter = try Filter(query)
    if name == "update" {
      guard statement["multi"]?.bool != true, let change = statement["u"]?.document else {
        throw .failedToParse("an update here changes one document")
      }
      return try update(filter, Update(change), isUpsert: statement["upsert"]?.bool == true, namespace, command)
    }
    guard statement["limit"]?.integer == 1 else { throw .failedToParse("a delete here deletes one document") }
    return try delete(filter, namespace, command)
  }

  private mutating func update(
    _ filter: Filter, _ update: Update, isUpsert: Bool, _ namespace: String, _ command: Document
  ) throws(ServerError) -> Done {
    var collection = collections[namespace] ?? StoredCollection()
    // Storage is taken out while it is changed: a copy would cost as much as the collection.
    collections[namespace] = nil
    defer { collections[namespace] = collection }
    if command["autocommit"] != nil {
      return try changeInTransaction(command, filter, namespace, &collection, isInsert: isUpsert, .update(update))
    }
    revision += 1
    guard let place = collection.places(filter).first else {
      guard isUpsert else { return Done() }
      let id = newID()
      try collection.insert(try update.inserted(filter.equalities, id: id), revision: revision)
      return Done(count: 1, upserted: id)
    }
    let before = collection.stored[place]!.document
    let after = try update.applied(to: before)
    if after != before { try collection.replace(place, after, revision: revision) }
    return Done(count: 1, modified: after == before ? 0 : 1)
  }

  private mutating func delete(_ filter: Filter, _ namespace: String, _ command: Document) throws(ServerError) -> Done {
    guard var collection = collections[namespace] else { return Done() }
    collections[namespace] = nil
    defer { collections[namespace] = collection }
    if command["autocommit"] != nil {
      return try changeInTransaction(command, filter, namespace, &collection, isInsert: false, .delete)
    }
    revision += 1
    guard let place = collection.places(filter).first else { return Done() }
    collection.remove(place, revision: revision)
    return Done(count: 1)
  }
}
