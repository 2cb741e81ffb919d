import PluginAPI

/// What went wrong between the backend and its server. `text` holds no secret.
struct PostgreSQLProblem: Error {
  enum Kind: Sendable, Equatable {
    /// No connection could be made.
    case connect
    /// The connection broke.
    case lost
    /// Nothing came for too long.
    case silent
    /// The instance is stopping.
    case stopping
    /// The server refused a statement, with this SQLSTATE.
    case statement(String)
    /// The database is not one that the backend can use.
    case unfit
    /// Another writer came between a check and the write that relied on it.
    case raced
  }

  var kind: Kind
  var text: String
  /// Where the URL leads.
  var place: String

  init(_ kind: Kind, _ text: String, place: String) {
    self.kind = kind
    self.text = text
    self.place = place
  }

  var state: String {
    if case .statement(let state) = kind { return state }
    return ""
  }

  /// The connection is of no more use.
  var endsConnection: Bool {
    switch kind {
    case .connect, .lost, .silent, .stopping: true
    case .statement(let state):
      // Shutdown, and what a session made of things that are gone: statements, columns, tables.
      state.hasPrefix("57P") || state.hasPrefix("08") || ["26000", "0A000", "42P01", "42703", "25006"].contains(state)
    case .unfit: true
    case .raced: false
    }
  }

  /// The session is out of date; a new one may do.
  var isStaleSession: Bool { ["26000", "0A000", "42P01", "42703"].contains(state) }

  /// The same transaction may succeed when it is tried again at once.
  var isTransient: Bool { kind == .raced || ["40001", "40P01"].contains(state) }

  /// It is the server that has a problem, and not one request.
  var concernsAll: Bool {
    switch kind {
    case .connect, .lost, .silent, .unfit: true
    case .stopping, .raced: false
    case .statement(let state):
      ["53", "57P", "58", "XX", "42", "25", "08", "28"].contains { state.hasPrefix($0) }
    }
  }

  var isReadOnly: Bool { state == "25006" }

  /// Waited for a lock, or worked, for longer than it may.
  var isTooSlow: Bool { state == "57014" || state == "55P03" }

  /// The same may succeed once more, on a new connection if need be.
  var isWorthRepeating: Bool {
    isTransient || isStaleSession || state.hasPrefix("57P") || kind == .lost || kind == .silent
  }

  /// What the server says about the data: no other unit has anything to do with it.
  var isAboutData: Bool { ["22", "23", "54"].contains { state.hasPrefix($0) } }

  /// One sentence for the operator: what, where, what to do.
  var failure: Failure {
    switch kind {
    case .connect, .unfit: .unavailable(text, retryAfterMs: 1_000)
    case .lost: .unavailable("the connection to PostgreSQL at \(place) was lost (\(text))", retryAfterMs: 1_000)
    case .silent:
      .unavailable(
        "PostgreSQL at \(place) has not answered for longer than statement_timeout_ms; see what it is doing "
          + "(pg_stat_activity)", retryAfterMs: 1_000)
    case .stopping: .unavailable("the PostgreSQL backend is stopping")
    case .raced: .unavailable("another writer changes the same records all the time; try again", retryAfterMs: 50)
    case .statement(let state): statementFailure(state)
    }
  }

  private func statementFailure(_ state: String) -> Failure {
    switch state {
    case "25006":
      return .unavailable(
        "PostgreSQL at \(place) is read-only; give the url of the primary, or turn off "
          + "default_transaction_read_only there", retryAfterMs: 1_000)
    case "53100":
      return .exhausted("the disk of PostgreSQL at \(place) is full; make room there", retryAfterMs: 5_000)
    case "53200": return .exhausted("PostgreSQL at \(place) is out of memory", retryAfterMs: 5_000)
    case "53300":
      return .unavailable(
        "PostgreSQL at \(place) has no connection left; raise its max_connections or lower connections_max",
        retryAfterMs: 1_000)
    case "57014":
      return .unavailable(
        "PostgreSQL at \(place) took longer than statement_timeout_ms; see what holds it up (pg_stat_activity)",
        retryAfterMs: 1_000)
    case "55P03":
      return .unavailable(
        "somebody holds a lock at \(place) for longer than statement_timeout_ms; see pg_locks", retryAfterMs: 1_000)
    case "40001", "40P01":
      return .unavailable("PostgreSQL at \(place) undid the write because of others; try again", retryAfterMs: 50)
    case "42501":
      return Failure(
        code: BP_PERMISSION_DENIED,
        "the user of url may not do that at \(place) (\(text)); GRANT it, or give the url of the table's owner")
    case "42P01", "42703":
      return .unavailable(
        "the table at \(place) is gone or has another layout (\(text)); it is looked for again", retryAfterMs: 1_000)
    case "XX001", "XX002":
      return Failure(code: BP_DATA_LOSS, "PostgreSQL at \(place) has damaged data (\(text)); restore a backup")
    default: break
    }
    if state.hasPrefix("57P") || state.hasPrefix("08") {
      return .unavailable("PostgreSQL at \(place) is going away (\(text))", retryAfterMs: 1_000)
    }
    if state.hasPrefix("53") || state.hasPrefix("58") {
      return .unavailable("PostgreSQL at \(place) lacks something (\(text), \(state))", retryAfterMs: 5_000)
    }
    if isAboutData { return .invalid("PostgreSQL at \(place) does not take the record: \(text) (\(state))") }
    return .internal("PostgreSQL at \(place) failed: \(text) (\(state))")
  }
}
