/// Makes one page of a list out of the records of a scan, fed one at a time in the backend's stable order.
///
/// Confined to one thread at a time. Holds at most what `ListBounds` allows; ICU is opened only for a query that needs
/// it. After an error the collector is of no further use.
///
/// Only records that may still be on the page are held: with an order other than the scan's these are the best
/// page · limit, kept by dropping the worse half whenever twice as many have come together. What comes after the last of
/// them is not even copied.
public final class ListCollector {
  private let query: ListQuery
  private let bounds: ListBounds
  private let pattern: Pattern?
  private let collation: Collation?
  private var held = HeldRecords()
  private var total = 0
  /// As many as are wanted come before this one, or are it.
  private var last: HeldRecords.Entry?
  /// Records before the page, and those up to its end.
  private let skipped: Int
  private let wanted: Int

  /// - Returns: nil when the pattern is no regular expression: the answer is then `ListPage.empty`, with success.
  /// - Throws: `patternTooLong`, or `engineFailed`.
  public init?(_ query: ListQuery, bounds: ListBounds = ListBounds()) throws(ListError) {
    self.query = query
    self.bounds = bounds
    let limit = max(query.limit, 1)
    let (skipped, skippedOverflow) = (max(query.page, 1) - 1).multipliedReportingOverflow(by: limit)
    self.skipped = skippedOverflow ? Int.max : skipped
    let (wanted, wantedOverflow) = self.skipped.addingReportingOverflow(limit)
    self.wanted = wantedOverflow ? Int.max : wanted
    if let text = query.pattern, !text.isEmpty {
      guard let pattern = try Pattern(text, bounds: bounds) else { return nil }
      self.pattern = pattern
    } else {
      pattern = nil
    }
    collation = query.sortBy == .name ? try Collation() : nil
  }

  /// Takes the next record of the scan.
  /// - Parameters:
  ///   - uri: the full URI in normal form, UTF-8, at most `ListBounds.uriBytesMax`; copied when it is needed later.
  ///   - ts_ms: the record's time, in ms since 1970.
  public func add(uri: UnsafeBufferPointer<UInt8>, ts_ms: Int64) throws(ListError) {
    guard uri.count <= ListBounds.uriBytesMax else { throw .uriTooLong(length: uri.count) }
    if let pattern, try !pattern.matches(uri) { return }
    let ordinal = total
    total += 1
    if isScanOrder {
      guard ordinal >= skipped, ordinal < wanted else { return }
      guard held.entries.count < bounds.sortRecordsMax else {
        throw .tooManyRecords(sortRecordsMax: bounds.sortRecordsMax)
      }
    } else {
      if let last, try comesAfter(last, uri, ts_ms) { return }
      try makeRoom()
    }
    try held.append(uri, ts_ms: ts_ms, ordinal: ordinal, collation: collation)
    if held.bytesHeld > bounds.sortBytesMax { try shrink() }
  }

  /// Ends the list.
  public func finish() -> ListPage {
    held.sort(by: query.sortBy, isDescending: query.isDescending)
    // In the order of the scan nothing before the page is held.
    let start = isScanOrder ? 0 : min(skipped, held.entries.count)
    let end = isScanOrder ? held.entries.count : min(wanted, held.entries.count)
    return ListPage(total: total, records: held, range: start..<end)
  }

  /// The most records that were held at once.
  public var recordsHeldMost: Int { held.entriesMost }

  private var isScanOrder: Bool { query.sortBy == .none && !query.isDescending }

  private func makeRoom() throws(ListError) {
    let count = held.entries.count
    let (twice, overflow) = wanted.multipliedReportingOverflow(by: 2)
    // Dropping less than half at a time would sort too often; such a query holds everything instead.
    if !overflow, twice <= bounds.sortRecordsMax {
      if count >= max(twice, min(64, bounds.sortRecordsMax)) { keepBest() }
    } else if count >= bounds.sortRecordsMax {
      throw .tooManyRecords(sortRecordsMax: bounds.sortRecordsMax)
    }
  }

  private func shrink() throws(ListError) {
    if !isScanOrder, held.entries.count > wanted { keepBest() }
    // The same reasoning: unless half is free now, the next shrinking would come too soon.
    guard held.bytesHeld <= bounds.sortBytesMax / 2 else { throw .tooManyBytes(sortBytesMax: bounds.sortBytesMax) }
  }

  private func keepBest() {
    held.sort(by: query.sortBy, isDescending: query.isDescending)
    held.keep(0..<min(wanted, held.entries.count))
    if held.entries.count == wanted { last = held.entries.last }
  }

  /// Whether a record that comes now is after `entry` in the query's order. Of equal ones it is, unless descending.
  private func comesAfter(
    _ entry: HeldRecords.Entry, _ uri: UnsafeBufferPointer<UInt8>, _ ts_ms: Int64
  ) throws(ListError) -> Bool {
    switch query.sortBy {
    case .none: return false
    case .timestamp: return query.isDescending ? ts_ms < entry.ts_ms : ts_ms >= entry.ts_ms
    case .name:
      guard let collation else { return false }
      let order = try held.withURI(of: entry) { (other) throws(ListError) in try collation.compare(uri, other) }
      return query.isDescending ? order < 0 : order >= 0
    }
  }
}
