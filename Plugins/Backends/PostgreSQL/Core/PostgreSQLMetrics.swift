import BackendSupport
import PluginAPI

/// Time series of a PostgreSQL backend.
struct PostgreSQLMetrics: Sendable {
  let commits: CommitMetrics
  let reads: Counter
  let readBatches: Counter
  let disconnects: Counter
  let reconnects: Counter

  /// In `start` only (core.h).
  init(_ metrics: Metrics) {
    commits = CommitMetrics(metrics)
    reads = metrics.counter("reads_total", help: "Records asked for")
    readBatches = metrics.counter("read_batches_total", help: "Round trips for reads; reads_total by this share one")
    disconnects = metrics.counter("disconnects_total", help: "Connections that broke")
    reconnects = metrics.counter("reconnects_total", help: "Connections made again")
  }
}
