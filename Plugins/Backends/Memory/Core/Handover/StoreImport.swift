import PluginAPI

/// Handing over: the successor's side. One phase.
struct StoreImport: ~Copyable {
  private enum Step { case begin, records, end }

  private let store: RecordStore
  private let phase: StatePhase
  private var decoder = StateDecoder()
  private var placement = OrderTree.Placement()
  private var step = Step.begin

  init(_ store: RecordStore, _ phase: StatePhase) {
    self.store = store
    self.phase = phase
  }

  /// Takes bytes of the stream, as they come.
  mutating func take(_ bytes: BorrowedBytes) throws(Failure) {
    // Nobody else uses the store before the phase is over, so one hold of its lock may be as long as a chunk.
    var failure: Failure?
    store.order.withLock { _ in
      do throws(Failure) {
        try decoder.feed(bytes) { found throws(Failure) in
          try Self.take(found, store, phase, &placement, &step)
        }
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// The stream has ended.
  mutating func finish() throws(Failure) {
    guard step == .end, decoder.isBetweenFrames else {
      throw Failure(
        code: BP_DATA_LOSS, "the state that was handed over is torn: the \(phase) ends without its last frame")
    }
    store.count()
    if phase == .rest, let failure = store.refusal(of: store.totals) { throw failure }
  }

  private static func take(
    _ found: borrowing StateDecoder.Found, _ store: RecordStore, _ phase: StatePhase,
    _ placement: inout OrderTree.Placement, _ step: inout Step
  ) throws(Failure) {
    let frame = found.frame
    switch (step, frame.kind) {
    case (.begin, .begin):
      guard frame.levelsOwn == 1, bp_view(found.uri).equals(StateFrame.signature) else {
        throw Failure(code: BP_DATA_LOSS, "the state that was handed over is not the memory backend's")
      }
      if phase == .snapshot, store.totalsUnderOrder.records > 0 {
        throw Failure(
          code: BP_FAILED_PRECONDITION, "this instance holds records already; a snapshot needs an empty one")
      }
      // Before anything is moved, and from the predecessor's own figures: what it holds while it serves may come and go.
      if let failure = store.refusal(
        of: RecordStore.Totals(records: Int(clamping: frame.first), sizeBytes: Int(clamping: frame.second)))
      {
        throw failure
      }
      store.tree.skip(to: UInt64(littleEndian: found.own.loadUnaligned(as: UInt64.self)))
      step = .records
    case (.records, .put):
      let block = RecordBlock.make(
        uri: found.uri, data: found.data, content: frame.content, timestampMs: frame.first, version: frame.second)
      try store.place(block, shared: Int(frame.levelsShared), own: found.own, &placement)
    case (.records, .delete):
      placement.reset()
      store.remove(found.uri)
    case (.records, .end):
      step = .end
      // The snapshot is of no one moment; the rest is.
      if phase == .rest, Int(clamping: frame.first) != store.totalsUnderOrder.records {
        throw Failure(
          code: BP_DATA_LOSS,
          "the predecessor holds \(frame.first) records and \(store.totalsUnderOrder.records) have arrived")
      }
    default:
      throw Failure(
        code: BP_DATA_LOSS, "the state that was handed over is torn: a frame of the \(phase) is not in its place")
    }
  }
}

extension RecordStore {
  /// What is wrong with holding so much, or nil. Under the order lock or not.
  func refusal(of held: Totals) -> Failure? {
    if limits.records > 0, held.records > limits.records {
      return .exhausted(
        "the instance to be replaced holds \(held.records) records and records_max is \(limits.records); raise "
          + "records_max or delete records first")
    }
    if limits.sizeBytes > 0, held.sizeBytes > limits.sizeBytes {
      return .exhausted(
        "the instance to be replaced holds \(held.sizeBytes) bytes and size_bytes_max is \(limits.sizeBytes); raise "
          + "size_bytes_max or delete records first")
    }
    return nil
  }

  /// Tells the gauges, once for many records.
  fileprivate func count() { order.withLock { _ in onCount(totalsUnderOrder) } }

  /// A record that the predecessor holds. Under the order lock.
  fileprivate func place(
    _ block: RecordBlock, shared: Int, own: UnsafeRawBufferPointer, _ placement: inout OrderTree.Placement
  ) throws(Failure) {
    guard !block.key.isEmpty else { throw Failure(code: BP_DATA_LOSS, "a record without a URI was handed over") }
    let hash = hash(block.key)
    try tree.place(block, hash: hash, shared: shared, own: own, &placement)
    let shard = shard(hash)
    var old: RecordBlock?
    shard.pointee.lock.withLock { _ in old = shard.pointee.table.put(hash, block) }
    totalsUnderOrder.records += old == nil ? 1 : 0
    totalsUnderOrder.sizeBytes += block.sizeBytes - (old?.sizeBytes ?? 0)
  }

  /// A record that the predecessor has deleted; it may never have come. Under the order lock.
  fileprivate func remove(_ uri: BorrowedBytes) {
    let hash = hash(uri)
    let shard = shard(hash)
    var old: RecordBlock?
    shard.pointee.lock.withLock { _ in old = shard.pointee.table.remove(hash, uri) }
    guard let old else { return }
    tree.remove(old)
    totalsUnderOrder.records -= 1
    totalsUnderOrder.sizeBytes -= old.sizeBytes
  }
}
