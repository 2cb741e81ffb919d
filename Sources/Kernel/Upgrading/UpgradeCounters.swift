import BackplaneABI
import Synchronization

/// What a kernel has counted, for the one that takes its place: counters of one time series never fall back.
struct UpgradeCounters: Codable, Sendable {
  struct Series: Codable, Sendable {
    var name: String
    /// Keys and values in turn.
    var labels: [String]
    var value: Double
    var count: UInt64
    var buckets: [UInt64]
  }

  struct Slot: Codable, Sendable {
    var name: String
    var calls: [UInt64]
    var slowCalls: UInt64
    var series: [Series]
    /// Of a peer; nil from a kernel that knows none.
    var peer: PeerCounts?
  }

  var slots: [Slot]
  var ignoredCompletions: UInt64
  var missedWrites: UInt64
  var droppedLogEvents: UInt64
  var refusedParkings: UInt64
  var outcomes: [String: UInt64]
  var upgrades: [String: UInt64]
  var wedgedInstances: UInt64
  var lastSuccessMs: UInt64
  /// Of the node's own operations; nil from a kernel that does not count them.
  var operations: [UInt64]?

  init(_ kernel: KernelContext, _ generation: Generation) {
    slots = generation.slots.map { instance in
      Slot(
        name: instance.slot.name, calls: instance.statistics.all,
        slowCalls: instance.directness.slowCalls.load(ordering: .relaxed),
        series: instance.metrics.snapshot().filter { $0.type != BP_METRIC_GAUGE }.map { series in
          Series(
            name: series.name, labels: series.labels.flatMap { [$0.0, $0.1] }, value: series.value, count: series.count,
            buckets: series.buckets)
        }, peer: instance.slot.peer == nil ? nil : kernel.peers.counts(instance.slot.name))
    }
    ignoredCompletions = CallSlab.shared.ignoredCompletions.load(ordering: .relaxed)
    missedWrites = kernel.missedWrites.load(ordering: .relaxed)
    droppedLogEvents = kernel.log.dropped.load(ordering: .relaxed)
    refusedParkings = kernel.lot.refused.load(ordering: .relaxed)
    let counts = kernel.reloadCounts.withLock { $0 }
    outcomes = counts.outcomes
    upgrades = counts.upgrades
    wedgedInstances = counts.wedgedInstances
    lastSuccessMs = counts.lastSuccessMs
    operations = kernel.operations.all
  }

  /// Adds them to what the new kernel has counted so far.
  func add(to kernel: KernelContext, _ generation: Generation) {
    for slot in slots {
      guard let instance = generation.instance(slot: slot.name) else { continue }
      instance.statistics.add(slot.calls)
      instance.directness.slowCalls.add(slot.slowCalls, ordering: .relaxed)
      instance.metrics.continueFrom(slot.series)
      if let counts = slot.peer { kernel.peers.add(counts, to: slot.name) }
    }
    CallSlab.shared.ignoredCompletions.add(ignoredCompletions, ordering: .relaxed)
    kernel.missedWrites.add(missedWrites, ordering: .relaxed)
    kernel.log.dropped.add(droppedLogEvents, ordering: .relaxed)
    kernel.lot.refused.add(refusedParkings, ordering: .relaxed)
    if let operations { kernel.operations.add(operations) }
    kernel.reloadCounts.withLock { counts in
      counts.outcomes.merge(outcomes) { $0 + $1 }
      counts.upgrades.merge(upgrades) { $0 + $1 }
      counts.wedgedInstances += wedgedInstances
      counts.lastSuccessMs = max(counts.lastSuccessMs, lastSuccessMs)
    }
  }
}
