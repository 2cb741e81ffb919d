import BackendSupport
import CSQLite
import PluginAPI

/// Applies a batch of units in one transaction, commits, and then completes each.
final class Committer: UnitCommitter, @unchecked Sendable {
  // @unchecked: `writer` is only used on the queue's thread.
  private let writer: UnitWriter
  private let durability: Durability
  private let health: HealthReporter
  private let metrics: CommitMetrics

  init(_ writer: UnitWriter, durability: Durability, health: HealthReporter, metrics: CommitMetrics) {
    self.writer = writer
    self.durability = durability
    self.health = health
    self.metrics = metrics
  }

  func commit(_ units: ArraySlice<UnitCall>, from queue: UnitQueue) {
    for (unit, outcome) in zip(units, outcomes(of: units)) { unit.complete(outcome, durability) }
    queue.finished(units.count)
    writer.checkpointIfDue()
  }

  private func outcomes(of units: ArraySlice<UnitCall>) -> [UnitOutcome] {
    let start = monotonicNs()
    var outcomes: [UnitOutcome] = []
    outcomes.reserveCapacity(units.count)
    do throws(SQLiteProblem) {
      try writer.begin()
      for unit in units { outcomes.append(try writer.apply(unit)) }
      try writer.commit()
      health.clear()
      metrics.committed(units.count, seconds: Double(monotonicNs() - start) / 1e9)
      return outcomes
    } catch {
      writer.rollback()
      // A unit that fails must fail no other: each gets a transaction of its own, in the same order. When the lock was
      // not to be had, none of them would get it either.
      guard units.count == 1 || error.primaryCode == SQLITE_BUSY else { return units.map(outcomeAlone) }
      health.report(error)
      return Array(repeating: .failed(error.failure), count: units.count)
    }
  }

  private func outcomeAlone(_ unit: UnitCall) -> UnitOutcome {
    do throws(SQLiteProblem) {
      try writer.begin()
      let outcome = try writer.apply(unit)
      try writer.commit()
      health.clear()
      return outcome
    } catch {
      writer.rollback()
      health.report(error)
      return .failed(error.failure)
    }
  }
}
