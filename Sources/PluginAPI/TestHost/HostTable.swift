import PluginAPI
import Synchronization

/// Every live host of the process by its number: the functions of bp_host carry no context, and a number that is not
/// here any more must do nothing instead of crashing. This is the one global of the module.
enum HostRegistry {
  private struct State {
    var next: bp_instance = 1
    var cores: [bp_instance: HostCore] = [:]
  }

  private static let state = Mutex(State())

  static func add(_ make: (bp_instance) -> HostCore) -> HostCore {
    let number = state.withLock { state in
      defer { state.next += 1 }
      return state.next
    }
    let core = make(number)
    state.withLock { $0.cores[number] = core }
    return core
  }

  static func remove(_ instance: bp_instance) { state.withLock { _ = $0.cores.removeValue(forKey: instance) } }

  /// The instance's host, or nil after the test has let go of it. A call after destroy is recorded and refused.
  static func find(_ instance: bp_instance, _ function: StaticString) -> HostCore? {
    guard let core = state.withLock({ $0.cores[instance] }) else { return nil }
    guard core.life < .destroyed else {
      core.violate(.calledAfterDestroy, "bp_host.\(function) was called after destroy had returned")
      return nil
    }
    return core
  }
}

enum HostTable {
  // nonisolated(unsafe): written once by its initialiser, read only, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_host> = {
    let table = UnsafeMutablePointer<bp_host>.allocate(capacity: 1)
    table.initialize(
      to: bp_host(
        size: .size(of: bp_host.self), abi_major: BP_ABI_MAJOR, abi_minor: BP_ABI_MINOR, reserved: 0,
        complete: { instance, token, result in
          guard let core = HostRegistry.find(instance, "complete") else { return }
          guard let result else { return core.violate(.malformedResult, "complete was called without a result") }
          core.complete(token, result)
        },
        emit: { instance, token, chunk in
          guard let core = HostRegistry.find(instance, "emit"), let chunk else { return BP_CLOSED }
          return core.emit(token, chunk)
        },
        cancel: { instance, token in
          guard let core = HostRegistry.find(instance, "cancel") else { return }
          if core.feed.cancel(core, token) || core.timers.cancel(core, token) { return }
          core.state.withLock { $0.hostCalls[token] }?.cancel()
        },
        grant: { instance, token, credits in
          guard let core = HostRegistry.find(instance, "grant") else { return BP_CLOSED }
          return core.feed.grant(core, token, credits) ?? core.grant(token, credits)
        },
        log: { instance, level, message, fields, count in
          HostRegistry.find(instance, "log")?.log(level, message, UnsafeBufferPointer(start: fields, count: Int(count)))
        },
        metric: { instance, metric, handle in
          guard let core = HostRegistry.find(instance, "metric"), let metric, let handle else { return BP_CLOSED }
          return core.define(metric.pointee, handle)
        },
        record: { instance, handle, value in
          HostRegistry.find(instance, "record")?.record(handle, value)
        },
        health: { instance, state, message in
          guard let core = HostRegistry.find(instance, "health") else { return }
          let text = core.text(message, "a health message")
          let report = HealthReport(state: Context.Health(rawValue: state) ?? .unhealthy, message: text)
          core.state.withLock { $0.health = report }
        },
        extension: { instance, id in
          guard HostRegistry.find(instance, "extension") != nil else { return nil }
          if id.equals("backplane.node/1") { return UnsafeRawPointer(NodeTable.pointer) }
          if id.equals("backplane.listener/1") { return UnsafeRawPointer(ListenerTable.pointer) }
          if id.equals("backplane.proposal/1") { return UnsafeRawPointer(ProposalTable.pointer) }
          if id.equals("backplane.feed/1") { return UnsafeRawPointer(FeedTable.pointer) }
          if id.equals("backplane.timer/1") { return UnsafeRawPointer(TimerTable.pointer) }
          if id.equals("backplane.observe/1") { return UnsafeRawPointer(ObserveTable.pointer) }
          return nil
        }))
    return UnsafePointer(table)
  }()
}

extension HostCore {
  func log(_ level: UInt32, _ message: bp_view, _ fields: UnsafeBufferPointer<bp_field>) {
    let event = LogEvent(
      level: Log.Level(rawValue: level) ?? .trace, message: text(message, "a log message"), fields: dictionary(fields))
    state.withLock { $0.logs.append(event) }
  }

  func define(_ metric: bp_metric, _ handle: UnsafeMutablePointer<UInt32>) -> bp_code {
    if life != .starting { violate(.metricOutsideStart, "metric '\(metric.name.text)' was defined outside of start") }
    let series = MetricSeries(
      kind: MetricSeries.Kind(rawValue: metric.type) ?? .gauge, name: text(metric.name, "a metric's name"),
      help: text(metric.help, "a metric's help"), unit: text(metric.unit, "a metric's unit"),
      labels: dictionary(UnsafeBufferPointer(start: metric.labels, count: Int(metric.labels_count))))
    return state.withLock { state in
      guard state.metrics.count < 256 else { return BP_RESOURCE_EXHAUSTED }
      state.metrics.append(series)
      handle.pointee = UInt32(state.metrics.count)
      return BP_OK
    }
  }

  func record(_ handle: UInt32, _ value: Double) {
    state.withLock { state in
      guard handle >= 1, Int(handle) <= state.metrics.count else { return }
      state.metrics[Int(handle) - 1].recorded.append(value)
    }
  }

  private func dictionary(_ fields: UnsafeBufferPointer<bp_field>) -> [String: String] {
    var values: [String: String] = [:]
    for field in fields { values[text(field.key, "a field's key")] = text(field.value, "a field's value") }
    return values
  }
}
