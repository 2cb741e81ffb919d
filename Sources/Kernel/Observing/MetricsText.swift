import BackplaneABI
import Synchronization

/// OpenMetrics text. Families are gathered first, because all series of one family must stand together.
struct MetricsText {
  private struct Family {
    var type: String
    var help: String
    var unit: String
    var lines: [String] = []
  }

  private var families: [String: Family] = [:]
  private var order: [String] = []

  mutating func add(
    _ name: String, type: String, help: String, unit: String = "", labels: [(String, String)] = [], suffix: String = "",
    _ value: Double
  ) {
    if families[name] == nil {
      families[name] = Family(type: type, help: help, unit: unit)
      order.append(name)
    }
    let text = labels.map { "\($0.0)=\"\(MetricsText.escaped($0.1))\"" }.joined(separator: ",")
    families[name]!.lines.append("\(name)\(suffix)\(text.isEmpty ? "" : "{\(text)}") \(MetricsText.number(value))")
  }

  mutating func counter(_ name: String, help: String, labels: [(String, String)] = [], _ value: UInt64) {
    add(name, type: "counter", help: help, labels: labels, suffix: "_total", Double(value))
  }

  mutating func gauge(
    _ name: String, help: String, unit: String = "", labels: [(String, String)] = [], _ value: Double
  ) {
    add(name, type: "gauge", help: help, unit: unit, labels: labels, value)
  }

  /// `bounds` without the last, infinite one; `buckets` not yet cumulative.
  mutating func histogram(
    _ name: String, help: String, unit: String, labels: [(String, String)], bounds: [Double], buckets: [UInt64],
    count: UInt64, sum: Double
  ) {
    var running: UInt64 = 0
    for (bound, bucket) in zip(bounds, buckets) {
      running += bucket
      add(
        name, type: "histogram", help: help, unit: unit, labels: labels + [("le", MetricsText.number(bound))],
        suffix: "_bucket", Double(running))
    }
    add(
      name, type: "histogram", help: help, unit: unit, labels: labels + [("le", "+Inf")], suffix: "_bucket",
      Double(count))
    add(name, type: "histogram", help: help, unit: unit, labels: labels, suffix: "_sum", sum)
    add(name, type: "histogram", help: help, unit: unit, labels: labels, suffix: "_count", Double(count))
  }

  var text: String {
    var result = ""
    for name in order {
      let family = families[name]!
      result += "# TYPE \(name) \(family.type)\n"
      if !family.unit.isEmpty { result += "# UNIT \(name) \(family.unit)\n" }
      result += "# HELP \(name) \(MetricsText.escaped(family.help))\n"
      for line in family.lines { result += line + "\n" }
    }
    return result + "# EOF\n"
  }

  private static func escaped(_ text: String) -> String {
    var result = ""
    for character in text.unicodeScalars {
      switch character {
      case "\\": result += "\\\\"
      case "\"": result += "\\\""
      case "\n": result += "\\n"
      default: result.unicodeScalars.append(character)
      }
    }
    return result
  }

  static func number(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
  }
}
