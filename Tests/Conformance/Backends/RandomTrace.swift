import PluginAPI

/// Makes traces that meet often: few URIs, many conditions, prefixes that nearly match.
struct RandomTrace {
  static let uris: [String] = TraceRun.roots.flatMap { root in
    ["", "/a", "/b", "/a/a", "/a/b", "/a/b/c", "/ab", "/a%20b", "/a%2Fb", "/A", "/a.b", "/z~", "-b/a", "/%E2%82%AC"]
      .map { root + $0 }
  }
  static let prefixes: [String] = [
    "", "mutable://", "mutable://conformance", "mutable://conformance/", "mutable://conformance/a",
    "mutable://conformance/a/", "mutable://conformance/a%", "mutable://conformance/nothing", "link://conformance/a/b",
    "mutable://conformance-", "l",
  ]

  /// `traits`: what the backend says it can do; more is not asked of it.
  static func make(stepsCount: Int, _ traits: BackendTraits, seed: UInt64) -> Trace {
    var random = SeededGenerator(seed: seed)
    var model = Model(keepsVersions: traits.keepsVersions)
    var trace = Trace()
    for number in 1...stepsCount {
      switch Int.random(in: 0..<20, using: &random) {
      case 0..<10:
        let ops = (0..<(traits.isAtomic ? Int.random(in: 1...4, using: &random) : 1)).map { _ in
          op(model, traits, &random)
        }
        _ = model.apply(ops, stamp: UInt64(number))
        trace.steps.append(.apply(ops, stamp: UInt64(number)))
      case 10..<17: trace.steps.append(.read(uris.randomElement(using: &random)!))
      case 17: trace.steps.append(.readWithoutData(uris.randomElement(using: &random)!))
      case 18: trace.steps.append(.list(ListChecks.any(&random)))
      default:
        trace.steps.append(
          .scan(
            prefix: prefixes.randomElement(using: &random)!, credits: [1, 2, 3, 7, 100].randomElement(using: &random)!))
      }
    }
    return trace
  }

  private static func op(_ model: Model, _ traits: BackendTraits, _ random: inout SeededGenerator) -> Op {
    let uri = uris.randomElement(using: &random)!
    let condition: Condition =
      switch Int.random(in: 0..<9, using: &random) {
      case _ where traits.isRemote: .any
      case 0: .absent
      case 1: .present
      case 2 where model.keepsVersions: .version(model.records[uri]?.version ?? 1)
      case 3 where model.keepsVersions: .version(1)
      default: .any
      }
    if random.oneIn(3) { return .delete(uri, if: condition) }
    let data = random.bytes(random.oneIn(5) ? 0 : Int.random(in: 1...60, using: &random))
    // JSON is checked before it comes to a backend.
    return random.oneIn(2) ? .put(uri, data, .bytes, if: condition) : .put(uri, Array("\(data)".utf8), if: condition)
  }
}
