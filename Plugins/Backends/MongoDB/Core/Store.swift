import BackendSupport
import CMongoC
import PluginAPI

/// The open collection: a thread that writes and threads that read.
final class Store: Sendable {
  private let pool: ClientPool
  private let units: UnitQueue
  private let committer: Committer
  private let reads: ReadQueue

  /// Connects and makes the index. Throws a sentence that names what to fix.
  init(_ settings: MongoDBSettings, health: HealthReporter, metrics: CommitMetrics) throws(Failure) {
    do throws(MongoProblem) {
      pool = try ClientPool(settings, health: health)
    } catch {
      throw error.failure
    }
    let client = pool.client()
    try Preparation(client).run()
    let deployment: Deployment
    do throws(MongoProblem) { deployment = try client.deployment() } catch { throw error.failure }
    if !deployment.hasTransactions {
      health.whenSound(
        .degraded,
        "\(settings.connection.place) is on a server of its own, which has no transactions: messages that write several "
          + "records are refused; make it a replica set, of one member if need be")
    }
    committer = Committer(pool, health: health, metrics: metrics)
    units = try UnitQueue(
      committer, backend: "the MongoDB backend", place: settings.connection.place,
      limits: UnitQueue.Limits(batchUnitsMax: settings.batchUnitsMax, queueUnitsMax: settings.queueUnitsMax))
    do throws(Failure) {
      reads = try ReadQueue(pool, health: health)
    } catch {
      units.stop()
      throw error
    }
  }

  func submit(_ batch: UnitBatch) { units.submit(batch) }
  func submit(_ call: ReadCall) { reads.submit(call) }
  func waitUntilIdle(deadlineNs: UInt64) -> Bool { units.waitUntilIdle(deadlineNs: deadlineNs) }

  /// Writes and reads what waits and joins the threads. The connections close when the object goes.
  func stop() {
    committer.stopsSoon()
    units.stop()
    reads.stop()
  }

  func page(prefix: BorrowedBytes, cursor: BorrowedBytes, limit: Int) throws(MongoProblem) -> FoundPage {
    try Reader(pool.client()).page(prefix: prefix, cursor: cursor, limit: limit)
  }
}
