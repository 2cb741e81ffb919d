import PluginAPI

/// What happened, for the metrics; and how the instance is.
protocol Metering: Sendable {
  func polled(failed: Bool)
  func applied(failed: Bool)
  func reported(_ report: String, failed: Bool)
  func updated(_ outcome: String)
  /// Seconds since the configuration in force was written, and since it was last found in place; nil: there is none.
  func ages(configuration: Double?, unconfirmed: Double)
  /// Nil: it is as it should be.
  func health(_ problem: String?)
}

/// The same, in the host's metrics. Made in `start`.
struct HostMeter: Metering {
  private let context: Context
  private let polls: Counter
  private let pollFailures: Counter
  private let applications: Counter
  private let applicationFailures: Counter
  private let age: Gauge
  private let unconfirmed: Gauge
  private let reports: [String: (all: Counter, failed: Counter)]
  private let updates: [String: Counter]

  init(_ context: Context) {
    self.context = context
    let metrics = context.metrics
    polls = metrics.counter("polls_total", help: "Times that the configuration was asked for.")
    pollFailures = metrics.counter("poll_failures_total", help: "Of which brought none that could be used.")
    applications = metrics.counter("applications_total", help: "Configurations that were proposed to the kernel.")
    applicationFailures = metrics.counter("application_failures_total", help: "Of which were not taken.")
    age = metrics.gauge(
      "configuration_age_seconds", help: "Since the configuration in force was written; 0 without one.", unit: "seconds"
    )
    unconfirmed = metrics.gauge(
      "configuration_unconfirmed_seconds", help: "Since a configuration that can be used was last read.",
      unit: "seconds")
    reports = Dictionary(
      uniqueKeysWithValues: ["status", "metrics"].map { report in
        let labels = [("report", report)]
        return (
          report,
          (
            metrics.counter("reports_total", help: "Reports that were to be written.", labels: labels),
            metrics.counter("report_failures_total", help: "Of which were not written.", labels: labels)
          )
        )
      })
    updates = Dictionary(
      uniqueKeysWithValues: ["announced", "staged", "applied", "failed", "rolled_back"].map {
        (
          $0,
          metrics.counter(
            "updates_total", help: "Updates of software by what became of them.", labels: [("outcome", $0)])
        )
      })
  }

  func polled(failed: Bool) {
    polls.increment()
    if failed { pollFailures.increment() }
  }

  func applied(failed: Bool) {
    applications.increment()
    if failed { applicationFailures.increment() }
  }

  func reported(_ report: String, failed: Bool) {
    reports[report]?.all.increment()
    if failed { reports[report]?.failed.increment() }
  }

  func updated(_ outcome: String) { updates[outcome]?.increment() }

  func ages(configuration: Double?, unconfirmed seconds: Double) {
    age.set(configuration ?? 0)
    unconfirmed.set(seconds)
  }

  func health(_ problem: String?) {
    if let problem { context.health(.degraded, problem) } else { context.health(.healthy) }
  }
}
