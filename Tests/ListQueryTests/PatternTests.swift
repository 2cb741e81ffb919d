import ListQuery
import Testing

@Suite struct PatternTests {
  private let records: [(uri: String, ts_ms: Int64)] = [
    ("mutable://lst/b", 1), ("mutable://lst/B2", 2), ("mutable://lst/%C3%A9", 3), ("mutable://lst/a/x", 4),
  ]

  @Test(arguments: [
    ("b$", ["mutable://lst/b"]),
    ("B", ["mutable://lst/B2"]),
    ("\\d$", ["mutable://lst/B2", "mutable://lst/%C3%A9"]),
    ("^mutable:\\/\\/lst/[^/]*$", ["mutable://lst/b", "mutable://lst/B2", "mutable://lst/%C3%A9"]),
    ("(?<=a/)x|C3", ["mutable://lst/%C3%A9", "mutable://lst/a/x"]),
    ("é", []),
  ])
  func matchesAnywhereInTheWholeURI(pattern: String, expected: [String]) throws {
    let page = try collect(ListQuery(limit: 1000, pattern: pattern), records)
    #expect(page.uris == expected)
    #expect(page.total == expected.count)
  }

  @Test(arguments: ["(", "[", "a**", "(?<", "\\", "(?<=a*)b", "x{2,1}", "*"])
  func anInvalidPatternIsNoCollector(pattern: String) throws {
    #expect(try ListCollector(ListQuery(pattern: pattern)) == nil)
  }

  @Test func anEmptyPatternMatchesEverything() throws {
    #expect(try collect(ListQuery(pattern: ""), records).total == 4)
  }

  @Test func aPatternThatIsTooLongIsRefused() {
    #expect(throws: ListError.patternTooLong(length: 5000, patternBytesMax: 4096)) {
      try ListCollector(ListQuery(pattern: String(repeating: "a", count: 5000)))
    }
  }

  @Test func anExponentialPatternEndsByTheClock() {
    let slow = [(uri: "mutable://lst/" + String(repeating: "a", count: 60) + "!", ts_ms: Int64(0))]
    let bounds = ListBounds(patternTime_ms: 30, patternStepsMax: Int32.max)
    let clock = ContinuousClock()
    let time = clock.measure {
      #expect(throws: ListError.patternTooSlow(patternTime_ms: 30, patternStepsMax: Int32.max)) {
        try collect(ListQuery(pattern: "(a+)+$"), slow, bounds: bounds)
      }
    }
    #expect(time >= .milliseconds(30) && time < .seconds(10))
  }

  @Test func anExponentialPatternEndsByItsSteps() {
    let slow = [(uri: "mutable://lst/" + String(repeating: "a", count: 60) + "!", ts_ms: Int64(0))]
    let bounds = ListBounds(patternTime_ms: 600_000, patternStepsMax: 3)
    #expect(throws: ListError.patternTooSlow(patternTime_ms: 600_000, patternStepsMax: 3)) {
      try collect(ListQuery(pattern: "(a+)+$"), slow, bounds: bounds)
    }
  }

  @Test func aQuadraticSearchEndsByTheClock() {
    let long = [(uri: "mutable://lst/" + String(repeating: "a", count: 2_000_000), ts_ms: Int64(0))]
    let bounds = ListBounds(patternTime_ms: 30, patternStepsMax: Int32.max)
    #expect(throws: ListError.patternTooSlow(patternTime_ms: 30, patternStepsMax: Int32.max)) {
      try collect(ListQuery(pattern: "[a-z]*\\d"), long, bounds: bounds)
    }
  }

  @Test func theTimeIsForAllRecordsTogether() {
    let slow = (0..<2000).map {
      (uri: "mutable://lst/" + String(repeating: "a", count: 14) + "!\($0)", ts_ms: Int64(0))
    }
    #expect(throws: ListError.patternTooSlow(patternTime_ms: 20, patternStepsMax: 1000)) {
      try collect(ListQuery(pattern: "(a+)+$"), slow, bounds: ListBounds(patternTime_ms: 20))
    }
  }

  @Test func theStackIsBounded() {
    let long = [(uri: "mutable://lst/" + String(repeating: "ab", count: 200_000), ts_ms: Int64(0))]
    #expect(throws: ListError.patternNeedsTooMuchStack(patternStackBytesMax: 65536)) {
      try collect(ListQuery(pattern: "(a|b|c)*$"), long, bounds: ListBounds(patternStackBytesMax: 65536))
    }
  }

  @Test func oddPatternsNeverCrash() throws {
    var state: UInt64 = 99
    let pieces = Array("()[]{}*+?|^$\\.-,:<>=!&#aB01dwpPQEk \u{0}é😀").map(String.init)
    var valid = 0
    for _ in 0..<4000 {
      var pattern = ""
      for _ in 0..<(1 + Int(state >> 33) % 12) {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        pattern += pieces[Int(state >> 33) % pieces.count]
      }
      guard let collector = try ListCollector(ListQuery(pattern: pattern)) else { continue }
      valid += 1
      try Array("mutable://lst/aB01é".utf8).withUnsafeBufferPointer { try collector.add(uri: $0, ts_ms: 0) }
    }
    #expect(valid > 100)
  }
}
