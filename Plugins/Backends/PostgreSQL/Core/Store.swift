import BackendSupport
import PluginAPI

/// What a started instance has: the thread that writes, those that read, and the server's connections.
final class Store: Sendable {
  private let shared: Shared
  private let writer: Writer
  private let units: UnitQueue
  private let reads: CallQueue<ReadCall>
  private let scans: CallQueue<Listing>
  private let threads: [WorkerThread]
  /// How long what is under way may take once the instance stops.
  private static let stopGraceMs = 3_000

  init(_ session: Session, _ shared: Shared) throws(Failure) {
    self.shared = shared
    let settings = shared.settings
    let writer = Writer(session, shared)
    let reads = CallQueue<ReadCall>(countMax: settings.queueReadsMax, gathers: true)
    let scans = CallQueue<Listing>(countMax: settings.queueReadsMax, gathers: false)
    var threads: [WorkerThread] = []
    do throws(Failure) {
      for _ in 0..<settings.readersCount {
        let reader = Reader(shared, reads)
        threads.append(try WorkerThread { reader.run() })
      }
      for index in 0..<settings.scannersCount {
        let scanner = Scanner(shared, scans, isWatching: index == 0)
        threads.append(try WorkerThread { scanner.run() })
      }
      units = try UnitQueue(
        writer, backend: "the PostgreSQL backend", place: settings.url.place,
        limits: UnitQueue.Limits(batchUnitsMax: settings.batchUnitsMax, queueUnitsMax: settings.queueUnitsMax))
    } catch {
      shared.stop.stop(graceMs: 0)
      reads.close()
      scans.close()
      for thread in threads { thread.join() }
      throw error
    }
    self.writer = writer
    self.reads = reads
    self.scans = scans
    self.threads = threads
  }

  func submit(_ batch: UnitBatch) { units.submit(batch) }

  func submit(_ call: ReadCall) {
    let (takenCount, isClosed) = reads.submit(1) { _ in call }
    if takenCount == 0 { call.fail(refusal(isClosed)) }
  }

  func submit(_ batch: ReadBatch) {
    let (takenCount, isClosed) = reads.submit(batch.count) { batch[$0] }
    for index in takenCount..<batch.count { batch[index].fail(refusal(isClosed)) }
  }

  func submit(_ listing: Listing) {
    let (takenCount, isClosed) = scans.submit(1) { _ in listing }
    if takenCount == 0 { listing.fail(refusal(isClosed)) }
  }

  private func refusal(_ isClosed: Bool) -> Failure {
    isClosed ? .unavailable("the PostgreSQL backend is stopping") : full
  }

  private var full: Failure {
    .exhausted(
      "\(shared.settings.queueReadsMax) reads wait for \(shared.settings.url.place), which is queue_reads_max; read more "
        + "slowly or raise it", retryAfterMs: 100)
  }

  func waitUntilIdle(deadlineNs: UInt64) -> Bool { units.waitUntilIdle(deadlineNs: deadlineNs) }

  /// Completes everything, joins the threads and closes the connections.
  func stop() {
    shared.stop.stop(graceMs: Self.stopGraceMs)
    reads.close()
    scans.close()
    units.stop()
    writer.close()
    for thread in threads { thread.join() }
  }
}
