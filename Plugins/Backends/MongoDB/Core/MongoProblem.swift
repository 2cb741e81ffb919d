import BackendSupport
import CMongoC
import PluginAPI

/// What libmongoc or the server said, and of which collection.
struct MongoProblem: StoreProblem {
  var domain: UInt32
  /// The server's code when the domain is a server's, else one of libmongoc's.
  var code: UInt32
  /// Without secrets.
  var text: String
  var place: String
  /// The request may have been carried out, or may still be.
  var isOutcomeUnknown = false

  init(domain: UInt32, code: UInt32, text: String, place: String, isOutcomeUnknown: Bool = false) {
    self.domain = domain
    self.code = code
    self.text = text
    self.place = place
    self.isOutcomeUnknown = isOutcomeUnknown
  }

  /// `isWrite`: when the connection broke, it is not known whether the server had done the request.
  init(_ error: bson_error_t, _ connection: ConnectionString, isWrite: Bool = false) {
    self.init(
      domain: error.domain, code: error.code, text: connection.redacting(error.text), place: connection.place)
    isOutcomeUnknown = isWrite && isConnectionLost
  }

  // MARK: Kinds

  /// Codes of servers (src/mongo/base/error_codes.yml), as far as something special follows from them.
  private static let notPrimary: Set<UInt32> = [10_107, 13_435, 10_058, 11_602, 189, 13_436]
  private static let shuttingDown: Set<UInt32> = [91, 11_600]
  static let duplicateKey: UInt32 = 11_000
  private static let authentication: Set<UInt32> = [18, 11, 8_000]
  private static let unauthorized: UInt32 = 13
  private static let tooLate: Set<UInt32> = [50, 262, 202]
  private static let diskFull: UInt32 = 14_031
  private static let tooLarge: Set<UInt32> = [10_334, 17_419, 17_420, 17_280]
  private static let writeConcern: Set<UInt32> = [64, 75, 79, 100]
  private static let validation: UInt32 = 121
  private static let conflict: Set<UInt32> = [112, 251, 24]

  private var isServers: Bool {
    domain == MONGOC_ERROR_SERVER.rawValue || domain == MONGOC_ERROR_WRITE_CONCERN.rawValue
  }

  /// No server was found that could do it: the request was not sent.
  var isUnreachable: Bool {
    domain == MONGOC_ERROR_SERVER_SELECTION.rawValue
      || (domain == MONGOC_ERROR_STREAM.rawValue
        && (code == MONGOC_ERROR_STREAM_CONNECT.rawValue || code == MONGOC_ERROR_STREAM_NAME_RESOLUTION.rawValue
          || code == MONGOC_ERROR_STREAM_NOT_ESTABLISHED.rawValue))
  }

  /// The connection broke, or the answer did not come in time.
  var isConnectionLost: Bool {
    domain == MONGOC_ERROR_STREAM.rawValue && !isUnreachable || domain == MONGOC_ERROR_PROTOCOL.rawValue
  }

  /// The write is made; its confirmation by other members is not.
  static func isWriteConcern(_ code: UInt32) -> Bool { writeConcern.contains(code) }

  var isDuplicateKey: Bool { isServers && code == Self.duplicateKey }
  private var isAuthentication: Bool {
    isServers && Self.authentication.contains(code)
      || domain == MONGOC_ERROR_CLIENT.rawValue
        && code == MONGOC_ERROR_CLIENT_AUTHENTICATE.rawValue
      || domain == MONGOC_ERROR_SCRAM.rawValue
      || domain == MONGOC_ERROR_SASL.rawValue
  }

  /// Trying again at once may do, or after a primary was elected.
  var isPassing: Bool {
    isUnreachable || isConnectionLost
      || isServers
        && (Self.notPrimary.contains(code) || Self.shuttingDown.contains(code) || Self.conflict.contains(code))
  }

  /// The server refuses something that is asked of it, and would do other things.
  var concernsOneRecord: Bool { isServers && !concernsAll && !isPassing && !isOutcomeUnknown }

  var concernsAll: Bool {
    if isUnreachable || isConnectionLost || isAuthentication { return true }
    guard isServers else { return false }
    return code == Self.diskFull || code == Self.unauthorized || Self.notPrimary.contains(code)
      || Self.shuttingDown.contains(code) || Self.writeConcern.contains(code)
  }

  var leavesReads: Bool {
    isServers
      && (code == Self.diskFull || code == Self.unauthorized || Self.notPrimary.contains(code)
        || Self.writeConcern.contains(code))
  }

  // MARK: Sentences

  /// One sentence for the operator: what, where, what to do.
  var failure: Failure {
    if isOutcomeUnknown {
      return .unavailable(
        "the connection was lost before the server answered for \(place) (\(said)); it is not known whether the write was "
          + "made, now or later", retryAfterMs: 1_000)
    }
    if isAuthentication {
      return Failure(
        code: BP_UNAUTHENTICATED,
        "the server refused the user name and password for \(place) (\(said)); correct them in url, and authSource when the "
          + "user is not of this database")
    }
    if isUnreachable {
      return .unavailable(
        "no server for \(place) was found that can do this (\(said)); see that it runs, that host, port and replicaSet in "
          + "url are right, and that it has a primary", retryAfterMs: 1_000)
    }
    if isConnectionLost {
      return .unavailable(
        "the connection was lost before the server answered for \(place) (\(said))", retryAfterMs: 1_000)
    }
    if domain == MONGOC_ERROR_POOL.rawValue {
      return .exhausted(
        "\(ClientPool.scannersMax) scans of \(place) have been under way for call_timeout_ms, and no further connection is "
          + "made; list less at a time", retryAfterMs: 1_000)
    }
    guard isServers else { return .internal("libmongoc failed on \(place): \(said) (domain \(domain), code \(code))") }
    return serversFailure
  }

  private var serversFailure: Failure {
    switch code {
    case Self.unauthorized:
      return Failure(
        code: BP_PERMISSION_DENIED,
        "the user may not do this on \(place) (\(said)); grant it readWrite on the database")
    case Self.diskFull:
      return .exhausted("the disk of the server for \(place) is full (\(said)); make room there", retryAfterMs: 10_000)
    case Self.validation:
      return .invalid("the collection's validator refused the record in \(place) (\(said)); remove the validator")
    case let code where Self.notPrimary.contains(code):
      return .unavailable("the server for \(place) is not the primary now (\(said))", retryAfterMs: 1_000)
    case let code where Self.shuttingDown.contains(code):
      return .unavailable("the server for \(place) is shutting down (\(said))", retryAfterMs: 1_000)
    case let code where Self.tooLate.contains(code):
      return Failure(
        code: BP_DEADLINE_EXCEEDED,
        "the server did not do it for \(place) within call_timeout_ms (\(said)); see what keeps it busy, or raise it",
        isRetryable: true)
    case let code where Self.tooLarge.contains(code):
      return .invalid("the record is larger than the server of \(place) keeps (\(said))")
    case let code where Self.writeConcern.contains(code):
      return Failure(
        code: BP_DURABILITY,
        "the write to \(place) was made, but not confirmed as w and journal in url ask for (\(said)); it may be lost. See "
          + "that enough members of the replica set run", isRetryable: true, retryAfterMs: 1_000)
    case let code where Self.conflict.contains(code):
      return .unavailable("others write the same records of \(place) all the time (\(said))", retryAfterMs: 50)
    default: return .internal("the server failed on \(place): \(said) (code \(code))")
    }
  }

  private var said: String { text.isEmpty ? "code \(code)" : String(text.prefix(500)) }
}
