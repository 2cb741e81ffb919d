import ListQuery
import PluginAPI
import PluginTestHost

/// Lists by every rule of paging, pattern and order, against a plain model of them.
struct ListChecks {
  let traces: NamedTraces
  init(_ traces: NamedTraces) { self.traces = traces }

  private static let randomCount = 250
  private static let pages = [1, 1, 2, 3, 7, 0, -1, 1_000, .max]
  private static let limits = [1, 2, 3, 10, 50, 1_000, 0, -1, .max]
  private static let bases = TraceRun.roots.flatMap { root in
    ["", "/", "/a", "/a/", "/a/b", "-b", "/ab", "/nothing"].map { root + $0 }
  }

  func run(_ traits: BackendTraits) async {
    await traces.check("backend.list") { trace in
      ListChecks.fill(&trace)
      let root = TraceRun.roots[0]
      for pattern in [nil] + ListPattern.all.indices.map(Optional.some) {
        for sortBy in [.none, .name, .timestamp] as [ListQuery.SortKey] {
          for isDescending in [false, true] {
            trace.steps.append(
              .list(ListCase(base: root, limit: 1_000, pattern: pattern, sortBy: sortBy, isDescending: isDescending)))
          }
        }
      }
      for page in ListChecks.pages {
        for limit in ListChecks.limits {
          trace.steps.append(.list(ListCase(base: root, page: page, limit: limit, sortBy: .name)))
          trace.steps.append(.list(ListCase(base: root, page: page, limit: limit, credits: 7)))
        }
      }
    }
    await traces.bench.recording.check("backend.list-model") {
      var random = SeededGenerator(seed: traces.bench.seed)
      var trace = Trace()
      ListChecks.fill(&trace)
      for _ in 0..<ListChecks.randomCount {
        if random.oneIn(6) {
          // Records move to the end of the timestamps, come and go.
          let uri = RandomTrace.uris.randomElement(using: &random)!
          if random.oneIn(2) { trace.put(uri) } else { trace.delete(uri) }
        }
        trace.steps.append(.list(ListChecks.any(&random)))
      }
      try await traces.shrinker.expect(trace, seed: traces.bench.seed)
      return "\(ListChecks.randomCount) lists"
    }
  }

  static func any(_ random: inout SeededGenerator) -> ListCase {
    ListCase(
      base: bases.randomElement(using: &random)!, page: pages.randomElement(using: &random)!,
      limit: limits.randomElement(using: &random)!,
      pattern: random.oneIn(2) ? nil : ListPattern.all.indices.randomElement(using: &random),
      sortBy: [.none, .name, .timestamp].randomElement(using: &random)!, isDescending: random.oneIn(2),
      credits: [1, 3, 50, 1_024].randomElement(using: &random)!)
  }

  /// Names whose order is easily got wrong, put in an order that is no order of theirs.
  private static func fill(_ trace: inout Trace) {
    let tails = [
      "a", "B", "b", "A", "aa", "a-b", "a_b", "a/b", "a/B", "10", "9", "1", "%20", "~", "$", "z", "a.b", "a/b/c",
    ]
    for root in TraceRun.roots {
      for tail in tails { trace.put("\(root)/\(tail)", "\"\(tail)\"") }
      for index in 0..<10 { trace.put("\(root)/many/\(index * 7 % 10)") }
    }
    for uri in RandomTrace.uris { trace.put(uri) }
    // Out of the order of insertion.
    trace.put("\(TraceRun.roots[0])/b", "\"again\"")
    // The same time for several records.
    for tail in ["b/1", "a/1", "c/1"] {
      trace.steps.append(.apply([.put("\(TraceRun.roots[0])/\(tail)", [0x31])], stamp: 3))
    }
  }
}
