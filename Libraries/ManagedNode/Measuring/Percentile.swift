/// Percentiles as the reference counts them: of n values in ascending order the one at rank ceil(n·p/100), from 1.
public enum Percentile {
  /// 0 when there are no values. Sorts a copy.
  public static func of(_ values: [Double], percent: Double) -> Double {
    guard !values.isEmpty else { return 0 }
    return values.sorted()[rank(percent, of: UInt64(values.count)) - 1]
  }

  /// From 1 to `count`, which is at least 1.
  static func rank(_ percent: Double, of count: UInt64) -> Int {
    let rank = (Double(count) * percent / 100).rounded(.up)
    return Int(min(max(1, rank), Double(count)))
  }

  /// The percentile of values that were only counted: bucket i has those below `firstBound << i` that no earlier bucket
  /// has, the last all the others. 0 when there are none. The unit is that of `firstBound`.
  ///
  /// The value at that rank lies in the bucket that is found, and the answer does too: the values of a bucket are taken
  /// as spread evenly over it. So the answer is less than twice, and more than half, of the true one; in the first
  /// bucket it is off by less than `firstBound`. In the last bucket, which has no end, it is where the bucket begins:
  /// too low, by an amount that nobody knows.
  public static func ofDoublingBuckets(_ counts: [UInt64], percent: Double, firstBound: Double = 256) -> Double {
    var total: UInt64 = 0
    for count in counts { total = total.addingReportingOverflow(count).overflow ? .max : total + count }
    guard total > 0 else { return 0 }
    var left = UInt64(rank(percent, of: min(total, UInt64(1) << 62)))
    var lower = 0.0
    var upper = firstBound
    for (index, count) in counts.enumerated() {
      if left <= count {
        if index == counts.count - 1, index > 0 { return lower }
        return lower + (upper - lower) * (Double(left) - 0.5) / Double(count)
      }
      left -= count
      lower = upper
      upper *= 2
    }
    return lower
  }
}
