import PluginAPI

/// Which records have changed since a snapshot was begun: each URI once, so that it is bounded by the number of URIs and
/// not by the number of changes. Under the store's order lock until it is taken out of the store.
final class ChangeJournal {
  private static let partsBits: UInt64 = 6

  // In parts, so that growing is never one long pause.
  private let parts: UnsafeMutablePointer<ByteTable<RecordBlock>>

  init() {
    parts = .allocate(capacity: 1 << Self.partsBits)
    for index in 0..<(1 << Int(Self.partsBits)) { (parts + index).initialize(to: ByteTable()) }
  }

  deinit {
    parts.deinitialize(count: 1 << Self.partsBits)
    parts.deallocate()
  }

  /// A record was put. Its block stands for its URI: no copy is made, and one that is replaced is let go.
  func put(_ hash: UInt64, _ block: RecordBlock) {
    _ = (parts + Int(hash >> (64 - Self.partsBits))).pointee.put(hash, block)
  }

  /// A record was removed; a block with its URI and no data is kept.
  func remove(_ hash: UInt64, _ uri: BorrowedBytes) {
    put(
      hash,
      RecordBlock.make(uri: uri, data: BorrowedBytes(start: nil, count: 0), content: 0, timestampMs: 0, version: 0))
  }

  var isEmpty: Bool {
    for index in 0..<(1 << Int(Self.partsBits)) where (parts + index).pointee.count > 0 { return false }
    return true
  }

  /// What has changed, as a list of blocks that know the URI; it says nothing of what became of it.
  func changed() -> [(hash: UInt64, block: RecordBlock)] {
    var all: [(hash: UInt64, block: RecordBlock)] = []
    for index in 0..<(1 << Int(Self.partsBits)) { (parts + index).pointee.forEach { all.append(($0, $1)) } }
    return all
  }
}
