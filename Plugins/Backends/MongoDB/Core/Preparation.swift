import CMongoC
import PluginAPI

/// What must be so before records are kept in a collection: nothing but an index on `uri` that allows each URI once.
struct Preparation {
  let client: Client

  init(_ client: Client) { self.client = client }

  /// Makes the index when it is missing; safe to repeat, and at the same time as another node. Throws a sentence that
  /// names what to do.
  func run() throws(Failure) {
    do throws(MongoProblem) {
      if try hasIndex() { return }
      try makeIndex()
    } catch {
      throw failure(error)
    }
  }

  /// Looks whether records could be kept, and writes nothing.
  func look() throws(Failure) {
    do throws(MongoProblem) {
      _ = try client.deployment()
      _ = try hasIndex()
    } catch {
      throw failure(error)
    }
  }

  private static let namespaceNotFound: UInt32 = 26
  private static let indexConflicts: Set<UInt32> = [85, 86]

  private func hasIndex() throws(MongoProblem) -> Bool {
    let command = BSONBuilder()
    command.append("listIndexes", text: client.connection.collection)
    command.nest("cursor") { $0.append("batchSize", int32: 1_000) }
    do throws(MongoProblem) {
      return try client.run(command, isWrite: false) { reply in
        guard let list = BSONReader(reply, at: "cursor.firstBatch")?.fields else { return false }
        var isFound = false
        while list.next() {
          if let index = list.fields, Self.isUniqueOnURI(index) { isFound = true }
        }
        return isFound
      }
    } catch {
      // There is no collection yet; making an index makes it.
      if error.code == Self.namespaceNotFound { return false }
      throw error
    }
  }

  /// Unique, on `uri` alone, of all documents, and comparing bytes.
  private static func isUniqueOnURI(_ index: BSONReader) -> Bool {
    var isOnURI = false
    var isUnique = false
    var isPlain = true
    while index.next() {
      if index.isAt("key"), let key = index.fields {
        isOnURI = key.next() && key.isAt("uri") && key.integer == 1 && !key.next()
      } else if index.isAt("unique") {
        isUnique = index.isTruthy
      } else if index.isAt("partialFilterExpression") || index.isAt("collation") || index.isAt("sparse") {
        isPlain = false
      }
    }
    return isOnURI && isUnique && isPlain
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
