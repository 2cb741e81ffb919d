import BackendSupport
import CPostgreSQL
import PluginAPI
import Synchronization

/// A connection that is ready to serve: the database fits, settings are made, statements prepared, the pipeline entered.
/// One thread at a time.
final class Session {
  enum Role {
    /// Makes what is missing in the database first.
    case writer
    case reader
    case scanner
  }

  let connection: Connection
  let statements: Statements
  /// What a commit on this connection means.
  let durability: Durability
  /// The server takes no writes.
  let isReadOnly: Bool
  /// Who this is at the server, to look for it after the connection broke.
  let backendID: String
  let backendStart: String

  /// The oldest server whose functions are all there.
  private static let versionMin = 120_000

  init(
    _ role: Role, _ settings: PostgreSQLSettings, layout: LayoutMemory, stop: StopSignal, deadlineNs: UInt64
  ) throws(PostgreSQLProblem) {
    let connectNs = monotonicNs() + UInt64(settings.connectTimeoutMs) * 1_000_000
    connection = try Connection(settings, stop: stop, deadlineNs: min(deadlineNs, connectNs))
    // What follows may take as long as the host waits (indexes of a large table), and at least a moment.
    let nowNs = monotonicNs()
    let leftMs = Int(clamping: (max(deadlineNs, nowNs) - nowNs) / 1_000_000)
    let setupMs = deadlineNs == .max ? settings.connectTimeoutMs : leftMs
    let setupLimitMs = min(max(1_000, setupMs), 3_600_000)
    connection.setupDeadlineNs = nowNs + UInt64(setupLimitMs) * 1_000_000
    let place = connection.place
    let version = Int(PQserverVersion(connection.handle))
    guard version >= Self.versionMin else {
      throw PostgreSQLProblem(
        .unfit, "PostgreSQL at \(place) is version \(version / 10_000); the backend needs 12 or newer", place: place)
    }
    let facts = try connection.run(Self.configuration(statementTimeoutMs: setupLimitMs))
    backendID = facts.text(0, 0)
    backendStart = facts.text(0, 1)
    isReadOnly = facts.text(0, 2) == "on"
    guard facts.text(0, 3) == "UTF8" else {
      throw PostgreSQLProblem(
        .unfit,
        "the database at \(place) is encoded in \(facts.text(0, 3)); the backend needs one made with ENCODING 'UTF8'",
        place: place)
    }
    if role == .writer {
      let outcome = try Layout(prefix: settings.tablePrefix).ensure(connection)
      layout.statements = outcome.statements
      durability = outcome.isUnlogged ? .memory : Self.durability(facts)
    } else {
      durability = .none
    }
    statements = layout.statements
    try connection.run("SET statement_timeout = \(settings.statementTimeoutMs)")
    let prepared =
      switch role {
      case .writer: statements.ofWriter
      case .reader: statements.ofReader
      case .scanner: statements.ofScanner
      }
    try connection.prepare(prepared)
    connection.setupDeadlineNs = .max
  }

  /// Settings of the session, then what is to be known of the server.
  private static func configuration(statementTimeoutMs: Int) -> String {
    // A plan is made once and kept, also when it was made for an empty table: so it must be one by index. What a commit
    // waits for stays as it is found now, so that no later change of the server's makes an acknowledgement untrue.
    """
    SET statement_timeout = \(statementTimeoutMs);
    SET lock_timeout = 0; SET plan_cache_mode = force_generic_plan; SET jit = off;
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET enable_sort = off; SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', current_setting('synchronous_commit'), false);
    SELECT pg_backend_pid(), (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()),
      current_setting('transaction_read_only'), current_setting('server_encoding'), current_setting('fsync'),
      current_setting('synchronous_commit'), current_setting('synchronous_standby_names')
    """
  }

  private static func durability(_ facts: borrowing QueryResult) -> Durability {
    let (fsync, commit, standbys) = (facts.text(0, 4), facts.text(0, 5), facts.text(0, 6))
    // What is not written out at commit is lost with the server's process.
    if commit == "off" { return .memory }
    if fsync != "on" { return .os }
    // `local` waits for no standby, `remote_write` for none's disk.
    return !standbys.isEmpty && (commit == "on" || commit == "remote_apply") ? .quorum : .disk
  }
}

/// What the writer found out about the table, for the connections that only read. Written before they are made, and again
/// when the writer reconnects.
final class LayoutMemory: Sendable {
  private let value: Mutex<Statements>

  init(_ settings: PostgreSQLSettings) { value = Mutex(Statements(prefix: settings.tablePrefix)) }

  var statements: Statements {
    get { value.withLock { $0 } }
    set { value.withLock { $0 = newValue } }
  }
}
