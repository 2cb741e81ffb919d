import BackendSupport
import CPostgreSQL
import Glibc
import PluginAPI

/// One connection to the server, never blocking but in `poll`, and that only until a deadline or the instance's stop. One
/// thread at a time.
final class Connection {
  let handle: OpaquePointer
  let place: String
  private let settings: PostgreSQLSettings
  private let stop: StopSignal
  /// How long nothing may come before the server counts as dead.
  private let silenceNs: UInt64
  private let warned: UnsafeMutablePointer<Bool>
  /// When a session that is being set up is given up.
  var setupDeadlineNs: UInt64 = .max

  /// Connects as libpq does (addresses, TLS, authentication), within `deadlineNs`. Looking a host name up blocks for as
  /// long as the system's resolver does.
  init(_ settings: PostgreSQLSettings, stop: StopSignal, deadlineNs: UInt64) throws(PostgreSQLProblem) {
    self.settings = settings
    self.stop = stop
    place = settings.url.place
    // What the server cancels by itself it tells; the rest is for networks.
    silenceNs = UInt64(settings.statementTimeoutMs + 2_000) * 1_000_000
    guard let handle = Self.begin(settings.url) else {
      throw PostgreSQLProblem(.connect, "there is no memory for a connection", place: settings.url.place)
    }
    self.handle = handle
    warned = .allocate(capacity: 1)
    warned.initialize(to: false)
    // Otherwise libpq writes them to standard error.
    PQsetNoticeProcessor(handle, { flag, _ in flag!.assumingMemoryBound(to: Bool.self).pointee = true }, warned)
    if PQstatus(handle) == CONNECTION_BAD { throw connectProblem }
    var status = PGRES_POLLING_WRITING
    while status != PGRES_POLLING_OK {
      if status == PGRES_POLLING_FAILED { throw connectProblem }
      let events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT
      guard try wait(Int16(events), untilNs: deadlineNs) else {
        throw PostgreSQLProblem(
          .connect,
          "PostgreSQL at \(place) did not answer in time (connect_timeout_ms); check host and port in url, and firewalls",
          place: place)
      }
      status = PQconnectPoll(handle)
    }
    PQsetnonblocking(handle, 1)
  }

  deinit {
    PQfinish(handle)
    warned.deallocate()
  }

  /// Whether the server has warned of something since the last time; of a standby that was not waited for, say.
  func takeWarning() -> Bool {
    defer { warned.pointee = false }
    return warned.pointee
  }

  private static func begin(_ url: ConnectionURL) -> OpaquePointer? {
    var pairs = url.parameters.filter { $0.keyword != "client_encoding" }
    pairs.append(("client_encoding", "UTF8"))
    pairs.append(("fallback_application_name", "backplane"))
    // Reads and writes must meet in one server.
    let hasSeveral = ["host", "hostaddr"].contains { url[$0]?.contains(",") == true }
    if hasSeveral, url["target_session_attrs"] == nil { pairs.append(("target_session_attrs", "primary")) }
    let texts = pairs.map { (strdup($0.keyword), strdup($0.value)) }
    defer {
      for (keyword, value) in texts {
        free(keyword)
        free(value)
      }
    }
    let keywords = texts.map { UnsafePointer<CChar>($0.0) } + [nil]
    let values = texts.map { UnsafePointer<CChar>($0.1) } + [nil]
    return PQconnectStartParams(keywords, values, 0)
  }

  private var connectProblem: PostgreSQLProblem {
    let text = settings.url.redacted(String(cString: PQerrorMessage(handle)))
    return PostgreSQLProblem(.connect, ConnectAdvice.sentence(text, settings.url), place: place)
  }

  private func lost() -> PostgreSQLProblem {
    let text = settings.url.redacted(String(cString: PQerrorMessage(handle)))
    return PostgreSQLProblem(.lost, text.isEmpty ? "it was closed" : text, place: place)
  }

  // MARK: Waiting

  /// Waits until the socket is ready; false at `untilNs`. Throws when the instance has no time left.
  private func wait(_ events: Int16, untilNs: UInt64) throws(PostgreSQLProblem) -> Bool {
    while true {
      let nowNs = monotonicNs()
      let stopNs = stop.deadlineNs
      if nowNs >= stopNs { throw PostgreSQLProblem(.stopping, "", place: place) }
      if nowNs >= untilNs { return false }
      var items = [
        pollfd(fd: PQsocket(handle), events: events, revents: 0),
        // A negative descriptor is left out: once stopping, it is only waited for the server.
        pollfd(fd: stopNs == .max ? stop.descriptor : -1, events: Int16(POLLIN), revents: 0),
      ]
      let leftMs = (min(untilNs, stopNs) - nowNs) / 1_000_000 + 1
      if poll(&items, 2, Int32(min(leftMs, 60_000))) < 0, errno != EINTR { throw lost() }
      if items[0].revents != 0 { return true }
    }
  }

  private func waitForProgress(_ events: Int32) throws(PostgreSQLProblem) {
    guard try wait(Int16(events), untilNs: min(setupDeadlineNs, monotonicNs() + silenceNs)) else {
      throw PostgreSQLProblem(.silent, "", place: place)
    }
  }

  /// Whether the server has closed the connection while nobody used it, or said that it will.
  var isDropped: Bool {
    // What it says comes before the end does.
    for _ in 0..<8 {
      var item = pollfd(fd: PQsocket(handle), events: Int16(POLLIN), revents: 0)
      guard poll(&item, 1, 0) > 0 else { return false }
      if PQconsumeInput(handle) == 0 || PQstatus(handle) == CONNECTION_BAD { return true }
    }
    return false
  }

  // MARK: Statements

  /// Sends everything that has been queued.
  func flush() throws(PostgreSQLProblem) {
    while true {
      switch PQflush(handle) {
      case 0: return
      case 1:
        // The server may be waiting for us to read before it reads on.
        try waitForProgress(POLLIN | POLLOUT)
        guard PQconsumeInput(handle) == 1 else { throw lost() }
      default: throw lost()
      }
    }
  }

  /// The next result, or nil after the last one of a statement.
  func next() throws(PostgreSQLProblem) -> QueryResult? {
    while PQisBusy(handle) == 1 {
      try waitForProgress(POLLIN)
      guard PQconsumeInput(handle) == 1 else { throw lost() }
    }
    guard let result = PQgetResult(handle) else {
      if PQstatus(handle) == CONNECTION_BAD { throw lost() }
      return nil
    }
    return QueryResult(result)
  }

  /// Runs statements outside a pipeline; the rows of the last one.
  @discardableResult
  func run(_ sql: String) throws(PostgreSQLProblem) -> QueryResult {
    guard PQsendQuery(handle, sql) == 1 else { throw lost() }
    try flush()
    var last: QueryResult?
    var problem: PostgreSQLProblem?
    while let result = try next() {
      if result.isError { problem = self.problem(result) }
      last = consume result
    }
    if let problem { throw problem }
    guard let result = last else { throw lost() }
    return result
  }

  /// Prepares statements, in one round trip. Before `enterPipeline`.
  func prepare(_ statements: [PreparedStatement]) throws(PostgreSQLProblem) {
    try enterPipeline()
    for statement in statements {
      guard PQsendPrepare(handle, statement.nameText, statement.sql, statement.parametersCount, statement.types) == 1
      else { throw lost() }
    }
    try sync()
    var problem: PostgreSQLProblem?
    for _ in statements {
      while let result = try next() {
        if result.isError, problem == nil { problem = self.problem(result) }
      }
    }
    try finishSync()
    if let problem { throw problem }
  }

  /// Runs a statement between batches.
  func runOutsidePipeline<R>(
    _ sql: String, _ body: (borrowing QueryResult) -> R
  ) throws(PostgreSQLProblem) -> R {
    guard PQexitPipelineMode(handle) == 1 else { throw lost() }
    let result = try run(sql)
    try enterPipeline()
    return body(result)
  }

  func enterPipeline() throws(PostgreSQLProblem) {
    guard PQenterPipelineMode(handle) == 1 else { throw lost() }
  }

  /// Queues a statement that was prepared.
  @inline(__always)
  func send(_ statement: PreparedStatement, _ parameters: Parameters) throws(PostgreSQLProblem) {
    guard
      PQsendQueryPrepared(
        handle, statement.nameText, statement.parametersCount, parameters.values, parameters.lengths,
        parameters.formats,
        1) == 1
    else { throw lost() }
  }

  /// Ends what goes together, and sends it.
  func sync() throws(PostgreSQLProblem) {
    guard PQpipelineSync(handle) == 1 else { throw lost() }
    try flush()
  }

  /// Takes the answer to `sync`.
  func finishSync() throws(PostgreSQLProblem) {
    for _ in 0..<8 {
      guard let result = try next() else { continue }
      if result.status == PGRES_PIPELINE_SYNC { return }
      if result.isError, PQstatus(handle) == CONNECTION_BAD { throw lost() }
    }
    // Answers that nobody asked for.
    throw lost()
  }

  func problem(_ result: borrowing QueryResult) -> PostgreSQLProblem {
    let text = settings.url.redacted(result.message)
    let state = result.state
    if state.isEmpty { return PostgreSQLProblem(.lost, text, place: place) }
    return PostgreSQLProblem(.statement(state), text, place: place)
  }
}
