import Glibc

/// Decides when a file has come to rest (boundary.md, "Time"): nobody should load what a copy is still writing.
///
/// A file whose inode changed longer ago than the window is settled at once; otherwise it must be seen unchanged for the
/// window. It reads no clock and never sleeps: the caller passes the time and waits for as long as it is told.
/// Not for concurrent use; the reconcile queue owns it.
public struct Settle: Sendable {
  /// The time by both clocks: a file's time stamps are wall-clock time, which may jump; waiting is measured by the
  /// monotonic clock, which does not.
  public struct Instant: Equatable, Sendable {
    public var wallNs: Int64
    public var monotonicNs: Int64

    public init(wallNs: Int64, monotonicNs: Int64) {
      self.wallNs = wallNs
      self.monotonicNs = monotonicNs
    }

    public static func now() -> Instant {
      Instant(wallNs: read(CLOCK_REALTIME), monotonicNs: read(CLOCK_MONOTONIC))
    }

    private static func read(_ clock: clockid_t) -> Int64 {
      var time = timespec()
      clock_gettime(clock, &time)
      return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
  }

  public enum Verdict: Equatable, Sendable {
    case settled
    /// Look again after this many milliseconds, at least 1 and at most the window.
    case wait(milliseconds: Int)
  }

  /// 0 accepts every file at once. At most a minute.
  public let windowMs: Int

  private struct Observation {
    var identity: FileIdentity
    var sinceMonotonicNs: Int64
  }
  private var observations: [String: Observation] = [:]

  /// - Parameter windowMs: the setting `settle_ms`; values outside 0...60000 are brought inside.
  public init(windowMs: Int = 250) { self.windowMs = min(max(windowMs, 0), 60_000) }

  public mutating func verdict(_ candidate: PluginCandidate, at now: Instant) -> Verdict {
    let windowNs = Int64(windowMs) * 1_000_000
    let (ageNs, overflow) = now.wallNs.subtractingReportingOverflow(candidate.identity.changedNs)
    if !overflow, ageNs >= windowNs {
      observations[candidate.path] = nil
      return .settled
    }
    // A time stamp of the future (another machine's clock, or ours set back) leaves this second way, so that such a
    // file waits for one window and not until the clock has caught up.
    let known = observations[candidate.path]
    let since = known?.identity == candidate.identity ? known!.sinceMonotonicNs : now.monotonicNs
    let watchedNs = max(0, now.monotonicNs - since)
    if watchedNs >= windowNs {
      observations[candidate.path] = nil
      return .settled
    }
    observations[candidate.path] = Observation(identity: candidate.identity, sinceMonotonicNs: since)
    let remainingNs = min(windowNs - watchedNs, overflow || ageNs < 0 ? .max : windowNs - ageNs)
    return .wait(milliseconds: Int((remainingNs + 999_999) / 1_000_000))
  }

  /// Forgets files that are gone; called after each scan so that memory is bounded by the directory.
  public mutating func keepOnly(_ paths: Set<String>) {
    observations = observations.filter { paths.contains($0.key) }
  }
}
