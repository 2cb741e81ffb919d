import BackendSupport
import PluginAPI
import Synchronization

/// Applies a batch of units with one wait for the disk, and then completes each.
final class Committer: UnitCommitter, Sendable {
  /// Under a lock for a reader that puts in place what could not be before; nobody waits for it otherwise.
  private let writer: Mutex<UnitWriter>
  private let gate: PlacementGate
  private let durability: Durability
  private let health: HealthReporter
  private let metrics: CommitMetrics
  private let lastRepairNs = Atomic<UInt64>(0)
  private static let repairPauseNs: UInt64 = 1_000_000_000

  init(
    _ writer: sending UnitWriter, _ gate: PlacementGate, durability: Durability, health: HealthReporter,
    metrics: CommitMetrics
  ) {
    self.writer = Mutex(writer)
    self.gate = gate
    self.durability = durability
    self.health = health
    self.metrics = metrics
  }

  func commit(_ units: ArraySlice<UnitCall>, from queue: UnitQueue) {
    let start = monotonicNs()
    let (outcomes, loggedCount, problem) = writer.withLock { writer in
      (writer.write(units), writer.loggedCount, writer.takeProblem())
    }
    if let problem {
      health.report(problem)
    } else if loggedCount > 0 {
      health.clear()
    }
    if loggedCount > 0 { metrics.committed(loggedCount, seconds: Double(monotonicNs() - start) / 1e9) }
    for (unit, outcome) in zip(units, outcomes) { unit.complete(outcome, durability) }
    queue.finished(units.count)
  }

  /// Nothing is to be written: time to leave the files without a log, so that a person may change them at will.
  func queueIsIdle() {
    let problem = writer.withLock { writer -> FilesProblem? in
      do throws(FilesProblem) {
        if gate.isStuck { try writer.repair() }
        try writer.checkpoint()
        return nil
      } catch {
        return error
      }
    }
    if let problem { health.report(problem) }
  }

  /// Before reading: that every unit in the log is in place. Tried by one thread at a time, and not all the time.
  func repairIfStuck() throws(FilesProblem) {
    guard gate.isStuck else { return }
    let now = monotonicNs()
    let last = lastRepairNs.load(ordering: .relaxed)
    if now - last > Self.repairPauseNs,
      lastRepairNs.compareExchange(expected: last, desired: now, ordering: .relaxed).exchanged
    {
      let isRepaired = writer.withLockIfAvailable { writer in (try? writer.repair()) != nil }
      if isRepaired == true { health.clear() }
    }
    guard gate.isStuck else { return }
    throw FilesProblem(
      .unavailable(
        "an acknowledged write could not be put in place, so nothing is read until it is; see the health of the backend",
        retryAfterMs: 1_000))
  }

  func close() -> FilesProblem? {
    writer.withLock { writer in
      do throws(FilesProblem) {
        try writer.close()
        return nil
      } catch {
        return error
      }
    }
  }
}
