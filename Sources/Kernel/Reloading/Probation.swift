import BackplaneABI

/// How a replaced slot does against its predecessor, and whether it has to go back.
enum Probation {
  /// So many calls on either side, before they are compared.
  static let samplesMin: UInt64 = 200
  /// Worse is more than this many times the predecessor's, and this much on top.
  static let factor = 2.0
  static let p99MarginMs = 5.0
  static let errorRatioMargin = 0.01

  struct Limits {
    /// 0: nobody is on probation.
    var windowMs: Int
    var calls: Int
  }

  enum Verdict {
    case undecided
    case passed
    case failed(Figures)
  }

  /// What the verdict rests on.
  struct Figures: Equatable, Sendable {
    /// What regressed: `errors`, or the p99 of an operation.
    var measure: String
    var value: Double
    var valueBefore: Double
    var samples: UInt64
    var samplesBefore: UInt64

    /// One clause for a person.
    var clause: String {
      func shown(_ value: Double) -> String {
        measure == "errors" ? "\(rounded(value * 100)) %" : "\(rounded(value)) ms"
      }
      let what = measure == "errors" ? "the share of failed calls" : "the p99 of \(measure)"
      return "\(what) went from \(shown(valueBefore)) (\(samplesBefore) calls) to \(shown(value)) (\(samples) calls)"
    }

    private func rounded(_ value: Double) -> Double { (value * 100).rounded() / 100 }
  }

  /// The calls of one instance so far.
  struct Sample: Equatable, Sendable {
    struct Calls: Equatable, Sendable {
      var count: UInt64 = 0
      var p99Ms = 0.0
    }
    var calls: [String: Calls] = [:]
    var count: UInt64 = 0
    var errors: UInt64 = 0

    var errorRatio: Double { count == 0 ? 0 : Double(errors) / Double(count) }
  }

  static func judge(
    _ candidate: Sample, against target: Sample, elapsedMs: Int, _ limits: Limits
  ) -> Verdict {
    if candidate.count >= samplesMin, target.count >= samplesMin {
      if candidate.errorRatio > factor * target.errorRatio + errorRatioMargin {
        return .failed(
          Figures(
            measure: "errors", value: candidate.errorRatio, valueBefore: target.errorRatio, samples: candidate.count,
            samplesBefore: target.count))
      }
      for (operation, calls) in candidate.calls.sorted(by: { $0.key < $1.key }) {
        guard let before = target.calls[operation], calls.count >= samplesMin, before.count >= samplesMin,
          calls.p99Ms > factor * before.p99Ms + p99MarginMs
        else { continue }
        return .failed(
          Figures(
            measure: operation, value: calls.p99Ms, valueBefore: before.p99Ms, samples: calls.count,
            samplesBefore: before.count))
      }
    }
    if elapsedMs >= limits.windowMs || candidate.count >= UInt64(limits.calls) { return .passed }
    return .undecided
  }

  /// Codes that say that the plugin, or what is behind it, did not do its work. A record that is not there or a message
  /// that is refused is an answer.
  static func isError(_ code: bp_code) -> Bool {
    switch code {
    case BP_UNKNOWN, BP_DEADLINE_EXCEEDED, BP_RESOURCE_EXHAUSTED, BP_ABORTED, BP_UNIMPLEMENTED, BP_INTERNAL,
      BP_UNAVAILABLE, BP_DATA_LOSS, BP_DURABILITY, BP_CLOSED:
      true
    default: false
    }
  }
}

extension Instance {
  /// What the host has counted of the instance's calls.
  var sample: Probation.Sample {
    var sample = Probation.Sample()
    for operation in [Operation.apply, .read, .scan, .judge] {
      let snapshot = statistics.snapshot(operation)
      let count = snapshot.count
      guard count > 0 else { continue }
      sample.calls[operation.name] = Probation.Sample.Calls(count: count, p99Ms: snapshot.quantileMs(0.99))
      sample.count += count
      for (code, times) in snapshot.codes.enumerated() where Probation.isError(bp_code(code)) { sample.errors += times }
    }
    // A call that was given up is one that failed, whether the plugin completes it some day or not.
    let late = overdue.load(ordering: .relaxed)
    sample.count += late
    sample.errors += late
    return sample
  }
}

extension Statistics.Snapshot {
  /// The quantile in milliseconds, interpolated within its bucket; the last bucket has no upper end and counts as its
  /// lower one.
  func quantileMs(_ quantile: Double) -> Double {
    let total = count
    guard total > 0 else { return 0 }
    let rank = quantile * Double(total)
    var below = 0.0
    for (bucket, number) in buckets.enumerated() where number > 0 {
      let next = below + Double(number)
      if next >= rank {
        let low = bucket == 0 ? 0 : Statistics.boundSeconds(bucket - 1)
        guard bucket < Statistics.bucketCount - 1 else { return low * 1000 }
        let high = Statistics.boundSeconds(bucket)
        return (low + (high - low) * (rank - below) / Double(number)) * 1000
      }
      below = next
    }
    return 0
  }
}
