import CMongoC
import PluginAPI

/// A session of the server's, for transactions. One thread.
final class Session {
  private let client: Client
  private let handle: OpaquePointer
  private let transactionOptions: OpaquePointer

  init(_ client: Client, commitTimeoutMs: Int) throws(MongoProblem) {
    self.client = client
    let options = mongoc_session_opts_new()
    defer { mongoc_session_opts_destroy(options) }
    // Every transaction reads its own snapshot; there is nothing to wait for from the one before.
    mongoc_session_opts_set_causal_consistency(options, false)
    var error = bson_error_t()
    guard let session = mongoc_client_start_session(client.handle, options, &error) else { throw client.problem(error) }
    handle = session
    transactionOptions = mongoc_transaction_opts_new()
    let concern = mongoc_read_concern_new()
    defer { mongoc_read_concern_destroy(concern) }
    mongoc_read_concern_set_level(concern, "snapshot")
    mongoc_transaction_opts_set_read_concern(transactionOptions, concern)
    mongoc_transaction_opts_set_max_commit_time_ms(transactionOptions, Int64(commitTimeoutMs))
  }

  deinit {
    mongoc_transaction_opts_destroy(transactionOptions)
    mongoc_client_session_destroy(handle)
  }

  /// Says in a command's options that it is part of this session.
  func append(to options: BSONBuilder) throws(MongoProblem) {
    var error = bson_error_t()
    let isDone = options.withDocument { mongoc_client_session_append(handle, $0, &error) }
    guard isDone else { throw client.problem(error) }
  }

  /// The write concern is that of the client, which is that of the URL.
  func begin() throws(MongoProblem) {
    var error = bson_error_t()
    guard mongoc_client_session_start_transaction(handle, transactionOptions, &error) else {
      throw client.problem(error)
    }
  }

  /// Gives a transaction up, when there is one. A server that does not hear of it ends it by itself.
  func abort() {
    if mongoc_client_session_in_transaction(handle) { mongoc_client_session_abort_transaction(handle, nil) }
  }

  enum Commit {
    case done
    /// Nothing was changed, and the whole transaction may be tried again.
    case toRepeat(MongoProblem)
    /// The server may have done it; asking again for the commit is safe.
    case unknown(MongoProblem)
    case failed(MongoProblem)
  }

  func commit() -> Commit {
    var error = bson_error_t()
    let reply = OpaquePointer(UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128))
    let isDone = mongoc_client_session_commit_transaction(handle, reply, &error)
    defer {
      bson_destroy(reply)
      UnsafeMutableRawPointer(reply).deallocate()
    }
    if isDone { return .done }
    var problem = client.problem(error)
    if mongoc_error_has_label(reply, "UnknownTransactionCommitResult") {
      // The writes are made when only their confirmation is missing.
      problem.isOutcomeUnknown = !MongoProblem.isWriteConcern(problem.code)
      return .unknown(problem)
    }
    return mongoc_error_has_label(reply, "TransientTransactionError") ? .toRepeat(problem) : .failed(problem)
  }
}
