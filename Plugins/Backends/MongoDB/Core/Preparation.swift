import CMongoC
import PluginAPI

/// What must be so before records are kept in a collection: nothing but an index on `uri` that allows each URI once.
struct Preparation {
  let client: Client

  init(_ client: Client) { self.client = client }

  /// Makes the index when it is missing; safe to repeat, and at the same time as another node. Throws a sentence that
  /// names what to do.
  func run() throws(Failure) {
    let found: Found
    do throws(MongoProblem) {
      found = try look()
      if !found.hasIndex, !found.hasCollation { try makeIndex() }
    } catch {
      throw failure(error)
    }
    if found.hasCollation {
      throw Failure(
        code: BP_FAILED_PRECONDITION,
        "\(client.connection.place) compares texts by a collation of its own, and URIs are compared byte by byte; name "
          + "another collection in url")
    }
  }

  private static let namespaceNotFound: UInt32 = 26
  private static let indexConflicts: Set<UInt32> = [85, 86]

  private struct Found {
    /// A unique one on `uri`.
    var hasIndex = false
    /// Of the collection, which the index on `_id` always has.
    var hasCollation = false
  }

  private func look() throws(MongoProblem) -> Found {
    let command = BSONBuilder()
    command.append("listIndexes", text: client.connection.collection)
    command.nest("cursor") { $0.append("batchSize", int32: 1_000) }
    do throws(MongoProblem) {
      return try client.run(command, isWrite: false) { reply in
        var found = Found()
        guard let list = BSONReader(reply, at: "cursor.firstBatch")?.fields else { return found }
        while list.next() {
          if let index = list.fields { Self.note(index, &found) }
        }
        return found
      }
    } catch {
      // There is no collection yet; making an index makes it.
      if error.code == Self.namespaceNotFound { return Found() }
      throw error
    }
  }

  private static func note(_ index: BSONReader, _ found: inout Found) {
    var isOnURI = false
    var isOnID = false
    var isUnique = false
    var isPartial = false
    var hasCollation = false
    while index.next() {
      if index.isAt("key"), let key = index.fields, key.next() {
        isOnID = key.isAt("_id")
        isOnURI = key.isAt("uri") && key.integer == 1 && !key.next()
      } else if index.isAt("unique") {
        isUnique = index.isTruthy
      } else if index.isAt("partialFilterExpression") || index.isAt("sparse") {
        isPartial = true
      } else if index.isAt("collation") {
        hasCollation = true
      }
    }
    if isOnURI && isUnique && !isPartial && !hasCollation { found.hasIndex = true }
    if isOnID && hasCollation { found.hasCollation = true }
  }

  private func makeIndex() throws(MongoProblem) {
    let command = BSONBuilder()
    command.append("createIndexes", text: client.connection.collection)
    command.append(
      "indexes",
      array: { indexes in
        indexes.nest("0") { index in
          index.nest("key") { $0.append("uri", int32: 1) }
          index.append("name", text: Layout.indexName)
          index.append("unique", bool: true)
          // Whatever the collection's own comparison is.
          index.nest("collation") { $0.append("locale", text: "simple") }
        }
      })
    try client.run(command, isWrite: true) { _ in }
  }

  private func failure(_ problem: MongoProblem) -> Failure {
    if problem.isDuplicateKey {
      return Failure(
        code: BP_FAILED_PRECONDITION,
        "\(client.connection.place) has several documents with one uri (\(problem.text)), so no index can be made that "
          + "allows each once; remove all but one of each, or name another collection in url")
    }
    if Self.indexConflicts.contains(problem.code) {
      return Failure(
        code: BP_FAILED_PRECONDITION,
        "\(client.connection.place) has an index on uri that is not a plain unique one (\(problem.text)); drop it, and a "
          + "unique one is made, or name another collection in url")
    }
    return problem.failure
  }
}
