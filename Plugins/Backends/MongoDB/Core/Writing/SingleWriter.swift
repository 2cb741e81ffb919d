import BackendSupport
import CMongoC
import PluginAPI

/// One op by a statement of its own, whose filter is the condition: what it has met tells whether the condition held.
struct SingleWriter {
  let client: Client

  init(_ client: Client) { self.client = client }

  /// The outcome of a unit of one op.
  func write(_ unit: PreparedUnit) throws(MongoProblem) -> UnitOutcome {
    let op = unit.call[0]
    let uri = op.uri.bytes
    let filter = op.condition == BP_IF_VERSION ? Filters.uri(uri, version: op.if_version) : Filters.uri(uri)
    if !op.isDelete {
      return try update(filter, unit.update()) ? .applied(absentCount: 0) : .preconditionFailed(op: 0)
    }
    if op.condition == BP_IF_ABSENT {
      return try exists(uri) ? .preconditionFailed(op: 0) : .applied(absentCount: 1)
    }
    if try delete(filter) { return .applied(absentCount: 0) }
    return op.condition == BP_IF_ANY ? .applied(absentCount: 1) : .preconditionFailed(op: 0)
  }

  /// Whether there was a document to update.
  private func update(_ filter: BSONBuilder, _ update: BSONBuilder) throws(MongoProblem) -> Bool {
    let options = BSONBuilder()
    options.append("validate", bool: false)
    return try run("matchedCount") { reply, error in
      filter.withDocument { filter in
        update.withDocument { update in
          options.withDocument { mongoc_collection_update_one(client.collection, filter, update, $0, reply, &error) }
        }
      }
    }
  }

  /// Whether there was a document to delete.
  private func delete(_ filter: BSONBuilder) throws(MongoProblem) -> Bool {
    try run("deletedCount") { reply, error in
      filter.withDocument { mongoc_collection_delete_one(client.collection, $0, nil, reply, &error) }
    }
  }

  private func run(
    _ count: String, _ body: (OpaquePointer, inout bson_error_t) -> Bool
  ) throws(MongoProblem) -> Bool {
    var error = bson_error_t()
    let reply = OpaquePointer(UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128))
    let isDone = body(reply, &error)
    defer {
      bson_destroy(reply)
      UnsafeMutableRawPointer(reply).deallocate()
    }
    try client.checkWriteConcern(reply)
    guard isDone else { throw client.problem(error, isWrite: true) }
    return (BSONReader(reply, at: count)?.integer ?? 0) > 0
  }

  private func exists(_ uri: BorrowedBytes) throws(MongoProblem) -> Bool {
    var isFound = false
    try client.find(Filters.uri(uri), options: Filters.withoutLargeFields()) { _ in
      isFound = true
      return false
    }
    return isFound
  }
}
