/// What was counted of one kind of operation, since the node began or in a window of time.
public struct CallCounts: Equatable, Sendable {
  public var calls: UInt64
  public var failures: UInt64
  /// Calls by time: bucket i is below 256 ns << i, the last has all above.
  public var buckets: [UInt64]

  public init(calls: UInt64 = 0, failures: UInt64 = 0, buckets: [UInt64] = []) {
    self.calls = calls
    self.failures = failures
    self.buckets = buckets
  }

  /// What was counted between two looks at the same counters. Counters that went back have begun anew: then it is what
  /// they say now.
  public func since(_ earlier: CallCounts) -> CallCounts {
    guard calls >= earlier.calls, failures >= earlier.failures, buckets.count >= earlier.buckets.count,
      zip(buckets, earlier.buckets).allSatisfy({ $0 >= $1 })
    else { return self }
    var window = self
    window.calls -= earlier.calls
    window.failures -= earlier.failures
    for (index, count) in earlier.buckets.enumerated() { window.buckets[index] -= count }
    return window
  }

  /// Of two kinds of operation together.
  public static func + (one: CallCounts, other: CallCounts) -> CallCounts {
    var sum = one
    sum.calls &+= other.calls
    sum.failures &+= other.failures
    // The last bucket has no end, so lists of different lengths cannot be added bucket by bucket.
    if sum.buckets.isEmpty { sum.buckets = other.buckets }
    guard !one.buckets.isEmpty, one.buckets.count == other.buckets.count else { return sum }
    for (index, count) in other.buckets.enumerated() { sum.buckets[index] &+= count }
    return sum
  }

  /// Milliseconds; see `Percentile.ofDoublingBuckets` for how far off it may be.
  public func percentileMs(_ percent: Double) -> Double {
    Percentile.ofDoublingBuckets(buckets, percent: percent) / 1_000_000
  }
}
