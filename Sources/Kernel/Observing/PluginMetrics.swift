import BackplaneABI
import Synchronization

/// The time series that an instance has defined.
final class PluginMetrics: Sendable {
  /// core.h: at most 256 for each instance.
  static let seriesMax = 256

  struct Series: Sendable {
    var name: String
    var help: String
    var unit: String
    var type: UInt32
    var labels: [(String, String)]
    var value = 0.0
    var count: UInt64 = 0
    var buckets: [UInt64] = []
  }

  private let series = Mutex<[Series]>([])
  /// What series that are not defined yet go on from.
  private let bases = Mutex<[UpgradeCounters.Series]>([])

  /// Seconds from 1 ms to 100 s, or bytes from 64 to 64 Mi, in steps of about three.
  static func bounds(_ unit: String) -> [Double] {
    unit == "bytes"
      ? [64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864]
      : [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]
  }

  func define(_ metric: bp_metric, _ handle: UnsafeMutablePointer<UInt32>) -> bp_code {
    let name = metric.name.text
    guard PluginMetrics.isName(name) else { return BP_INVALID_ARGUMENT }
    let labels = (0..<Int(metric.labels_count)).map { index in
      (metric.labels![index].key.text, metric.labels![index].value.text)
    }
    guard labels.allSatisfy({ PluginMetrics.isName($0.0) }) else { return BP_INVALID_ARGUMENT }
    return series.withLock { series in
      guard series.count < PluginMetrics.seriesMax else { return BP_RESOURCE_EXHAUSTED }
      var made = Series(
        name: name, help: metric.help.text, unit: metric.unit.text, type: metric.type, labels: labels)
      if metric.type == BP_METRIC_HISTOGRAM {
        made.buckets = Array(repeating: 0, count: PluginMetrics.bounds(made.unit).count)
      }
      bases.withLock { bases in
        if let index = bases.firstIndex(where: { made.isSame(as: $0) }) { made.goOn(from: bases.remove(at: index)) }
      }
      series.append(made)
      handle.pointee = UInt32(series.count)
      return BP_OK
    }
  }

  func record(_ handle: UInt32, _ value: Double) {
    series.withLock { series in
      let index = Int(handle) - 1
      guard series.indices.contains(index) else { return }
      switch series[index].type {
      case BP_METRIC_COUNTER: series[index].value += max(0, value)
      case BP_METRIC_GAUGE: series[index].value = value
      default:
        series[index].value += value
        series[index].count += 1
        if let bucket = PluginMetrics.bounds(series[index].unit).firstIndex(where: { value <= $0 }) {
          series[index].buckets[bucket] += 1
        }
      }
    }
  }

  /// What the same series had come to in the kernel before this one.
  func continueFrom(_ former: [UpgradeCounters.Series]) {
    series.withLock { series in
      var rest: [UpgradeCounters.Series] = []
      for base in former {
        if let index = series.firstIndex(where: { $0.isSame(as: base) }) {
          series[index].goOn(from: base)
        } else {
          rest.append(base)
        }
      }
      bases.withLock { $0 = rest }
    }
  }

  func snapshot() -> [Series] { series.withLock { $0 } }

  private static func isName(_ text: String) -> Bool {
    guard let first = text.utf8.first, first >= 0x61 && first <= 0x7a else { return false }
    return text.utf8.allSatisfy { $0 == 0x5f || ($0 >= 0x61 && $0 <= 0x7a) || ($0 >= 0x30 && $0 <= 0x39) }
  }
}

extension PluginMetrics.Series {
  fileprivate func isSame(as base: UpgradeCounters.Series) -> Bool {
    name == base.name && labels.flatMap { [$0.0, $0.1] } == base.labels && buckets.count == base.buckets.count
  }

  fileprivate mutating func goOn(from base: UpgradeCounters.Series) {
    value += base.value
    count += base.count
    for index in buckets.indices { buckets[index] += base.buckets[index] }
  }
}
