import BackendSupport
import PluginAPI

/// What became of a transaction whose COMMIT was sent and not answered.
///
/// Versions are unique, so a record that carries the version of a unit was written by it. Nothing is acknowledged without
/// that, and nothing is applied again that could undo what came later.
enum Uncertainty {
  static let unknown = Failure.unavailable(
    "the connection to PostgreSQL was lost while the write was being committed, and whether it was is not known; read "
      + "the record before writing it again", retryAfterMs: 1_000)

  enum Verdict {
    case applied
    /// Its records do not carry its version: it may be applied, again or for the first time.
    case notThere
    case unknown
  }

  /// The outcome of a unit that is applied a second time: what it found may be its own doing.
  static func certain(_ outcome: UnitOutcome) -> UnitOutcome {
    if case .applied(absentCount: 0) = outcome { return outcome }
    return .failed(unknown)
  }

  /// Waits until the other end of a broken connection is gone: until then it may still commit. False: it does not go.
  static func awaitEnd(of old: Session, on session: Session, _ stop: StopSignal) throws(PostgreSQLProblem) -> Bool {
    let sql = """
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE pid = \(old.backendID) AND backend_start = '\(old.backendStart)'
      """
    for attempt in 0..<60 {
      let isGone = try session.connection.runOutsidePipeline(sql) { $0.rowsCount == 0 }
      if isGone { return true }
      guard stop.sleep(untilNs: monotonicNs() + UInt64(min(10 << (attempt / 4), 200)) * 1_000_000) else { return false }
    }
    return false
  }

  /// Keys of what units put last.
  static func keys(_ units: [UnitCall]) -> [[UInt8]] { Array(Set(units.flatMap { Array(puts($0)) })) }

  /// The keys of a unit whose last op is a put.
  private static func puts(_ unit: UnitCall) -> Set<[UInt8]> {
    var keys = Set<[UInt8]>()
    for op in 0..<unit.count {
      let raw = unit[op]
      let key = RecordKey.copy(raw.uri.bytes)
      if raw.isDelete { keys.remove(key) } else { keys.insert(key) }
    }
    return keys
  }

  /// `versions`: of the records that are there, by key.
  static func verdicts(_ units: [UnitCall], versions: [[UInt8]: UInt64]) -> [Verdict] {
    // From the last to the first: a record that carries a later unit's version has passed through the earlier ones.
    var overwritten = Set<[UInt8]>()
    var verdicts: [Verdict] = []
    for unit in units.reversed() {
      let keys = puts(unit)
      let own = keys.filter { versions[$0] == unit.version }
      let later = keys.subtracting(own).intersection(overwritten)
      if !keys.isEmpty, own.count + later.count == keys.count, !own.isEmpty || !WritePlan.hasConditions(unit) {
        verdicts.append(.applied)
      } else {
        verdicts.append(own.isEmpty && later.isEmpty ? .notThere : .unknown)
      }
      overwritten.formUnion(own)
    }
    return verdicts.reversed()
  }
}
