import Synchronization

/// What came of asking one peer for records, and whether it is asked now: after failures in a row it is left alone for a
/// while, so that not every miss waits for a peer that is not there.
final class PullRecord: Sendable {
  /// So many rounds without an answer, one after the other, and it is left alone.
  static let failuresMax = 3
  static let restNsMin: UInt64 = 1_000_000_000
  static let restNsMax: UInt64 = 30_000_000_000

  let hits = Atomic<UInt64>(0)
  let misses = Atomic<UInt64>(0)
  let timeouts = Atomic<UInt64>(0)
  let failures = Atomic<UInt64>(0)
  let skipped = Atomic<UInt64>(0)

  private struct State {
    var failures = 0
    /// 0: it is not left alone.
    var restNs: UInt64 = 0
    var untilNs: UInt64 = 0
    /// One round finds out whether it is back.
    var isTrying = false
  }
  private let state = Mutex(State())

  /// Whether a round may begin; `ended` must follow.
  func mayAsk(nowNs: UInt64) -> Bool {
    state.withLock { state in
      guard state.restNs > 0 else { return true }
      guard nowNs >= state.untilNs, !state.isTrying else { return false }
      state.isTrying = true
      return true
    }
  }

  /// A round has ended.
  ///
  /// - Parameter hasAnswered: with records or without. Nil: it was given up for a reason of ours, which says nothing.
  func ended(_ hasAnswered: Bool?, nowNs: UInt64) {
    state.withLock { state in
      state.isTrying = false
      switch hasAnswered {
      case nil: break
      case true?: state = State()
      case false?:
        state.failures += 1
        guard state.failures >= PullRecord.failuresMax else { return }
        state.restNs = state.restNs == 0 ? PullRecord.restNsMin : min(state.restNs * 2, PullRecord.restNsMax)
        state.untilNs = nowNs + state.restNs
      }
    }
  }

  /// It is left alone now.
  var isPaused: Bool { state.withLock { $0.restNs > 0 } }

  /// For the process that takes this one's place.
  var counts: [UInt64] {
    [
      hits.load(ordering: .relaxed), misses.load(ordering: .relaxed), timeouts.load(ordering: .relaxed),
      failures.load(ordering: .relaxed), skipped.load(ordering: .relaxed),
    ]
  }

  func add(_ counts: [UInt64]) {
    guard counts.count == 5 else { return }
    hits.add(counts[0], ordering: .relaxed)
    misses.add(counts[1], ordering: .relaxed)
    timeouts.add(counts[2], ordering: .relaxed)
    failures.add(counts[3], ordering: .relaxed)
    skipped.add(counts[4], ordering: .relaxed)
  }

  var report: PullReport {
    PullReport(
      hits: hits.load(ordering: .relaxed), misses: misses.load(ordering: .relaxed),
      timeouts: timeouts.load(ordering: .relaxed), failures: failures.load(ordering: .relaxed),
      skipped: skipped.load(ordering: .relaxed), isPaused: isPaused)
  }
}
