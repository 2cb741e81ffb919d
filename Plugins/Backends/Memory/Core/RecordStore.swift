import BackendSupport
import PluginAPI
import Synchronization

/// The records of one instance: tables for reading in shards, and one order for scanning.
///
/// Locks, always taken in this order: `order` (every change and every page), then shards by rising index (held by a
/// change only while it is made). A read takes one shard's lock for one look-up. No lock is held while anything is
/// completed.
final class RecordStore: @unchecked Sendable {
  // @unchecked: `tree`, `totalsUnderOrder` and `journal` are only touched under `order`; a shard's table is changed under
  // `order` and the shard's lock, and read under either.

  /// What a store may hold; 0: no bound.
  struct Limits: Sendable {
    var records = 0
    var sizeBytes = 0
  }

  struct Totals: Sendable, Equatable {
    var records = 0
    var sizeBytes = 0
  }

  struct Shard: ~Copyable {
    let lock = Mutex<Void>(())
    var table = ByteTable<RecordBlock>()
  }

  private static let shardsBits: UInt64 = 6
  /// Nodes one page looks at, at most: about a millisecond, whatever a prefix matches.
  private static let visitsMax = 8_192
  /// Items of one page, at most.
  private static let pageItemsMax = 4_096

  let limits: Limits
  let hash = ByteHash()
  let order = Mutex<Void>(())
  private let shards: UnsafeMutablePointer<Shard>
  let tree: OrderTree
  var totalsUnderOrder = Totals()
  /// What has changed since a snapshot was begun; nil: no handover is under way. Under the order lock.
  var journal: ChangeJournal?
  /// Called under the order lock when records have come or gone.
  let onCount: @Sendable (Totals) -> Void

  init(limits: Limits, onCount: @escaping @Sendable (Totals) -> Void = { _ in }) {
    self.limits = limits
    self.onCount = onCount
    tree = OrderTree(hash: hash)
    shards = .allocate(capacity: 1 << Self.shardsBits)
    for index in 0..<(1 << Int(Self.shardsBits)) { (shards + index).initialize(to: Shard()) }
  }

  deinit {
    shards.deinitialize(count: 1 << Self.shardsBits)
    shards.deallocate()
  }

  var totals: Totals { order.withLock { _ in totalsUnderOrder } }

  // MARK: Reading

  /// The record at a URI; the reference keeps its bytes alive.
  @inline(__always)
  func find(_ uri: BorrowedBytes) -> RecordBlock? {
    let hash = hash(uri)
    let shard = shards + Int(hash >> (64 - Self.shardsBits))
    // Not the closure's result, which would have to be Sendable: what a reader does with a record is safe (RecordBlock).
    var found: RecordBlock?
    shard.pointee.lock.withLock { _ in found = shard.pointee.table.find(hash, uri) }
    return found
  }

  /// The records of one page, and the cursor of the next (nil: there is none).
  func page(prefix: BorrowedBytes, cursor: BorrowedBytes, limit: Int) throws(Failure) -> ([RecordBlock], [UInt8]?) {
    guard cursor.count % 8 == 0, cursor.count <= OrderTree.levelsMax * 8 else {
      throw .invalid("the scan's cursor is not one that this backend gave; begin again without a cursor")
    }
    let limit = max(1, min(limit, Self.pageItemsMax))
    var records: [RecordBlock] = []
    var next: [UInt8]?
    order.withLock { _ in
      next = tree.page(prefix: prefix, cursor: cursor, limit: limit, visitsMax: max(Self.visitsMax, limit)) {
        records.append($0)
      }
    }
    return (records, next)
  }

  /// The records of a page from the middle, and how many there are below the prefix. Nil: a scan is as good.
  func query(prefix: BorrowedBytes, offset: Int, limit: Int) -> (records: [RecordBlock], total: Int)? {
    guard limit <= Self.pageItemsMax else { return nil }
    var records: [RecordBlock] = []
    records.reserveCapacity(limit)
    var total: Int?
    order.withLock { _ in
      total = tree.query(prefix: prefix, offset: offset, limit: limit, visitsMax: Self.visitsMax) {
        records.append($0)
      }
    }
    return total.map { (records, $0) }
  }

  /// The record at a URI. Under the order lock.
  func current(_ hash: UInt64, _ uri: BorrowedBytes) -> RecordBlock? { shard(hash).pointee.table.find(hash, uri) }

  // MARK: Changing

  /// Applies a unit: all of it or nothing.
  func apply(_ unit: some OpList) -> UnitOutcome {
    if unit.count == 1 { return applySingle(unit[0], timestampMs: unit.timestampMs, version: unit.version) }
    return applySeveral(unit)
  }

  private func applySingle(_ op: bp_op, timestampMs: UInt64, version: UInt64) -> UnitOutcome {
    if let problem = op.problem { return .failed(problem) }
    let uri = op.uri.bytes
    let hash = hash(uri)
    // Allocated and copied before any lock is taken.
    let block = op.isDelete ? nil : RecordBlock.make(op, timestampMs: timestampMs, version: version)
    // What is replaced is freed after the locks are left.
    var old: RecordBlock?
    return order.withLock { _ in
      old = shard(hash).pointee.table.find(hash, uri)
      guard op.holds(for: old?.header.version) else { return .preconditionFailed(op: 0) }
      var change = Totals()
      if let block { change = Totals(records: 1, sizeBytes: block.sizeBytes) }
      if let old {
        change.records -= 1
        change.sizeBytes -= old.sizeBytes
      }
      if let failure = exceeded(change) { return .failed(failure) }
      let shard = shard(hash)
      if let block {
        shard.pointee.lock.withLock { _ in _ = shard.pointee.table.put(hash, block) }
        if let old { tree.replace(old, with: block) } else { tree.insert(block, hash: hash) }
        journal?.put(hash, block)
      } else if let old {
        shard.pointee.lock.withLock { _ in _ = shard.pointee.table.remove(hash, uri) }
        tree.remove(old)
        journal?.remove(hash, uri)
      }
      add(change)
      return .applied(absentCount: op.isDelete && old == nil ? 1 : 0)
    }
  }

  private struct Step {
    var hash: UInt64
    var uri: BorrowedBytes
    /// nil: a delete.
    var block: RecordBlock?
  }

  private func applySeveral(_ unit: some OpList) -> UnitOutcome {
    var steps: [Step] = []
    steps.reserveCapacity(unit.count)
    var shardsMask: UInt64 = 0
    for index in 0..<unit.count {
      let op = unit[index]
      if let problem = op.problem { return .failed(problem) }
      let hash = hash(op.uri.bytes)
      shardsMask |= 1 << (hash >> (64 - Self.shardsBits))
      steps.append(
        Step(
          hash: hash, uri: op.uri.bytes,
          block: op.isDelete ? nil : RecordBlock.make(op, timestampMs: unit.timestampMs, version: unit.version)))
    }
    var replaced: [RecordBlock] = []
    replaced.reserveCapacity(steps.count)
    return order.withLock { _ in
      // First what would become of it, then the change itself: nothing has to be undone.
      var change = Totals()
      var absentCount = 0
      var latest: [BorrowedKey: RecordBlock?] = [:]
      for (index, step) in steps.enumerated() {
        let before: RecordBlock? =
          if let earlier = latest[BorrowedKey(step.uri)] { earlier } else {
            shard(step.hash).pointee.table.find(step.hash, step.uri)
          }
        let op = unit[index]
        guard op.holds(for: before?.header.version) else { return .preconditionFailed(op: index) }
        if op.isDelete, before == nil { absentCount += 1 }
        change.records += (step.block == nil ? 0 : 1) - (before == nil ? 0 : 1)
        change.sizeBytes += (step.block?.sizeBytes ?? 0) - (before?.sizeBytes ?? 0)
        latest[BorrowedKey(step.uri)] = .some(step.block)
      }
      if let failure = exceeded(change) { return .failed(failure) }
      locking(shardsMask) {
        for step in steps {
          let table = shard(step.hash)
          if let block = step.block {
            if let old = table.pointee.table.put(step.hash, block) {
              tree.replace(old, with: block)
              replaced.append(old)
            } else {
              tree.insert(block, hash: step.hash)
            }
            journal?.put(step.hash, block)
          } else if let old = table.pointee.table.remove(step.hash, step.uri) {
            tree.remove(old)
            replaced.append(old)
            journal?.remove(step.hash, step.uri)
          }
        }
      }
      add(change)
      return .applied(absentCount: absentCount)
    }
  }

  @inline(__always)
  func shard(_ hash: UInt64) -> UnsafeMutablePointer<Shard> { shards + Int(hash >> (64 - Self.shardsBits)) }

  /// Holds the locks of all shards in the mask, lowest first: a reader sees a unit whole or not at all.
  private func locking(_ mask: UInt64, _ body: () -> Void) {
    guard mask != 0 else { return body() }
    (shards + mask.trailingZeroBitCount).pointee.lock.withLock { _ in locking(mask & (mask - 1), body) }
  }

  private func exceeded(_ change: Totals) -> Failure? {
    if limits.records > 0, change.records > 0, totalsUnderOrder.records + change.records > limits.records {
      return .exhausted(
        "the memory backend holds \(totalsUnderOrder.records) records and records_max is \(limits.records); delete "
          + "records or raise records_max")
    }
    if limits.sizeBytes > 0, change.sizeBytes > 0, totalsUnderOrder.sizeBytes + change.sizeBytes > limits.sizeBytes {
      return .exhausted(
        "the memory backend holds \(totalsUnderOrder.sizeBytes) bytes and size_bytes_max is \(limits.sizeBytes); "
          + "delete records or raise size_bytes_max")
    }
    return nil
  }

  private func add(_ change: Totals) {
    totalsUnderOrder.records += change.records
    totalsUnderOrder.sizeBytes += change.sizeBytes
    if change.records != 0 { onCount(totalsUnderOrder) }
  }
}
