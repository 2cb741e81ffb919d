/// What is counted of a process that hosts a plugin.
enum IsolationMetrics {
  static func add(_ counts: ProxyPlugin.Counts, _ labels: [(String, String)], _ metrics: inout MetricsText) {
    metrics.gauge(
      "backplane_isolation_up", help: "1 while the plugin's process serves.", labels: labels, counts.isUp ? 1 : 0)
    metrics.counter(
      "backplane_isolation_crashes", help: "Ends of the plugin's process that nobody asked for.", labels: labels,
      counts.crashes)
    metrics.counter(
      "backplane_isolation_restarts", help: "Processes that took the place of one that crashed.", labels: labels,
      counts.restarts)
    metrics.gauge(
      "backplane_isolation_breaker_open", help: "1 while it rests because it kept crashing.", labels: labels,
      counts.isBreakerOpen ? 1 : 0)
    metrics.gauge(
      "backplane_isolation_waiting_bytes", help: "Bytes that wait for the process.", unit: "bytes", labels: labels,
      Double(counts.waitingBytes))
    metrics.counter(
      "backplane_isolation_refused_calls", help: "Calls refused because too many bytes waited.", labels: labels,
      counts.refused)
  }
}
