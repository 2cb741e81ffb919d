extension Engine {
  /// Changes are kept aside and made when it is committed, if nobody else has changed the same records since it began.
  struct Transaction {
    enum Change {
      case update(Update)
      case delete
    }
    struct Entry {
      var namespace: String
      var uri: Text
      var filter: Filter
      var isUpsert: Bool
      var change: Change
    }
    var number: Int64
    var startRevision: Int
    var changes: [Entry] = []
    var isCommitted = false
  }

  /// The transaction that a command is part of, begun when it says so; nil when it is part of none.
  mutating func transaction(of command: Document) throws(ServerError) -> Transaction? {
    guard command["autocommit"] != nil else { return nil }
    guard command["autocommit"]?.bool == false, let session = command["lsid"]?.document?.bson,
      let number = command["txnNumber"]?.integer
    else { throw ServerError(72, "InvalidOptions", "a transaction has autocommit: false, lsid and txnNumber") }
    if command["startTransaction"]?.bool == true {
      guard command["readConcern"]?.document?["level"]?.text == "snapshot" else {
        throw ServerError(72, "InvalidOptions", "transactions here read a snapshot")
      }
      let made = Transaction(number: Int64(number), startRevision: revision)
      transactions[session] = made
      return made
    }
    guard let open = transactions[session], open.number == Int64(number), !open.isCommitted else {
      throw ServerError(
        251, "NoSuchTransaction", "Given transaction number \(number) does not match any in-progress transactions.",
        labels: ["TransientTransactionError"])
    }
    return open
  }

  mutating func changeInTransaction(
    _ command: Document, _ filter: Filter, _ namespace: String, _ collection: inout StoredCollection, isInsert: Bool,
    _ change: Transaction.Change
  ) throws(ServerError) -> Done {
    // Begun by the command already, when it begins one.
    guard let session = command["lsid"]?.document?.bson, var open = transactions[session] else {
      throw ServerError(251, "NoSuchTransaction", "no transaction", labels: ["TransientTransactionError"])
    }
    guard let uris = filter.uris, uris.count == 1 else {
      throw .badValue("a write in a transaction names its URI here")
    }
    if collection.revision(of: uris[0]) > open.startRevision {
      transactions[session] = nil
      throw .writeConflict
    }
    if open.changes.contains(where: { $0.uri == uris[0] && $0.namespace == namespace }) {
      throw .badValue("two writes of one record in a transaction are not supported here")
    }
    let place = collection.places(filter).first
    if case .update(let update) = change {
      // What cannot be stored is refused now.
      if let place {
        _ = try update.applied(to: collection.stored[place]!.document)
      } else if isInsert {
        _ = try update.inserted(filter.equalities, id: .null)
      }
    }
    open.changes.append(
      Transaction.Entry(namespace: namespace, uri: uris[0], filter: filter, isUpsert: isInsert, change: change))
    transactions[session] = open
    if place != nil { return Done(count: 1, modified: 1) }
    return isInsert ? Done(count: 1, upserted: newID()) : Done()
  }

  mutating func commit(_ command: Document) throws(ServerError) -> Document {
    try check(command, "commitTransaction", ["recoveryToken"])
    guard let session = command["lsid"]?.document?.bson, var open = transactions[session],
      open.number == command["txnNumber"]?.integer.map(Int64.init)
    else {
      throw ServerError(
        251, "NoSuchTransaction", "Transaction has been aborted.", labels: ["TransientTransactionError"])
    }
    // Asked again, because the answer was lost.
    if open.isCommitted { return ["ok": .double(1)] }
    for entry in open.changes {
      if let collection = collections[entry.namespace], collection.revision(of: entry.uri) > open.startRevision {
        transactions[session] = nil
        throw .writeConflict
      }
    }
    revision += 1
    for entry in open.changes {
      var collection = collections[entry.namespace] ?? StoredCollection()
      collections[entry.namespace] = nil
      defer { collections[entry.namespace] = collection }
      let place = collection.places(entry.filter).first
      switch (entry.change, place) {
      case (.delete, let place?): collection.remove(place, revision: revision)
      case (.delete, nil): break
      case (.update(let update), let place?):
        try collection.replace(
          place, try update.applied(to: collection.stored[place]!.document), revision: revision)
      case (.update(let update), nil) where entry.isUpsert:
        try collection.insert(try update.inserted(entry.filter.equalities, id: newID()), revision: revision)
      case (.update, nil): break
      }
    }
    open.isCommitted = true
    open.changes = []
    transactions[session] = open
    return ["ok": .double(1)]
  }

  mutating func abort(_ command: Document) throws(ServerError) -> Document {
    try check(command, "abortTransaction", ["recoveryToken"])
    if let session = command["lsid"]?.document?.bson { transactions[session] = nil }
    return ["ok": .double(1)]
  }
}
