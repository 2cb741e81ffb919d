/// What peers come to, as metrics.
enum PeerMetrics {
  static func add(_ report: PeerReport, _ labels: [(String, String)], _ metrics: inout MetricsText) {
    if let push = report.push { add(push, labels, &metrics) }
    if let pull = report.pull { add(pull, labels, &metrics) }
  }

  private static func add(_ push: PushReport, _ labels: [(String, String)], _ metrics: inout MetricsText) {
    metrics.gauge(
      "backplane_peer_queue_units",
      help: "Accepted messages that the peer does not have yet (at most push.queue_units_max, and those on their way).",
      labels: labels, Double(push.units))
    metrics.gauge(
      "backplane_peer_queue_bytes", help: "What they take (at most push.queue_size_bytes_max, likewise).",
      unit: "bytes",
      labels: labels, Double(push.bytes))
    let nowMs = Clock.wallMs()
    metrics.gauge(
      "backplane_peer_queue_lag_seconds", help: "How long the oldest of them has been waiting.", unit: "seconds",
      labels: labels, push.oldestMs.map { nowMs > $0 ? Double(nowMs - $0) / 1000 : 0 } ?? 0)
    metrics.counter("backplane_peer_pushed", help: "Messages that the peer has taken.", labels: labels, push.pushed)
    metrics.counter(
      "backplane_peer_push_dropped", help: "Messages that were dropped because the queue was full.", labels: labels,
      push.dropped)
    metrics.counter(
      "backplane_peer_push_refused", help: "Messages that the peer refused for good.", labels: labels, push.refused)
    metrics.counter(
      "backplane_peer_push_retried", help: "Attempts that failed and were made again.", labels: labels, push.retried)
  }

  private static func add(_ pull: PullReport, _ labels: [(String, String)], _ metrics: inout MetricsText) {
    let results = [
      ("hit", pull.hits), ("miss", pull.misses), ("timeout", pull.timeouts), ("failure", pull.failures),
      ("skipped", pull.skipped),
    ]
    for (result, count) in results {
      metrics.counter(
        "backplane_peer_pulls",
        help: "Records that were asked of the peer, or not because it was away, by what came of it.",
        labels: labels + [("result", result)], count)
    }
  }
}
