/// Time series of an instance. Define them in `start`; the handles are good until the instance is destroyed.
public struct Metrics: Sendable {
  let host: HostHandle

  /// Only goes up. `name`: snake_case, unit last, no prefix (`commits_total`).
  public func counter(_ name: String, help: String, unit: String = "", labels: [(String, String)] = []) -> Counter {
    Counter(host: host, handle: define(BP_METRIC_COUNTER, name, help, unit, labels))
  }

  /// Goes up and down.
  public func gauge(_ name: String, help: String, unit: String = "", labels: [(String, String)] = []) -> Gauge {
    Gauge(host: host, handle: define(BP_METRIC_GAUGE, name, help, unit, labels))
  }

  /// A distribution, of `seconds` or `bytes`.
  public func histogram(_ name: String, help: String, unit: String, labels: [(String, String)] = []) -> Histogram {
    Histogram(host: host, handle: define(BP_METRIC_HISTOGRAM, name, help, unit, labels))
  }

  /// The handle, or 0 when the host refuses (more than 256 series): recording to 0 does nothing.
  private func define(
    _ type: UInt32, _ name: String, _ help: String, _ unit: String, _ labels: [(String, String)]
  ) -> UInt32 {
    var handle: UInt32 = 0
    // The label text is copied into one array, so that the views live together.
    let texts = labels.map { (Array($0.0.utf8), Array($0.1.utf8)) }
    func nest(_ index: Int, _ fields: [bp_field]) {
      if index < texts.count {
        texts[index].0.withView { key in
          texts[index].1.withView { value in nest(index + 1, fields + [bp_field(key: key, value: value)]) }
        }
        return
      }
      name.withView { nameView in
        help.withView { helpView in
          unit.withView { unitView in
            fields.withUnsafeBufferPointer { list in
              var metric = bp_metric(
                size: .size(of: bp_metric.self), type: type, name: nameView, help: helpView, unit: unitView,
                labels: list.baseAddress, labels_count: UInt32(list.count), reserved: 0)
              if host.table.pointee.metric(host.instance, &metric, &handle) != BP_OK { handle = 0 }
            }
          }
        }
      }
    }
    nest(0, [])
    return handle
  }
}

public struct Counter: Sendable {
  let host: HostHandle
  let handle: UInt32
  @inlinable public func increment() { add(1) }
  public func add(_ amount: Double) { host.table.pointee.record(host.instance, handle, amount) }
}

public struct Gauge: Sendable {
  let host: HostHandle
  let handle: UInt32
  public func set(_ value: Double) { host.table.pointee.record(host.instance, handle, value) }
}

public struct Histogram: Sendable {
  let host: HostHandle
  let handle: UInt32
  public func observe(_ value: Double) { host.table.pointee.record(host.instance, handle, value) }
}
