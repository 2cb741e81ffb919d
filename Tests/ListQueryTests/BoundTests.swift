import ListQuery
import Testing

@Suite struct BoundTests {
  private func records(_ count: Int) -> [(uri: String, ts_ms: Int64)] {
    (0..<count).map { ("mutable://open/record-\($0)", Int64($0)) }
  }

  @Test func aSortOfTooManyRecordsNamesTheBound() throws {
    let bounds = ListBounds(sortRecordsMax: 100)
    let query = ListQuery(limit: 60, sortBy: .timestamp)
    #expect(try collect(query, records(100), bounds: bounds).count == 60)
    #expect(throws: ListError.tooManyRecords(sortRecordsMax: 100)) {
      try collect(query, records(101), bounds: bounds)
    }
    #expect(
      ListError.tooManyRecords(sortRecordsMax: 100).description.contains("100 records (limits.list_sort_records_max)"))
  }

  @Test(arguments: [ListQuery.SortKey.none, .name, .timestamp])
  func anEarlyPageOfMoreRecordsThanMayBeHeldIsGiven(key: ListQuery.SortKey) throws {
    let bounds = ListBounds(sortRecordsMax: 100, sortBytesMax: 40_000)
    let page = try collect(
      ListQuery(page: 2, limit: 10, sortBy: key, isDescending: true), records(5000), bounds: bounds)
    #expect(page.total == 5000)
    // By name the last are 999 down to 990, which are the first page, and then 99.
    #expect(page.uris.first == (key == .name ? "mutable://open/record-99" : "mutable://open/record-4989"))
    #expect(page.count == 10)
  }

  /// However many records a scan has and in whatever order they come, twice the page is held and no more.
  @Test(arguments: [ListQuery.SortKey.none, .name, .timestamp], [false, true])
  func whatIsHeldDoesNotGrowWithTheRecords(key: ListQuery.SortKey, isDescending: Bool) throws {
    let count = 40_000
    for order in 0..<3 {
      let collector = try #require(
        try ListCollector(ListQuery(page: 2, limit: 50, sortBy: key, isDescending: isDescending)))
      for index in 0..<count {
        // Rising, falling, and all over the place.
        let number = order == 0 ? index : order == 1 ? count - index : (index * 7919) % count
        var uri = "mutable://open/record-\(number)"
        try uri.withUTF8 { uri in try collector.add(uri: uri, ts_ms: Int64(number)) }
      }
      let page = collector.finish()
      #expect(page.total == count && page.count == 50)
      #expect(collector.recordsHeldMost <= 200, "\(collector.recordsHeldMost) records were held")
    }
  }

  @Test(arguments: [ListQuery.SortKey.none, .name, .timestamp])
  func tooManyBytesNameTheBound(key: ListQuery.SortKey) {
    let bounds = ListBounds(sortBytesMax: 2000)
    #expect(throws: ListError.tooManyBytes(sortBytesMax: 2000)) {
      try collect(ListQuery(limit: 1000, sortBy: key), records(100), bounds: bounds)
    }
  }

  @Test func aPageInTheOrderOfTheScanHoldsOnlyThePage() throws {
    let bounds = ListBounds(sortRecordsMax: 10, sortBytesMax: 2000)
    let page = try collect(ListQuery(page: 100, limit: 10), records(5000), bounds: bounds)
    #expect(page.uris == records(5000)[990..<1000].map(\.uri))
  }

  @Test func aURIThatIsTooLongIsRefused() throws {
    let collector = try #require(try ListCollector(ListQuery()))
    let length = ListBounds.uriBytesMax + 1
    _ = withUnsafeTemporaryAllocation(of: UInt8.self, capacity: length) { uri in
      #expect(throws: ListError.uriTooLong(length: length)) {
        try collector.add(uri: UnsafeBufferPointer(uri), ts_ms: 0)
      }
    }
  }
}
