import Testing

@testable import ManagedNode

@Suite struct Measuring {
  /// Buckets as the node has them.
  private func buckets(_ values: [Double], count: Int = 32) -> [UInt64] {
    var buckets = [UInt64](repeating: 0, count: count)
    for value in values {
      var index = 0
      while index < count - 1, value >= 256 * Double(UInt64(1) << UInt64(index)) { index += 1 }
      buckets[index] += 1
    }
    return buckets
  }

  @Test func percentilesOfBucketsKeepTheirBound() {
    var random = SeededGenerator(seed: 7)
    for round in 0..<200 {
      let spread = Double.random(in: 1...12, using: &random)
      let values = (0..<Int.random(in: 1...400, using: &random)).map { _ in
        300 * Double.random(in: 0...spread, using: &random) * Double.random(in: 1...1000, using: &random)
      }
      for percent in [0.0, 1, 50, 90, 99, 100] {
        let truth = Percentile.of(values, percent: percent)
        let estimate = Percentile.ofDoublingBuckets(buckets(values), percent: percent)
        if truth < 256 {
          #expect(estimate >= 0 && estimate < 256, "round \(round)")
        } else {
          #expect(estimate < 2 * truth && estimate > truth / 2, "round \(round), \(percent)%: \(truth) as \(estimate)")
        }
      }
    }
  }

  @Test func percentilesOfBucketsAtTheirEnds() {
    #expect(Percentile.ofDoublingBuckets([], percent: 50) == 0)
    #expect(Percentile.ofDoublingBuckets([0, 0], percent: 50) == 0)
    #expect(Percentile.ofDoublingBuckets([1], percent: 50) == 128)
    #expect(Percentile.ofDoublingBuckets([0, 2, 0], percent: 50) == 320)
    // The last has no end: where it begins.
    #expect(Percentile.ofDoublingBuckets([0, 0, 5], percent: 99) == 512)
    #expect(Percentile.ofDoublingBuckets([.max, .max, 5], percent: 100) > 0)
  }

  @Test func windowsAreDifferences() {
    let earlier = CallCounts(calls: 10, failures: 1, buckets: [4, 6])
    let later = CallCounts(calls: 15, failures: 1, buckets: [4, 11])
    #expect(later.since(earlier) == CallCounts(calls: 5, failures: 0, buckets: [0, 5]))
    // The node began anew.
    #expect(earlier.since(later) == earlier)
    #expect(
      earlier + CallCounts(calls: 1, failures: 1, buckets: [1, 0])
        == CallCounts(calls: 11, failures: 2, buckets: [5, 6]))
    #expect(CallCounts() + later == later && later + CallCounts() == later)
  }

  @Test func metricsOfAWindow() {
    let writes = CallCounts(calls: 30, failures: 3, buckets: [0, 0, 0, 30, 0])
    let metrics = NodeMetrics(writes: writes, reads: CallCounts(), elapsedSeconds: 20)
    #expect(metrics.opsPerSecond == 2)
    #expect(metrics.errorRate == 0.1)
    #expect(metrics.writeLatencyP50Ms > 0.001_024 && metrics.writeLatencyP50Ms < 0.002_048)
    #expect(metrics.readLatencyP50Ms == 0)
    // A window that has just begun counts as a second.
    #expect(NodeMetrics(writes: writes, reads: CallCounts(), elapsedSeconds: 0.01).opsPerSecond == 30)
    #expect(NodeMetrics(writes: CallCounts(), reads: CallCounts(), elapsedSeconds: 0) == NodeMetrics())
  }
}
