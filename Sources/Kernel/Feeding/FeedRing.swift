/// The last accepted writes, by position. Positions are consecutive within a ring and never given twice in a process.
struct FeedRing {
  private var slots: [FeedRecord?] = []
  /// The slot of the oldest record.
  private var first = 0
  private(set) var count = 0
  private(set) var sizeBytes = 0
  /// The position of the last record that was appended, also of a ring before this one.
  private(set) var newest: UInt64
  /// The last position before this ring.
  private let start: UInt64

  private static let slotsMin = 256

  /// - Parameter newest: the last position that was given.
  init(after newest: UInt64) {
    self.newest = newest
    start = newest
  }

  /// The position of the oldest record that is left, or of the next one.
  var oldest: UInt64 { newest - UInt64(count) + 1 }

  /// A quarter of the records that it holds at most, as far as one can say.
  func quarter(_ settings: FeedSettings) -> UInt64 {
    // Once it has let go of some it is full, by records or by bytes.
    UInt64(max(1, (oldest > start + 1 ? count : settings.recordsMax) / 4))
  }

  /// Whether everything after `position` is still here.
  func holds(after position: UInt64) -> Bool { position >= start && position <= newest && position + 1 >= oldest }

  subscript(position: UInt64) -> FeedRecord? {
    guard position >= oldest, position <= newest else { return nil }
    return slots[slot(Int(position - oldest))]
  }

  /// Gives the record its position, and lets go of the oldest ones.
  mutating func append(_ record: FeedRecord, _ settings: FeedSettings) {
    newest += 1
    record.take(newest)
    if count == slots.count { grow() }
    slots[slot(count)] = record
    count += 1
    sizeBytes += record.sizeBytes
    trim(settings)
  }

  /// Holds what the settings allow, and the newest record in any case.
  mutating func trim(_ settings: FeedSettings) {
    while count > 1, count > settings.recordsMax || sizeBytes > settings.sizeBytesMax {
      sizeBytes -= slots[first]!.sizeBytes
      slots[first] = nil
      first = slot(1)
      count -= 1
    }
  }

  /// At most `max` records from `position` on, which must not be older than the oldest.
  func records(from position: UInt64, max limit: Int) -> [FeedRecord] {
    guard position <= newest else { return [] }
    let index = Int(position - oldest)
    return (index..<min(count, index + limit)).map { slots[slot($0)]! }
  }

  private func slot(_ index: Int) -> Int { (first + index) & (slots.count - 1) }

  /// The number of slots is a power of two.
  private mutating func grow() {
    let grown = max(FeedRing.slotsMin, slots.count * 2)
    slots = (0..<count).map { slots[slot($0)] } + Array(repeating: nil, count: grown - count)
    first = 0
  }
}
