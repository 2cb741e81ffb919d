import PluginAPI
import TransportSupport

/// What the node says of itself: health, readiness, programs, metrics.
extension Connection {
  func answerHealth() {
    let report = NodeReport(loop.table)
    // A degraded node serves: taking it out of rotation would make a small failure a big one.
    answerJSON(report.state > BP_HEALTH_DEGRADED ? 503 : 200, report.healthObject())
  }

  func answerReady() {
    let report = NodeReport(loop.table)
    if report.isReady { return answerJSON(200, "{\"status\":\"ready\"}") }
    var body = Array("{\"status\":\"not ready\",\"reasons\":".utf8)
    NodeReport.append(report.complaints.isEmpty ? ["the node is starting"] : report.complaints, to: &body)
    body.append(UInt8(ascii: "}"))
    answerJSON(503, body, retryAfterSeconds: 1)
  }

  func answerSchema() {
    answerJSON(200, Array("{\"schema\":".utf8) + NodeReport.programs(loop.table) + Array("}".utf8))
  }

  func answerMetrics() {
    guard let observe = loop.table.observe else { return answerText(404, "404 Not Found") }
    var text: [UInt8] = []
    withUnsafeMutablePointer(to: &text) { pointer in
      observe.pointee.metrics(
        loop.table.host.instance,
        bp_sink(
          context: pointer,
          write: { context, view in
            context?.assumingMemoryBound(to: [UInt8].self).pointee.append(contentsOf: view.bytes)
          }))
    }
    answer(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", bodyLength: text.count) {
      $0.put(text)
    }
  }
}
