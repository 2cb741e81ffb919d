import BackendSupport
import CMongoC
import PluginAPI

/// Statements that share one round trip.
final class Bulk {
  private let client: Client
  private let handle: OpaquePointer
  private let putOptions = BSONBuilder()

  /// `ordered`: the statements take effect in their order, and what comes after one that fails is not done.
  init(_ client: Client, isOrdered: Bool, session: Session? = nil) throws(MongoProblem) {
    self.client = client
    let options = BSONBuilder()
    options.append("ordered", bool: isOrdered)
    try session?.append(to: options)
    handle = options.withDocument { mongoc_collection_create_bulk_operation_with_opts(client.collection, $0) }
    putOptions.append("upsert", bool: true)
    // libmongoc would refuse members without a name, which JSON has.
    putOptions.append("validate", bool: false)
  }

  deinit { mongoc_bulk_operation_destroy(handle) }

  func put(_ uri: BorrowedBytes, _ update: BSONBuilder) throws(MongoProblem) {
    var error = bson_error_t()
    let isTaken = Filters.uri(uri).withDocument { filter in
      update.withDocument { update in
        putOptions.withDocument { mongoc_bulk_operation_update_one_with_opts(handle, filter, update, $0, &error) }
      }
    }
    guard isTaken else { throw client.problem(error) }
  }

  func delete(_ uri: BorrowedBytes) throws(MongoProblem) {
    var error = bson_error_t()
    let isTaken = Filters.uri(uri).withDocument { mongoc_bulk_operation_remove_one_with_opts(handle, $0, nil, &error) }
    guard isTaken else { throw client.problem(error) }
  }

  struct Result {
    /// Indices of puts that made a record.
    var inserted: Set<Int> = []
    var problems: [Int: MongoProblem] = [:]
  }

  /// Throws what went wrong for all; what went wrong for single statements is in the result.
  func execute() throws(MongoProblem) -> Result {
    var error = bson_error_t()
    let reply = OpaquePointer(UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128))
    let server = mongoc_bulk_operation_execute(handle, reply, &error)
    defer {
      bson_destroy(reply)
      UnsafeMutableRawPointer(reply).deallocate()
    }
    try client.checkWriteConcern(reply)
    var result = Result()
    forEach("upserted", in: reply) { entry in
      while entry.next() {
        if entry.isAt("index"), let index = entry.integer { result.inserted.insert(Int(index)) }
      }
    }
    forEach("writeErrors", in: reply) { entry in
      var problem = MongoProblem(
        domain: MONGOC_ERROR_SERVER.rawValue, code: 0, text: "", place: client.connection.place)
      var index = 0
      while entry.next() {
        if entry.isAt("index") { index = Int(entry.integer ?? 0) }
        if entry.isAt("code") { problem.code = UInt32(clamping: entry.integer ?? 0) }
        if entry.isAt("errmsg") {
          problem.text = client.connection.redacting(entry.text.map { String(decoding: $0, as: UTF8.self) } ?? "")
        }
      }
      result.problems[index] = problem
    }
    if server == 0, result.problems.isEmpty || error.domain != MONGOC_ERROR_SERVER.rawValue {
      throw client.problem(error, isWrite: true)
    }
    return result
  }

  private func forEach(_ name: String, in reply: OpaquePointer, _ body: (BSONReader) -> Void) {
    guard let list = BSONReader(reply, at: name)?.fields else { return }
    while list.next() {
      if let entry = list.fields { body(entry) }
    }
  }
}

/// Puts to different URIs, unconditional or first ones, in one round trip.
struct BulkWriter {
  let client: Client
  /// Two nodes that put a first record at the same time: the server refuses one of them, which then finds the other's.
  private static let attemptsMax = 8

  init(_ client: Client) { self.client = client }

  /// The outcome of each unit, all of which are `isBulkPut`; and a problem that some of them met.
  func write(_ units: [PreparedUnit]) -> (outcomes: [UnitOutcome], problem: MongoProblem?) {
    var lastProblem: MongoProblem?
    var outcomes: [UnitOutcome?] = Array(repeating: nil, count: units.count)
    var open = Array(units.indices)
    var attemptsCount = 0
    while !open.isEmpty {
      attemptsCount += 1
      let isLast = attemptsCount == Self.attemptsMax
      let indices = open
      open = []
      do throws(MongoProblem) {
        let bulk = try Bulk(client, isOrdered: false)
        for index in indices { try bulk.put(units[index].call[0].uri.bytes, units[index].update()) }
        let result = try bulk.execute()
        for (statement, index) in indices.enumerated() {
          let isFirstOnly = units[index].call[0].condition == BP_IF_ABSENT
          if let problem = result.problems[statement] {
            if problem.isDuplicateKey, isFirstOnly {
              outcomes[index] = .preconditionFailed(op: 0)
            } else if problem.isDuplicateKey, !isLast {
              open.append(index)
            } else {
              lastProblem = problem
              outcomes[index] = .failed(problem.failure)
            }
          } else {
            outcomes[index] =
              isFirstOnly && !result.inserted.contains(statement)
              ? .preconditionFailed(op: 0) : .applied(absentCount: 0)
          }
        }
      } catch {
        lastProblem = error
        for index in indices { outcomes[index] = .failed(error.failure) }
      }
    }
    return (outcomes.map { $0! }, lastProblem)
  }
}
