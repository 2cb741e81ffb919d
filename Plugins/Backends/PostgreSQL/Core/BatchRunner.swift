import BackendSupport
import CPostgreSQL
import PluginAPI

/// Runs units on a session, in one transaction. One thread at a time.
final class BatchRunner {
  /// What came of a transaction that did not commit.
  struct Failed: Error {
    var problem: PostgreSQLProblem
    /// The unit whose statement failed; nil: the transaction as a whole did.
    var unit: Int?
    /// COMMIT may have reached the server.
    var isUncertain = false
  }

  private let parameters = Parameters()

  /// Applies all of `units` or none, and commits.
  ///
  /// - `usesStandIns`: the peer's column gets a stand-in in place of the record.
  func run(
    _ units: [UnitCall], on session: Session, usesStandIns: Bool = false
  ) throws(Failed) -> [UnitOutcome] {
    var isCommitSent = false
    failedUnit = nil
    do throws(PostgreSQLProblem) {
      if WritePlan.needsLook(units) {
        return try runJudged(units, session, usesStandIns, &isCommitSent)
      }
      let plan = WritePlan(units, session.statements)
      try session.connection.send(session.statements.begin, parameters)
      let (affected, failure) = try runSteps(plan, units, session, usesStandIns, begins: true, &isCommitSent)
      if let failure { throw failure }
      return plan.outcomes(units, affected: affected, isJudged: false)!
    } catch {
      let isLost = [.lost, .silent, .stopping].contains(error.kind)
      throw Failed(problem: error, unit: failedUnit, isUncertain: isCommitSent && isLost)
    }
  }

  /// Set by `runSteps`.
  private var failedUnit: Int?

  private func runJudged(
    _ units: [UnitCall], _ session: Session, _ usesStandIns: Bool, _ isCommitSent: inout Bool
  ) throws(PostgreSQLProblem) -> [UnitOutcome] {
    let versions = try look(WritePlan.keys(units), session, session.statements.lock, inTransaction: true)
    let plan = WritePlan(units, session.statements, versions: versions)
    let (affected, failure) = try runSteps(plan, units, session, usesStandIns, begins: false, &isCommitSent)
    if let failure { throw failure }
    guard let outcomes = plan.outcomes(units, affected: affected, isJudged: true) else {
      throw PostgreSQLProblem(.raced, "", place: session.connection.place)
    }
    return outcomes
  }

  /// Keys and versions of the records that are there.
  func look(
    _ keys: [[UInt8]], _ session: Session, _ statement: PreparedStatement, inTransaction: Bool = false
  ) throws(PostgreSQLProblem) -> [[UInt8]: UInt64] {
    let connection = session.connection
    if inTransaction { try connection.send(session.statements.begin, parameters) }
    let list = Parameters.array(keys: keys)
    try list.withView { view throws(PostgreSQLProblem) in
      parameters.set(0, view.bytes)
      try connection.send(statement, parameters)
    }
    try connection.sync()
    var versions: [[UInt8]: UInt64] = [:]
    var problem: PostgreSQLProblem?
    for _ in 0..<(inTransaction ? 2 : 1) {
      while let result = try connection.next() {
        if result.isError {
          if result.status != PGRES_PIPELINE_ABORTED { problem = connection.problem(result) }
          continue
        }
        for row in 0..<result.rowsCount { versions[Array(result.bytes(row, 0))] = result.number(row, 1) }
      }
    }
    try connection.finishSync()
    if let problem {
      if inTransaction { try rollback(session) }
      throw problem
    }
    return versions
  }

  /// Sends the steps and COMMIT, and takes the answers. A statement that failed is returned, and rolled back.
  private func runSteps(
    _ plan: WritePlan, _ units: [UnitCall], _ session: Session, _ usesStandIns: Bool, begins: Bool,
    _ isCommitSent: inout Bool
  ) throws(PostgreSQLProblem) -> ([Int], PostgreSQLProblem?) {
    let connection = session.connection
    for step in plan.steps { try send(step, units[step.unit], session, usesStandIns) }
    isCommitSent = true
    try connection.send(session.statements.commit, parameters)
    try connection.sync()
    var affected: [Int] = []
    affected.reserveCapacity(plan.steps.count)
    var problem: PostgreSQLProblem?
    func take(_ unit: Int?, _ body: (borrowing QueryResult) -> Void) throws(PostgreSQLProblem) {
      while let result = try connection.next() {
        if !result.isError {
          body(result)
        } else if result.status != PGRES_PIPELINE_ABORTED, problem == nil {
          problem = connection.problem(result)
          failedUnit = unit
        }
      }
    }
    if begins { try take(nil) { _ in } }
    for step in plan.steps { try take(step.unit) { affected.append($0.affectedCount) } }
    var isCommitted = false
    try take(nil) { isCommitted = $0.commandTag == "COMMIT" }
    try connection.finishSync()
    if let problem {
      // The server has refused: nothing is uncertain any more.
      isCommitSent = false
      try rollback(session)
      return (affected, problem)
    }
    if !isCommitted {
      isCommitSent = false
      return (affected, PostgreSQLProblem(.raced, "", place: connection.place))
    }
    return (affected, nil)
  }

  private func rollback(_ session: Session) throws(PostgreSQLProblem) {
    try session.connection.send(session.statements.rollback, parameters)
    try session.connection.sync()
    while try session.connection.next() != nil {}
    try session.connection.finishSync()
  }

  private func send(
    _ step: WritePlan.Step, _ unit: UnitCall, _ session: Session, _ usesStandIns: Bool
  ) throws(PostgreSQLProblem) {
    let op = unit[step.op]
    try RecordKey.with(op.uri.bytes) { key throws(PostgreSQLProblem) in
      parameters.set(0, key)
      if op.isDelete {
        if op.condition == BP_IF_VERSION { parameters.set(1, bigint: op.if_version) }
        return try session.connection.send(step.statement, parameters)
      }
      parameters.set(1, bigint: unit.timestampMs)
      parameters.set(2, op.data.bytes)
      parameters.set(4, bigint: unit.version)
      if op.uri.size > RecordKey.plainSizeBytesMax { parameters.set(5, op.uri.bytes) } else { parameters.setNull(5) }
      if op.condition == BP_IF_VERSION { parameters.set(7, bigint: op.if_version) }
      let other = Self.other(op, usesStandIns)
      let form: PeerValue.Form = other != nil ? .other : op.content == BP_CONTENT_BYTES ? .bytes : .text
      parameters.set(3, smallint: form.rawValue)
      guard let other else {
        parameters.setNull(6)
        return try session.connection.send(step.statement, parameters)
      }
      try other.withView { view throws(PostgreSQLProblem) in
        parameters.set(6, view.bytes)
        try session.connection.send(step.statement, parameters)
      }
    }
  }

  /// What the peer is to see when it is not the record as it is.
  private static func other(_ op: bp_op, _ usesStandIns: Bool) -> [UInt8]? {
    let size = Int(op.data.size)
    if size > PeerValue.sizeBytesMax { return PeerValue.standIn(PeerValue.large, sizeBytes: size) }
    if op.content == BP_CONTENT_BYTES { return nil }
    if usesStandIns { return PeerValue.standIn(PeerValue.refused, sizeBytes: size) }
    return PeerValue.replacingEscapes(op.data.bytes)
  }
}
