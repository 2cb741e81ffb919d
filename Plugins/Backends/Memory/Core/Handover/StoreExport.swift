import PluginAPI

/// Handing over: the old instance's side.
extension RecordStore {
  /// Records and nodes that are looked at under one hold of the order lock: a few tens of microseconds, at most, that a
  /// write waits.
  private static let sliceRecords = 64
  private static let sliceVisitsMax = 512

  /// Records and where they stand, as they were under one hold of the order lock.
  private struct Slice {
    var records: [RecordBlock] = []
    /// The paths of all of them, one after the other.
    var sequences: [UInt64] = []
    /// Where each one's path ends.
    var ends: [Int] = []

    mutating func add(_ record: RecordBlock) {
      records.append(record)
      OrderTree.appendPath(of: record, to: &sequences)
      ends.append(sequences.count)
    }

    mutating func removeAll() {
      records.removeAll(keepingCapacity: true)
      sequences.removeAll(keepingCapacity: true)
      ends.removeAll(keepingCapacity: true)
    }
  }

  func exportState(_ phase: StatePhase, to writer: StateWriter) async throws {
    switch phase {
    case .snapshot: try await exportSnapshot(to: writer)
    case .rest: try await exportRest(to: writer)
    }
  }

  /// Forgets what was noted.
  func abandonState() {
    // Freed after the lock is left.
    _ = exchangeJournal(nil)
  }

  private func exchangeJournal(_ new: ChangeJournal?) -> ChangeJournal? {
    var old: ChangeJournal?
    order.withLock { _ in
      old = journal
      journal = new
    }
    return old
  }

  private func exportSnapshot(to writer: StateWriter) async throws {
    var totals = Totals()
    var nextSequence: UInt64 = 0
    _ = exchangeJournal(ChangeJournal())
    order.withLock { _ in
      totals = totalsUnderOrder
      nextSequence = tree.nextSequence
    }

    var encoder = StateEncoder(writer)
    encoder.begin(totals, nextSequence: nextSequence)
    var slice = Slice()
    var cursor: [UInt8]? = []
    var count = 0
    while let from = cursor {
      slice.removeAll()
      order.withLock { _ in
        cursor = from.withUnsafeBufferPointer {
          tree.page(
            prefix: BorrowedBytes(start: nil, count: 0), cursor: $0, limit: Self.sliceRecords,
            visitsMax: Self.sliceVisitsMax
          ) { slice.add($0) }
        }
      }
      for index in slice.records.indices {
        try await Self.put(slice, index, &encoder, writer)
      }
      count += slice.records.count
    }
    encoder.end(records: count)
  }

  private func exportRest(to writer: StateWriter) async throws {
    // Whatever changes from now on breaks the fence, and would be lost: it is caught by a journal of its own.
    guard let changes = exchangeJournal(ChangeJournal()) else {
      throw Failure(code: BP_FAILED_PRECONDITION, "no snapshot was begun that a rest could follow")
    }
    var totals = Totals()
    var nextSequence: UInt64 = 0
    order.withLock { _ in
      totals = totalsUnderOrder
      nextSequence = tree.nextSequence
    }
    var encoder = StateEncoder(writer)
    encoder.begin(totals, nextSequence: nextSequence)

    // Deletions first, so that the successor is never fuller than it has to be.
    let changed = changes.changed()
    var puts = Slice()
    var gone: [Bool] = []
    for start in stride(from: 0, to: changed.count, by: Self.sliceRecords) {
      let part = changed[start..<min(start + Self.sliceRecords, changed.count)]
      gone.removeAll(keepingCapacity: true)
      order.withLock { _ in
        for (hash, block) in part {
          let record = current(hash, block.key)
          if let record { puts.add(record) }
          gone.append(record == nil)
        }
      }
      for (isGone, change) in zip(gone, part) where isGone { encoder.delete(change.block.key) }
      if writer.isFull { try await writer.drain() }
    }
    // In the order they were made in: each is then the last child of its parent.
    let order = puts.records.indices.sorted { puts.sequences[puts.ends[$0] - 1] < puts.sequences[puts.ends[$1] - 1] }
    for index in order { try await Self.put(puts, index, &encoder, writer) }
    encoder.end(records: totals.records)

    if exchangeJournal(nil)?.isEmpty == false {
      throw Failure.internal("records were changed while the rest was exported, after the fence; they would be lost")
    }
  }

  @inline(__always)
  private static func put(
    _ slice: Slice, _ index: Int, _ encoder: inout StateEncoder, _ writer: StateWriter
  ) async throws {
    let record = slice.records[index]
    let isWhole = slice.sequences.withUnsafeBufferPointer {
      let start = index == 0 ? 0 : slice.ends[index - 1]
      return encoder.put(record, path: UnsafeBufferPointer(rebasing: $0[start..<slice.ends[index]]))
    }
    if !isWhole { try await writer.write(record.data) }
    if writer.isFull { try await writer.drain() }
  }
}
