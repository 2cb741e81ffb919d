import BackendSupport
import Glibc
import PluginAPI

/// The open directory: a thread that writes, and what reads.
final class Store: Sendable {
  private let root: OpenRoot
  private let gate = PlacementGate()
  private let reader: RecordReader
  private let scanner: Scanner
  private let committer: Committer
  private let queue: UnitQueue

  /// Makes the directory, locks it and puts in place what a crash left.
  init(_ settings: FilesSettings, health: HealthReporter, metrics: CommitMetrics) throws(Failure) {
    let writer: UnitWriter
    do throws(FilesProblem) {
      root = try OpenRoot(settings)
      writer = try UnitWriter(root, settings, gate)
    } catch {
      throw error.failure
    }
    reader = RecordReader(tree: root.tree, gate: gate, sizeBytesMax: settings.recordSizeBytesMax)
    scanner = Scanner(
      tree: root.tree, gate: gate, cache: RunCache(sizeBytesMax: settings.scanCacheSizeBytesMax))
    committer = Committer(writer, gate, durability: settings.durability, health: health, metrics: metrics)
    queue = try UnitQueue(
      committer, backend: "the files backend", place: settings.path,
      limits: .init(batchUnitsMax: settings.batchUnitsMax, queueUnitsMax: settings.queueUnitsMax))
  }

  func submit(_ units: UnitBatch) { queue.submit(units) }
  func waitUntilIdle(deadlineNs: UInt64) -> Bool { queue.waitUntilIdle(deadlineNs: deadlineNs) }

  /// Writes what waits, joins the thread and empties the log. The descriptors close when the object goes.
  func stop() -> FilesProblem? {
    queue.stop()
    return committer.close()
  }

  func find(_ uri: BorrowedBytes, isWithoutData: Bool) throws(FilesProblem) -> FoundRecord? {
    try committer.repairIfStuck()
    return try reader.find(uri, isWithoutData: isWithoutData)
  }

  func page(prefix: BorrowedBytes, cursor: BorrowedBytes, limit: Int) throws(FilesProblem) -> FoundPage {
    try committer.repairIfStuck()
    return try scanner.page(prefix: prefix, cursor: cursor, limit: limit)
  }
}
