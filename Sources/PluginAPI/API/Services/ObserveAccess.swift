/// What is known about the node (backplane.observe/1), as values.
public struct ObserveAccess: Sendable {
  let host: HostHandle

  /// The host's table, or nil where there is none.
  public var table: UnsafePointer<bp_observe>? { host.extensionTable("backplane.observe/1", as: bp_observe.self) }

  /// How the node and its slots are now, in configured order. A host without it is not ready. Any thread.
  public func health() -> NodeHealth {
    guard let table else { return NodeHealth(isReady: false, state: .unhealthy, slots: []) }
    var slots: [SlotHealth] = []
    var worst = Context.Health.unhealthy.rawValue
    let flags = withUnsafeMutablePointer(to: &slots) { pointer in
      table.pointee.health(host.instance, &worst, pointer) { context, slot in
        context!.assumingMemoryBound(to: [SlotHealth].self).pointee.append(SlotHealth(slot!.pointee))
      }
    }
    return NodeHealth(
      isReady: flags & BP_READY != 0, state: Context.Health(rawValue: worst) ?? .unhealthy, slots: slots)
  }

  /// What the node has counted of its own operations since it began: receive, read, read_multi, list, remove. Any thread.
  public func operations() -> [OperationCounts] {
    guard let table, let operations = table.pointee.operations else { return [] }
    var counts: [OperationCounts] = []
    withUnsafeMutablePointer(to: &counts) { pointer in
      operations(host.instance, pointer) { context, counts in
        context!.assumingMemoryBound(to: [OperationCounts].self).pointee.append(OperationCounts(counts!.pointee))
      }
    }
    return counts
  }

  /// All metrics of the node in OpenMetrics text. Any thread.
  public func metricsText() -> String {
    guard let table else { return "" }
    return withSink { sink in
      table.pointee.metrics(host.instance, sink)
      return true
    } ?? ""
  }
}

extension Context {
  /// What is known about the node.
  public var observe: ObserveAccess { ObserveAccess(host: host) }
}

/// How a node is.
public struct NodeHealth: Sendable, Equatable {
  /// Requests of every verb can be answered.
  public var isReady: Bool
  public var state: Context.Health
  public var slots: [SlotHealth]

  public init(isReady: Bool, state: Context.Health, slots: [SlotHealth]) {
    self.isReady = isReady
    self.state = state
    self.slots = slots
  }
}

/// How one slot is.
public struct SlotHealth: Sendable, Equatable {
  public var state: Context.Health
  /// `primary`.
  public var slot: String
  /// `backend`.
  public var kind: String
  /// `org.backplane.sqlite`.
  public var plugin: String
  public var version: String
  /// The scheme of its URL, `sqlite`; empty when it has none.
  public var scheme: String
  /// Empty, or one sentence.
  public var message: String

  public init(
    state: Context.Health, slot: String, kind: String, plugin: String = "", version: String = "", scheme: String = "",
    message: String = ""
  ) {
    self.state = state
    self.slot = slot
    self.kind = kind
    self.plugin = plugin
    self.version = version
    self.scheme = scheme
    self.message = message
  }

  init(_ slot: bp_slot_health) {
    self.init(
      state: Context.Health(rawValue: slot.state) ?? .unhealthy, slot: slot.slot.text, kind: slot.kind.text,
      plugin: slot.plugin.text, version: slot.version.text, scheme: slot.scheme.text, message: slot.message.text)
  }
}

/// What a node has counted of one of its operations.
public struct OperationCounts: Sendable, Equatable {
  /// `receive`.
  public var name: String
  /// That have ended.
  public var calls: UInt64
  /// Of which neither went well nor were refused for the request's own sake.
  public var failures: UInt64
  /// That they took together, nanoseconds.
  public var timeNs: UInt64
  /// Calls by time: bucket `i` is below `boundNs(i)`, the last is all above.
  public var buckets: [UInt64]

  public init(name: String, calls: UInt64, failures: UInt64, timeNs: UInt64, buckets: [UInt64]) {
    self.name = name
    self.calls = calls
    self.failures = failures
    self.timeNs = timeNs
    self.buckets = buckets
  }

  init(_ counts: bp_operation_counts) {
    self.init(
      name: counts.name.text, calls: counts.calls, failures: counts.failures, timeNs: counts.time_ns,
      buckets: Array(UnsafeBufferPointer(start: counts.buckets, count: Int(counts.buckets_count))))
  }

  /// The time below which a call of bucket `index` was, nanoseconds; of the last bucket it is where that begins, doubled.
  public static func boundNs(_ index: Int) -> UInt64 { 256 << UInt64(index) }
}
