import Synchronization

extension Feed {
  var status: Kernel.Status.Feed {
    let report = report
    return Kernel.Status.Feed(subscriptions: report.subscriptions, records: report.records, bytes: report.sizeBytes)
  }
}

/// What the feed shows of itself.
enum FeedMetrics {
  static func add(_ feed: Feed, _ metrics: inout MetricsText) {
    let report = feed.report
    metrics.gauge(
      "backplane_feed_subscriptions", help: "Open subscriptions to the feed (at most feed.subscriptions_max).",
      Double(report.subscriptions))
    metrics.counter(
      "backplane_feed_subscriptions_refused", help: "Subscriptions that the node did not take.",
      feed.counts.refused.load(ordering: .relaxed))
    metrics.gauge(
      "backplane_feed_ring_records", help: "Accepted writes that the feed keeps (at most feed.records_max).",
      Double(report.records))
    metrics.gauge(
      "backplane_feed_ring_bytes", help: "What they take (at most feed.size_bytes_max).", unit: "bytes",
      Double(report.sizeBytes))
    metrics.counter(
      "backplane_feed_records", help: "Accepted writes that went into the feed.",
      feed.counts.records.load(ordering: .relaxed))
    metrics.counter(
      "backplane_feed_items", help: "Items handed to subscriptions.", feed.counts.delivered.load(ordering: .relaxed))
    metrics.counter(
      "backplane_feed_gaps", help: "Items among them that told of a gap.", feed.counts.gaps.load(ordering: .relaxed))
  }
}
