import Glibc

/// The records that may still be on the page, in one block of bytes and one of entries.
struct HeldRecords {
  struct Entry {
    /// Where the URI begins in `bytes`; its collation key follows it.
    var offset: Int
    var uriLength: Int32
    var keyLength: Int32
    var ts_ms: Int64
    /// The place among the matching records, in the order of the scan.
    var ordinal: Int
  }

  private(set) var bytes: [UInt8] = []
  private(set) var entries: [Entry] = []
  /// The most entries there ever were.
  private(set) var entriesMost = 0

  var bytesHeld: Int { bytes.count + entries.count * MemoryLayout<Entry>.stride }

  mutating func append(
    _ uri: UnsafeBufferPointer<UInt8>, ts_ms: Int64, ordinal: Int, collation: Collation?
  ) throws(ListError) {
    let offset = bytes.count
    bytes.append(contentsOf: uri)
    let keyLength = try collation?.appendKey(of: uri, to: &bytes) ?? 0
    entries.append(
      Entry(
        offset: offset, uriLength: Int32(uri.count), keyLength: Int32(keyLength), ts_ms: ts_ms, ordinal: ordinal))
    entriesMost = max(entriesMost, entries.count)
  }

  /// The URI of an entry, valid during the call.
  func withURI<R>(
    of entry: Entry, _ body: (UnsafeBufferPointer<UInt8>) throws(ListError) -> R
  ) throws(ListError) -> R {
    try bytes.span.extracting(entry.offset..<entry.offset + Int(entry.uriLength))
      .withUnsafeBufferPointer { (uri) throws(ListError) in try body(uri) }
  }

  /// Sorts by the query's order. Equal records stay in the order of the scan, or in its reverse when descending.
  mutating func sort(by key: ListQuery.SortKey, isDescending: Bool) {
    // No two ordinals are equal, so this is a strict order, and the opposite of it is one too.
    switch key {
    case .none:
      entries.sort { isDescending ? $0.ordinal > $1.ordinal : $0.ordinal < $1.ordinal }
    case .timestamp:
      entries.sort {
        let (left, right) = isDescending ? ($1, $0) : ($0, $1)
        return (left.ts_ms, left.ordinal) < (right.ts_ms, right.ordinal)
      }
    case .name:
      bytes.withUnsafeBufferPointer { bytes in
        entries.sort {
          let (left, right) = isDescending ? ($1, $0) : ($0, $1)
          let order = Self.compareKeys(left, right, in: bytes)
          return order != 0 ? order < 0 : left.ordinal < right.ordinal
        }
      }
    }
  }

  private static func compareKeys(_ left: Entry, _ right: Entry, in bytes: UnsafeBufferPointer<UInt8>) -> Int32 {
    guard let base = bytes.baseAddress else { return 0 }
    // Keys end with a zero byte and hold no other, so the shorter one decides within its own length.
    return memcmp(
      base + left.offset + Int(left.uriLength), base + right.offset + Int(right.uriLength),
      Int(min(left.keyLength, right.keyLength)))
  }

  /// Forgets all but a range of the entries, and their bytes.
  mutating func keep(_ range: Range<Int>) {
    entries = Array(entries[range])
    var kept: [UInt8] = []
    kept.reserveCapacity(entries.reduce(0) { $0 + Int($1.uriLength) + Int($1.keyLength) })
    for index in entries.indices {
      let entry = entries[index]
      entries[index].offset = kept.count
      kept.append(contentsOf: bytes[entry.offset..<(entry.offset + Int(entry.uriLength) + Int(entry.keyLength))])
    }
    bytes = kept
  }
}
