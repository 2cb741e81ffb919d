import PluginAPI

/// Time series of a backend's commits.
public struct CommitMetrics: Sendable {
  private let commits: Counter
  private let units: Counter
  private let seconds: Histogram

  /// In `start` only (core.h).
  public init(_ metrics: Metrics) {
    commits = metrics.counter("commits_total", help: "Transactions committed")
    units = metrics.counter("units_total", help: "Units committed; divided by commits_total, how many share a commit")
    seconds = metrics.histogram("commit_seconds", help: "From the first unit of a batch to its commit", unit: "seconds")
  }

  /// One transaction of `count` units took `time` seconds.
  public func committed(_ count: Int, seconds time: Double) {
    commits.increment()
    units.add(Double(count))
    seconds.observe(time)
  }
}
