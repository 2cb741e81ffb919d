import BackendSupport
import PluginAPI

/// Writes what has gathered: one transaction and one round trip for all units that wait. The queue's thread.
final class Writer: UnitCommitter, @unchecked Sendable {
  // @unchecked: everything that changes is only touched by the queue's thread, which begins after init.

  private let shared: Shared
  private let keeper: SessionKeeper
  private let runner = BatchRunner()
  /// While the server is read-only a new session would say the same: it is asked now and then.
  private var refusal: Failure?
  private var refusedUntilNs: UInt64 = 0
  private static let refusalNs: UInt64 = 500_000_000
  /// How often a transaction is tried when others are in its way.
  private static let attemptsMax = 8

  /// `session` is a writer's.
  init(_ session: Session, _ shared: Shared) {
    self.shared = shared
    keeper = SessionKeeper(.writer, shared, session: session)
  }

  /// After the queue's thread has ended.
  func close() { keeper.close() }

  // MARK: Batches

  func commit(_ units: ArraySlice<UnitCall>, from queue: UnitQueue) {
    var fit: [UnitCall] = []
    fit.reserveCapacity(units.count)
    var sizeBytes = 0
    if let refusal, monotonicNs() < refusedUntilNs { return fail(Array(units), refusal, queue) }
    for unit in units {
      if let problem = WritePlan.problem(unit) {
        fail([unit], problem, queue)
        continue
      }
      let unitSizeBytes = WritePlan.sizeBytes(unit)
      if sizeBytes + unitSizeBytes > shared.settings.batchSizeBytesMax, !fit.isEmpty {
        run(fit, queue)
        fit.removeAll(keepingCapacity: true)
        sizeBytes = 0
      }
      fit.append(unit)
      sizeBytes += unitSizeBytes
    }
    if !fit.isEmpty { run(fit, queue) }
  }

  private func fail(_ units: [UnitCall], _ failure: Failure, _ queue: UnitQueue) {
    for unit in units { unit.fail(failure) }
    queue.finished(units.count)
  }

  /// Units that go together, and what has been tried with them.
  private struct Attempt {
    var units: [UnitCall]
    var count = 0
    var usesStandIns = false
    /// They may have been applied before: see `Uncertainty.certain`.
    var isRepeated = false
    /// The one unit whose statement failed.
    var isCulprit = false
  }

  private func run(_ units: [UnitCall], _ queue: UnitQueue) {
    // The first is the next; what is to be tried again goes in front, so that the order stays.
    var attempts = [Attempt(units: units)]
    while !attempts.isEmpty {
      var next = attempts.removeFirst()
      let session = wait(&next.units, queue, unless: next.isRepeated ? Uncertainty.unknown : nil)
      guard let session else { continue }
      let startNs = monotonicNs()
      // Completed units are the host's again.
      let sizeBytes = next.units.reduce(0) { $0 + WritePlan.sizeBytes($1) }
      do throws(BatchRunner.Failed) {
        let outcomes = try runner.run(next.units, on: session, usesStandIns: next.usesStandIns)
        shared.health.wrote()
        shared.metrics.commits.committed(next.units.count, seconds: Double(monotonicNs() - startNs) / 1e9)
        refusal = nil
        let isDoubtful = session.connection.takeWarning()
        let durability = isDoubtful ? min(session.durability, .disk) : session.durability
        for (unit, outcome) in zip(next.units, outcomes) {
          unit.complete(next.isRepeated ? Uncertainty.certain(outcome) : outcome, durability)
        }
        queue.finished(next.units.count)
        keeper.passed(sizeBytes: sizeBytes)
      } catch {
        attempts = handle(error, next, session, queue) + attempts
      }
    }
  }

  /// A session, once there is one; units that cannot wait so long are completed and taken out.
  private func wait(_ units: inout [UnitCall], _ queue: UnitQueue, unless failure: Failure? = nil) -> Session? {
    // A local copy: the closure below cannot hold what is inout.
    var left = units
    defer { units = left }
    if left.isEmpty { return nil }
    return keeper.wait { isExpired in
      left = left.filter { unit in
        guard let reason = isExpired(unit.deadlineNs) else { return true }
        fail([unit], failure ?? reason, queue)
        return false
      }
      return left.map(\.deadlineNs).max()
    }
  }

  /// What to do with units whose transaction failed: what is to be tried again, in order. The others are completed.
  private func handle(
    _ failed: BatchRunner.Failed, _ attempt: Attempt, _ session: Session, _ queue: UnitQueue
  ) -> [Attempt] {
    let problem = failed.problem
    if problem.endsConnection { keeper.drop() }
    var again = attempt
    again.count += 1
    if failed.isUncertain { return resolve(again, session, queue) }
    if problem.isWorthRepeating {
      if again.count < Self.attemptsMax { return [again] }
    } else if problem.isTooSlow, let culprit = failed.unit {
      // Once is long enough: whoever holds the lock holds the others up too.
      var parts = Self.parts(again, culprit: culprit)
      fail([attempt.units[culprit]], problem.failure, queue)
      parts.removeAll { $0.isCulprit }
      return parts
    } else if problem.isAboutData || !problem.concernsAll, attempt.units.count > 1 {
      return Self.parts(again, culprit: failed.unit)
    } else if problem.isAboutData, !attempt.usesStandIns {
      // What jsonb refuses.
      again.usesStandIns = true
      return [again]
    }
    shared.health.writeFailed(problem)
    if problem.isReadOnly {
      refusal = problem.failure
      refusedUntilNs = monotonicNs() + Self.refusalNs
    }
    fail(attempt.units, problem.failure, queue)
    return []
  }

  /// A unit that fails must fail no other: those before and after it go without it.
  private static func parts(_ attempt: Attempt, culprit: Int?) -> [Attempt] {
    func part(_ units: ArraySlice<UnitCall>, isCulprit: Bool = false) -> Attempt {
      Attempt(
        units: Array(units), usesStandIns: attempt.usesStandIns, isRepeated: attempt.isRepeated, isCulprit: isCulprit)
    }
    guard let culprit else { return attempt.units.indices.map { part(attempt.units[$0...$0]) } }
    return [
      part(attempt.units[..<culprit]), part(attempt.units[culprit...culprit], isCulprit: true),
      part(attempt.units[(culprit + 1)...]),
    ].filter { !$0.units.isEmpty }
  }

  // MARK: Commits whose answer was lost

  /// Looks which units of a transaction that may have been committed are there, completes those, and gives back the
  /// others, to be applied again.
  private func resolve(_ attempt: Attempt, _ old: Session, _ queue: UnitQueue) -> [Attempt] {
    var again = attempt
    again.isRepeated = true
    guard attempt.count < Self.attemptsMax, let session = wait(&again.units, queue, unless: Uncertainty.unknown) else {
      fail(again.units, Uncertainty.unknown, queue)
      return []
    }
    do throws(PostgreSQLProblem) {
      guard try Uncertainty.awaitEnd(of: old, on: session, shared.stop) else {
        fail(again.units, Uncertainty.unknown, queue)
        return []
      }
      let keys = Uncertainty.keys(again.units)
      let versions = keys.isEmpty ? [:] : try runner.look(keys, session, session.statements.versions)
      let verdicts = Uncertainty.verdicts(again.units, versions: versions)
      var rest: [UnitCall] = []
      for (unit, verdict) in zip(again.units, verdicts) {
        switch verdict {
        case .applied:
          // Whether standbys have it was in the answer that was lost.
          unit.applied(min(session.durability, .disk))
          queue.finished(1)
        case .unknown: fail([unit], Uncertainty.unknown, queue)
        case .notThere: rest.append(unit)
        }
      }
      again.units = rest
      return rest.isEmpty ? [] : [again]
    } catch {
      if error.endsConnection { keeper.drop() }
      again.count += 1
      return resolve(again, old, queue)
    }
  }
}
