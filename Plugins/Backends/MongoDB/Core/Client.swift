import BackendSupport
import CMongoC
import Glibc
import PluginAPI

/// The clients of one instance: a pool of libmongoc's, with threads that watch the servers.
final class ClientPool: @unchecked Sendable {
  // @unchecked: libmongoc's pool is made for several threads; the handles are written by init alone.

  let settings: MongoDBSettings
  private let pool: OpaquePointer
  private let watch: ServerWatch

  /// Resolves `mongodb+srv` names; connects to nothing yet.
  init(_ settings: MongoDBSettings, health: HealthReporter) throws(MongoProblem) {
    self.settings = settings
    watch = ServerWatch(health: health, place: settings.connection.place)
    Library.begin()
    var error = bson_error_t()
    guard let pool = mongoc_client_pool_new_with_error(settings.connection.uri.handle, &error) else {
      throw MongoProblem(error, settings.connection)
    }
    self.pool = pool
    // Errors with the server's own codes.
    mongoc_client_pool_set_error_api(pool, 2)
    // The writer, the readers, and scans on the host's threads.
    mongoc_client_pool_max_size(pool, UInt32(1 + settings.readers + Self.scannersMax))
    watch.begin(on: pool)
  }

  /// Scans at the same time, at most; a further one waits.
  static let scannersMax = 8

  /// Joins libmongoc's threads. Each client holds on to the pool, so all of them are back.
  deinit { mongoc_client_pool_destroy(pool) }

  /// A client for the caller alone, until it goes. Waits for one as long as a call may take.
  func client() throws(MongoProblem) -> Client {
    guard let handle = mongoc_client_pool_pop(pool) else {
      throw MongoProblem(
        domain: MONGOC_ERROR_POOL.rawValue, code: 0, text: "all connections were in use",
        place: settings.connection.place)
    }
    return Client(handle, settings.connection) { [self] in mongoc_client_pool_push(pool, $0) }
  }
}

/// One client of the pool. One thread at a time.
final class Client {
  let handle: OpaquePointer
  let collection: OpaquePointer
  let connection: ConnectionString
  private let giveBack: (OpaquePointer) -> Void

  init(_ handle: OpaquePointer, _ connection: ConnectionString, _ giveBack: @escaping (OpaquePointer) -> Void) {
    self.handle = handle
    self.connection = connection
    self.giveBack = giveBack
    collection = mongoc_client_get_collection(handle, connection.database, connection.collection)
  }

  deinit {
    mongoc_collection_destroy(collection)
    giveBack(handle)
  }

  func problem(_ error: bson_error_t, isWrite: Bool = false) -> MongoProblem {
    MongoProblem(error, connection, isWrite: isWrite)
  }

  /// What the servers are now. Waits for one that takes writes, up to serverSelectionTimeoutMS.
  func deployment() throws(MongoProblem) -> Deployment {
    var error = bson_error_t()
    guard let server = mongoc_client_select_server(handle, true, nil, &error) else { throw problem(error) }
    defer { mongoc_server_description_destroy(server) }
    return Deployment(hello: mongoc_server_description_hello_response(server))
  }

  /// Runs a command on the collection's database; `body` gets the server's answer.
  func run<R>(
    _ command: BSONBuilder, isWrite: Bool, session: Session? = nil, _ body: (OpaquePointer) -> R
  ) throws(MongoProblem) -> R {
    var error = bson_error_t()
    let reply = OpaquePointer(UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128))
    let options = BSONBuilder()
    try session?.append(to: options)
    let isDone = command.withDocument { command in
      options.withDocument { options in
        isWrite
          ? mongoc_collection_write_command_with_opts(collection, command, options, reply, &error)
          : mongoc_collection_read_command_with_opts(collection, command, nil, options, reply, &error)
      }
    }
    defer {
      bson_destroy(reply)
      UnsafeMutableRawPointer(reply).deallocate()
    }
    guard isDone else { throw problem(error, isWrite: isWrite) }
    if isWrite { try checkWriteConcern(reply) }
    return body(reply)
  }

  /// Never acknowledge what the server did not confirm as asked.
  func checkWriteConcern(_ reply: OpaquePointer) throws(MongoProblem) {
    for path in ["writeConcernError", "writeConcernErrors.0"] {
      guard let problem = BSONReader(reply, at: path)?.fields else { continue }
      var code: UInt32 = 64
      var text = ""
      while problem.next() {
        if problem.isAt("code") { code = UInt32(clamping: problem.integer ?? 64) }
        if problem.isAt("errmsg") { text = problem.text.map { String(decoding: $0, as: UTF8.self) } ?? "" }
      }
      throw MongoProblem(
        domain: MONGOC_ERROR_WRITE_CONCERN.rawValue, code: code, text: connection.redacting(text),
        place: connection.place, isOutcomeUnknown: !MongoProblem.isWriteConcern(code))
    }
  }

  /// Documents that match; `body` borrows each and says whether to go on.
  func find(
    _ filter: BSONBuilder, options: BSONBuilder, session: Session? = nil, _ body: (OpaquePointer) -> Bool
  ) throws(MongoProblem) {
    try session?.append(to: options)
    // The cursor has copies of both.
    let cursor = filter.withDocument { filter in
      options.withDocument { mongoc_collection_find_with_opts(collection, filter, $0, nil) }
    }
    defer { mongoc_cursor_destroy(cursor) }
    var document: OpaquePointer?
    while mongoc_cursor_next(cursor, &document) {
      if let document, !body(document) { return }
    }
    var error = bson_error_t()
    if mongoc_cursor_error(cursor, &error) { throw problem(error) }
  }
}
