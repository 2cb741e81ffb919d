import Foundation
import ManagedNode

/// The table of nodes, one row each, and what became of their numbers while they were watched.
struct NodeTable {
  let subject: ManagedDocument.Subject
  /// With pictures of the last values.
  let hasTrends: Bool
  private var trends: [String: (operations: Sparkline, latency: Sparkline)] = [:]

  init(subject: ManagedDocument.Subject, hasTrends: Bool) {
    self.subject = subject
    self.hasTrends = hasTrends
  }

  /// Remembers the numbers of one look.
  mutating func add(_ findings: [NodeFinding]) {
    guard hasTrends else { return }
    for finding in findings {
      let metrics = finding.metrics
      trends[finding.node.id, default: (Sparkline(), Sparkline())].operations.add(metrics?.opsPerSecond)
      trends[finding.node.id]?.latency.add(metrics.map { max($0.writeLatencyP99Ms, $0.readLatencyP99Ms) })
    }
  }

  var head: [String] {
    let own = subject == .status ? ["STATUS", "HEARTBEAT", "UPTIME", "BACKENDS"] : ["WRITTEN"]
    return ["NODE", "ID"] + own + ["WRITE P50/P99 MS", "READ P50/P99 MS", "OPS/S", "ERRORS", "SIGNATURE"]
      + (hasTrends ? ["OPS/S TREND", "P99 TREND"] : [])
  }

  func row(_ finding: NodeFinding) -> [String] {
    let age = finding.ageMs.map { DurationText.text(milliseconds: $0) + " ago" } ?? "-"
    var cells = [finding.name, String(finding.node.id.prefix(8))]
    if subject == .status {
      cells += [Self.state(finding), age] + Self.life(finding)
    } else {
      cells.append(age + (finding.isStale ? ", stale" : ""))
    }
    cells += Self.numbers(finding.metrics) + [finding.signature.rawValue]
    if hasTrends {
      let trend = trends[finding.node.id]
      cells += [trend?.operations.text ?? "", trend?.latency.text ?? ""]
    }
    return cells
  }

  /// The lines below the table: what is wrong.
  func notes(_ findings: [NodeFinding]) -> [String] {
    findings.compactMap { finding in
      finding.problem.map { Output.printable("\(finding.name) (\(finding.node.id.prefix(8))): \($0)") }
    }
  }

  private static func state(_ finding: NodeFinding) -> String {
    guard case .status(let status) = finding.report else { return "unknown" }
    return status.status.rawValue + (finding.isStale ? ", stale" : "")
  }

  private static func life(_ finding: NodeFinding) -> [String] {
    guard case .status(let status) = finding.report else { return ["-", "-"] }
    let backends = status.backends.map {
      $0.status == NodeStatus.Backend.connected ? $0.type : "\($0.type): \($0.status)"
    }
    return [
      DurationText.text(milliseconds: status.uptimeMs), backends.isEmpty ? "-" : backends.joined(separator: ", "),
    ]
  }

  private static func numbers(_ metrics: NodeMetrics?) -> [String] {
    guard let metrics else { return ["-", "-", "-", "-"] }
    return [
      "\(number(metrics.writeLatencyP50Ms))/\(number(metrics.writeLatencyP99Ms))",
      "\(number(metrics.readLatencyP50Ms))/\(number(metrics.readLatencyP99Ms))", number(metrics.opsPerSecond),
      "\(number(metrics.errorRate * 100)) %",
    ]
  }

  /// Three digits that count; a zero is a zero.
  static func number(_ value: Double) -> String {
    switch abs(value) {
    case 0: "0"
    case ..<0.01: String(format: "%.4f", value)
    case ..<1: String(format: "%.3f", value)
    case ..<10: value == value.rounded() ? String(format: "%.0f", value) : String(format: "%.2f", value)
    case ..<100: value == value.rounded() ? String(format: "%.0f", value) : String(format: "%.1f", value)
    default: String(format: "%.0f", value)
    }
  }
}
