import PluginAPI

/// Time series of the requests to the remote.
struct RemoteMetrics: Sendable {
  private let requests: Counter
  private let failures: Counter
  private let seconds: Histogram
  let retries: Counter
  let loopsCut: Counter

  /// In `start` only (core.h).
  init(_ metrics: Metrics) {
    requests = metrics.counter("remote_requests_total", help: "Requests to the other node, failed ones included")
    failures = metrics.counter(
      "remote_failures_total", help: "Requests that the other node did not answer, or answered with 5xx")
    retries = metrics.counter(
      "remote_retries_total", help: "Requests sent again because the other node had closed an idle connection")
    loopsCut = metrics.counter("loops_cut_total", help: "Requests that came back and were not sent on again")
    seconds = metrics.histogram(
      "remote_request_seconds", help: "From the request to the whole of its answer, waiting included", unit: "seconds")
  }

  func ended(_ result: Result<RemoteAnswer, Failure>, seconds time: Double) {
    requests.increment()
    seconds.observe(time)
    switch result {
    case .success(let answer): if answer.status >= 500 { failures.increment() }
    case .failure: failures.increment()
    }
  }
}
