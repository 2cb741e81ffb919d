import JSONText
import PluginAPI

/// What the node says of itself: health, readiness, programs, metrics.
extension Connection {
  fileprivate struct Report {
    var state = BP_HEALTH_HEALTHY
    var isReady = true
    /// Schemes of the backends, in configured order.
    var schemes: [String] = []
    /// "slot: sentence" of every slot that is not healthy.
    var complaints: [String] = []
  }

  private func health() -> Report {
    var report = Report()
    guard let observe = loop.table.observe else {
      report.state = BP_HEALTH_UNHEALTHY
      report.isReady = false
      report.complaints = ["this host has no backplane.observe/1"]
      return report
    }
    var state = BP_HEALTH_HEALTHY
    let flags = withUnsafeMutablePointer(to: &report) { pointer in
      observe.pointee.health(loop.table.host.instance, &state, pointer) { context, slot in
        guard let context, let slot else { return }
        context.assumingMemoryBound(to: Report.self).pointee.add(slot.pointee)
      }
    }
    report.state = state
    report.isReady = flags & BP_READY != 0
    return report
  }

  /// `backends` is what the peer's own tests and documentation expect of its node.
  func answerHealth() {
    let report = health()
    var body = Array("{\"status\":".utf8)
    switch report.state {
    case BP_HEALTH_HEALTHY: body.append(contentsOf: "\"healthy\"".utf8)
    case BP_HEALTH_DEGRADED: body.append(contentsOf: "\"degraded\"".utf8)
    default: body.append(contentsOf: "\"unhealthy\"".utf8)
    }
    if report.state != BP_HEALTH_HEALTHY {
      body.append(contentsOf: ",\"message\":".utf8)
      let message = report.complaints.isEmpty ? "the node is not healthy" : report.complaints.joined(separator: "; ")
      JSONWriter.appendString(message, to: &body)
    }
    body.append(contentsOf: ",\"backends\":".utf8)
    Self.append(report.schemes, to: &body)
    body.append(UInt8(ascii: "}"))
    // A degraded node serves: taking it out of rotation would make a small failure a big one.
    answerJSON(report.state > BP_HEALTH_DEGRADED ? 503 : 200, body)
  }

  func answerReady() {
    let report = health()
    if report.isReady { return answerJSON(200, "{\"status\":\"ready\"}") }
    var body = Array("{\"status\":\"not ready\",\"reasons\":".utf8)
    Self.append(report.complaints.isEmpty ? ["the node is starting"] : report.complaints, to: &body)
    body.append(UInt8(ascii: "}"))
    answerJSON(503, body, retryAfterSeconds: 1)
  }

  func answerSchema() {
    var keys: [String] = []
    withUnsafeMutablePointer(to: &keys) { pointer in
      loop.table.node.pointee.programs(loop.table.host.instance, pointer) { context, key in
        context?.assumingMemoryBound(to: [String].self).pointee.append(key.text)
      }
    }
    var body = Array("{\"schema\":".utf8)
    Self.append(keys, to: &body)
    body.append(UInt8(ascii: "}"))
    answerJSON(200, body)
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

  private static func append(_ texts: [String], to body: inout [UInt8]) {
    body.append(UInt8(ascii: "["))
    for (index, text) in texts.enumerated() {
      if index > 0 { body.append(UInt8(ascii: ",")) }
      JSONWriter.appendString(text, to: &body)
    }
    body.append(UInt8(ascii: "]"))
  }
}

extension Connection.Report {
  fileprivate mutating func add(_ slot: bp_slot_health) {
    if slot.kind.equals("backend"), slot.scheme.size > 0 { schemes.append(slot.scheme.text) }
    if slot.state != BP_HEALTH_HEALTHY {
      let message = slot.message.text
      complaints.append("\(slot.slot.text): \(message.isEmpty ? "not healthy" : message)")
    }
  }
}
