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
    let client: Client
    do throws(MongoProblem) {
      pool = try ClientPool(settings, health: health)
      client = try pool.client()
    } catch {
      throw error.failure
    }
    try Preparation(client).run()
    let deployment: Deployment
    let readers: [Reader]
    do throws(MongoProblem) {
      deployment = try client.deployment()
      committer = try Committer(pool, health: health, metrics: metrics)
      readers = try Self.readers(pool)
    } catch {
      throw error.failure
    }
    if !deployment.hasTransactions {
      health.whenSound(
        .degraded,
        "\(settings.connection.place) is on a server of its own, which has no transactions: messages that write several "
          + "records are refused; make it a replica set, of one member if need be")
    }
    units = try UnitQueue(
      committer, backend: "the MongoDB backend", place: settings.connection.place,
      limits: UnitQueue.Limits(batchUnitsMax: settings.batchUnitsMax, queueUnitsMax: settings.queueUnitsMax))
    do throws(Failure) {
      reads = try ReadQueue(readers, settings: settings, health: health)
    } catch {
      units.stop()
      throw error
    }
  }

  private static func readers(_ pool: ClientPool) throws(MongoProblem) -> [Reader] {
    var readers: [Reader] = []
    for _ in 0..<pool.settings.readers { readers.append(Reader(try pool.client())) }
    return readers
  }

  func submit(_ batch: UnitBatch) { units.submit(batch) }
  func submit(_ calls: [ReadCall]) { reads.submit(calls) }
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
