import BackendSupport
import CMongoC
import Glibc
import PluginAPI
import Synchronization

/// Writes batches: what one bulk can decide in one round trip, all else in a transaction, or one by one where there are
/// no transactions.
final class Committer: UnitCommitter, @unchecked Sendable {
  // @unchecked: `client`, `transactions` and `hasFailed` are used by the queue's thread alone.

  private let settings: MongoDBSettings
  private let client: Client
  private let transactions: TransactionWriter
  private let health: HealthReporter
  private let metrics: CommitMetrics
  private let isStopping = Atomic<Bool>(false)
  /// The last thing that was tried did not reach the server.
  private var hasFailed = false

  /// Documents of one request, together, at most; a single unit may have more.
  private static let batchBytesMax = 16 << 20
  /// Bulks that are cheaper, one after the other, than one transaction.
  private static let bulksMax = 3

  init(_ pool: ClientPool, health: HealthReporter, metrics: CommitMetrics) throws(MongoProblem) {
    settings = pool.settings
    client = try pool.client()
    transactions = TransactionWriter(client, timeoutMs: pool.settings.callTimeoutMs)
    self.health = health
    self.metrics = metrics
  }

  /// From now on what waits is tried once: with the server gone each batch would take its full time.
  func stopsSoon() { isStopping.store(true, ordering: .releasing) }

  func commit(_ units: ArraySlice<UnitCall>, from queue: UnitQueue) {
    defer { queue.finished(units.count) }
    let nowMs = wallMs()
    var batch: [PreparedUnit] = []
    var sizeBytes = 0
    for unit in units {
      do throws(Failure) {
        let prepared = try PreparedUnit(unit, collection: settings.connection.collection, nowMs: nowMs)
        if sizeBytes + prepared.sizeBytes > Self.batchBytesMax, !batch.isEmpty {
          write(batch)
          batch = []
          sizeBytes = 0
        }
        batch.append(prepared)
        sizeBytes += prepared.sizeBytes
      } catch {
        unit.fail(error)
      }
    }
    if !batch.isEmpty { write(batch) }
  }

  private func write(_ waiting: [PreparedUnit]) {
    let startNs = monotonicNs()
    let units = waiting.filter { unit in
      // Whoever asked has been answered: not doing it is the only thing that can still be said truly.
      if unit.call.deadlineNs > startNs { return true }
      unit.call.fail(
        .overdue("the write waited for \(settings.connection.place) until its deadline"))
      return false
    }
    if units.isEmpty { return }
    if hasFailed, isStopping.load(ordering: .acquiring) {
      for unit in units { unit.call.fail(.unavailable("the MongoDB backend is stopping and its server is not there")) }
      return
    }
    do throws(MongoProblem) {
      let deployment = try client.deployment()
      let durability = settings.connection.writeConcern.durability(on: deployment)
      try write(units, on: deployment) { index, outcome in units[index].call.complete(outcome, durability) }
    } catch {
      report(error)
      for unit in units { unit.call.fail(error.failure) }
      return
    }
    metrics.committed(units.count, seconds: Double(monotonicNs() - startNs) / 1e9)
  }

  /// Completes every unit, or throws before it has completed any.
  private func write(
    _ units: [PreparedUnit], on deployment: Deployment, _ complete: (Int, UnitOutcome) -> Void
  ) throws(MongoProblem) {
    let runs = Self.runs(units)
    let isBulksOnly = runs.allSatisfy { $0.kind == .bulk } && runs.count <= Self.bulksMax
    let isOneOp = units.count == 1 && units[0].call.count == 1
    if deployment.hasTransactions, !isBulksOnly, !isOneOp {
      return try together(units, on: deployment, complete)
    }
    for run in runs {
      switch run.kind {
      case .bulk:
        let written = BulkWriter(client).write(Array(units[run.range]))
        if let problem = written.problem { report(problem) } else { succeeded() }
        for (index, outcome) in zip(run.range, written.outcomes) { complete(index, outcome) }
      case .single:
        complete(run.range.lowerBound, single(units[run.range.lowerBound]))
      case .several:
        complete(
          run.range.lowerBound,
          .failed(
            .unimplemented(
              "a unit of several ops needs a transaction, which \(settings.connection.place) does not have: it is a server "
                + "on its own; make it a replica set, of one member if need be")))
      }
    }
  }

  /// In one transaction; and when a record of one of them is refused, each by itself: a unit that fails fails no other.
  private func together(
    _ units: [PreparedUnit], on deployment: Deployment, _ complete: (Int, UnitOutcome) -> Void
  ) throws(MongoProblem) {
    do throws(MongoProblem) {
      let outcomes = try transactions.write(units)
      succeeded()
      for (index, outcome) in outcomes.enumerated() { complete(index, outcome) }
    } catch {
      guard units.count > 1, error.concernsOneRecord else { throw error }
      for (index, unit) in units.enumerated() {
        do throws(MongoProblem) {
          try write([unit], on: deployment) { complete(index, $1) }
        } catch {
          report(error)
          complete(index, .failed(error.failure))
        }
      }
    }
  }

  private func single(_ unit: PreparedUnit) -> UnitOutcome {
    do throws(MongoProblem) {
      let outcome = try SingleWriter(client).write(unit)
      succeeded()
      return outcome
    } catch {
      report(error)
      return .failed(error.failure)
    }
  }

  private func report(_ problem: MongoProblem) {
    hasFailed = problem.isUnreachable || problem.isConnectionLost
    health.report(problem)
  }

  private func succeeded() {
    hasFailed = false
    health.clear()
  }

  // MARK: Runs

  private struct Run {
    enum Kind {
      /// Puts to different URIs that one bulk can decide.
      case bulk
      /// One op that needs a statement of its own.
      case single
      case several
    }
    var kind: Kind
    var range: Range<Int>
  }

  /// Neighbours that can share a bulk. A URI is in a bulk once: its statements are in no order.
  private static func runs(_ units: [PreparedUnit]) -> [Run] {
    var runs: [Run] = []
    var seen: Set<BorrowedKey> = []
    for (index, unit) in units.enumerated() {
      guard unit.isBulkPut else {
        runs.append(Run(kind: unit.call.count == 1 ? .single : .several, range: index..<(index + 1)))
        continue
      }
      let key = BorrowedKey(unit.call[0].uri.bytes)
      if let last = runs.last, last.kind == .bulk, seen.insert(key).inserted {
        runs[runs.count - 1].range = last.range.lowerBound..<(index + 1)
      } else {
        seen = [key]
        runs.append(Run(kind: .bulk, range: index..<(index + 1)))
      }
    }
    return runs
  }
}

/// Milliseconds since 1970 by the machine's clock.
func wallMs() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
}
