import ListQuery
import Testing

/// SplitMix64, so that a failure can be repeated.
private struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

@Suite struct OrderTests {
  /// The order of another ICU of the same root collation (JavaScript's `Intl.Collator("und")`).
  static let byName: [String] = [
    "mutable://l/_", "mutable://l/-", "mutable://l/!", "mutable://l/%20", "mutable://l/%C3%A9", "mutable://l/+",
    "mutable://l/~", "mutable://l/$", "mutable://l/10", "mutable://l/1a", "mutable://l/9", "mutable://l/a",
    "mutable://l/a_x", "mutable://l/a-x", "mutable://l/a:b", "mutable://l/a!b", "mutable://l/a.b",
    "mutable://l/a/x", "mutable://l/a%20b", "mutable://l/a%20b", "mutable://l/a+", "mutable://l/ab",
    "mutable://l/aB", "mutable://l/Ab", "mutable://l/AB", "mutable://l/b", "mutable://l/B",
  ]

  @Test func namesAreInRootCollation() throws {
    var generator = SeededGenerator(state: 7)
    for _ in 0..<20 {
      let records = Self.byName.shuffled(using: &generator).map { (uri: $0, ts_ms: Int64(0)) }
      #expect(try collect(ListQuery(sortBy: .name), records).uris == Self.byName)
      let descending = try collect(ListQuery(sortBy: .name, isDescending: true), records)
      #expect(descending.uris == Self.byName.reversed())
    }
  }

  /// Records with few distinct times and, by the soft hyphen that collation ignores, few distinct names.
  private func records(count: Int, using generator: inout SeededGenerator) -> [(uri: String, ts_ms: Int64)] {
    (0..<count).map { index in
      let name = ["a", "B", "b", "1", "é", "%c3"].randomElement(using: &generator)!
      let invisible = String(repeating: "\u{AD}", count: index)
      return (uri: "m://l/\(name)\(invisible)", ts_ms: Int64.random(in: -2...2, using: &generator))
    }
  }

  @Test(arguments: [ListQuery.SortKey.none, .name, .timestamp], [false, true])
  func pagesAreSlicesOfTheWholeAndDescendingIsTheReverse(key: ListQuery.SortKey, isDescending: Bool) throws {
    var generator = SeededGenerator(state: 11)
    for _ in 0..<12 {
      let records = records(count: Int.random(in: 0...160, using: &generator), using: &generator)
      let ascending = try collect(ListQuery(limit: 1000, sortBy: key), records)
      #expect(ascending.total == records.count)
      switch key {
      case .none: #expect(ascending.uris == records.map(\.uri))
      case .timestamp:
        let stable = records.enumerated().sorted { ($0.element.ts_ms, $0.offset) < ($1.element.ts_ms, $1.offset) }
        #expect(ascending.uris == stable.map(\.element.uri))
      case .name:
        // Equal names, which differ only in length here, stay in the order in which they came.
        for (left, right) in zip(ascending.uris, ascending.uris.dropFirst()) where visible(left) == visible(right) {
          #expect(left.unicodeScalars.count < right.unicodeScalars.count)
        }
      }
      let whole = isDescending ? ascending.uris.reversed() : ascending.uris
      let limit = Int.random(in: 1...20, using: &generator)
      for page in 1...(records.count / limit + 2) {
        let query = ListQuery(page: page, limit: limit, sortBy: key, isDescending: isDescending)
        let result = try collect(query, records)
        #expect(result.uris == Array(whole.dropFirst((page - 1) * limit).prefix(limit)))
        #expect(result.total == records.count)
      }
    }
  }

  private func visible(_ uri: String) -> String { uri.filter { $0 != "\u{AD}" } }

  @Test func extremePagesDoNotOverflow() throws {
    for (page, limit) in [(Int.max, Int.max), (Int.max, 1), (1, Int.max), (Int.min, Int.min), (2, Int.max)] {
      for key in [ListQuery.SortKey.none, .timestamp] {
        let result = try collect(
          ListQuery(page: page, limit: limit, sortBy: key), [("m://a", 1), ("m://b", 2), ("m://c", 3)])
        #expect(result.total == 3)
        #expect(result.count == (page == 1 ? 3 : page == Int.min ? 1 : 0))
      }
    }
  }

  @Test func urisAreGivenWithoutCopyInOrder() throws {
    let page = try collect(ListQuery(limit: 2), [("m://a", 1), ("m://bb", 2), ("m://c", 3)])
    var seen: [String] = []
    page.forEachURI { seen.append(String(decoding: $0, as: UTF8.self)) }
    #expect(seen == ["m://a", "m://bb"])
    #expect(page.count == 2)
  }
}
