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
    #expect(ListError.tooManyRecords(sortRecordsMax: 100).description.contains("100 records (sortRecordsMax)"))
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
