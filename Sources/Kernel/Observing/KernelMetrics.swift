import BackplaneABI
import Foundation
import Synchronization
import SystemShims

/// Everything the node counts, as OpenMetrics text.
enum KernelMetrics {
  static func text(_ kernel: KernelContext) -> String {
    var metrics = MetricsText()
    metrics.add(
      "backplane_build", type: "info", help: "The kernel.",
      labels: [("version", BackplaneVersion.current), ("abi", "\(BP_ABI_MAJOR).\(BP_ABI_MINOR)")], suffix: "_info", 1)
    node(kernel, &metrics)
    guard let lease = kernel.ring.acquireAdmitted() else { return metrics.text }
    defer { kernel.ring.release(lease) }
    let generation = lease.generation
    metrics.gauge(
      "backplane_generation_number", help: "The number of the published generation.", Double(generation.number))
    for instance in generation.slots { add(instance, &metrics) }
    return metrics.text
  }

  private static func node(_ kernel: KernelContext, _ metrics: inout MetricsText) {
    metrics.counter(
      "backplane_completions_ignored", help: "Completions that named an unknown, finished or foreign token.",
      CallSlab.shared.ignoredCompletions.load(ordering: .relaxed))
    process(&metrics)
    metrics.counter(
      "backplane_missed_writes", help: "Acknowledged writes that a backend missed.",
      kernel.missedWrites.load(ordering: .relaxed))
    metrics.counter(
      "backplane_log_events_dropped", help: "Log events of plugins that the rate limit dropped.",
      kernel.log.dropped.load(ordering: .relaxed))
    for (key, count) in kernel.listRefusals.withLock({ $0 }).sorted(by: { $0.key < $1.key }) {
      metrics.counter(
        "backplane_lists_refused", help: "Lists that needed more than a limit allows.", labels: [("limit", key)], count)
    }
    metrics.gauge(
      "backplane_requests_pending", help: "Requests that wait for a plugin.", Double(kernel.requests.count))
    metrics.gauge(
      "backplane_requests_parked", help: "Requests that wait while a slot is handed over.", Double(kernel.lot.parked))
    metrics.counter(
      "backplane_requests_parked_refused",
      help: "Requests that were refused because as many were parked as may (limits.parked_requests_max).",
      kernel.lot.refused.load(ordering: .relaxed))
    operations(kernel, &metrics)
    metrics.gauge("backplane_timers", help: "Timers that plugins wait for.", Double(kernel.timers.count))
    metrics.counter(
      "backplane_timers_refused", help: "Timers that an instance did not get because it had 1,024 of them.",
      kernel.timers.refused.load(ordering: .relaxed))
    FeedMetrics.add(kernel.feed, &metrics)
    metrics.gauge(
      "backplane_slots_on_probation", help: "Replaced slots that are compared with their predecessor.",
      Double(kernel.slotsOnProbation.load(ordering: .relaxed)))
    let reloads = kernel.reloadCounts.withLock { $0 }
    for (outcome, count) in reloads.outcomes.sorted(by: { $0.key < $1.key }) {
      metrics.counter("backplane_reloads", help: "Reloads by outcome.", labels: [("outcome", outcome)], count)
    }
    for (outcome, count) in reloads.upgrades.sorted(by: { $0.key < $1.key }) {
      metrics.counter(
        "backplane_upgrades", help: "Upgrades of the kernel by outcome.", labels: [("outcome", outcome)], count)
    }
    metrics.gauge(
      "backplane_reload_last_success_seconds", help: "When a reload was last applied, since 1970.", unit: "seconds",
      Double(reloads.lastSuccessMs) / 1000)
    metrics.gauge(
      "backplane_images_retained", help: "Plugin images that are mapped and serve no more.",
      Double(reloads.retainedImages))
    metrics.gauge(
      "backplane_images_retained_bytes", help: "The size of their files.", unit: "bytes",
      Double(reloads.retainedImageBytes))
    metrics.gauge(
      "backplane_generations_held", help: "Superseded generations that requests still hold.",
      Double(reloads.heldGenerations))
    metrics.counter(
      "backplane_instances_wedged", help: "Instances that did not come back and are never called again.",
      reloads.wedgedInstances)
  }

  /// What clients and services have asked of the node.
  private static func operations(_ kernel: KernelContext, _ metrics: inout MetricsText) {
    for operation in NodeOperation.allCases {
      add(
        kernel.operations.snapshot(operation), [("operation", operation.name)],
        calls: ("backplane_requests", "Requests to the node by result code."),
        seconds: ("backplane_request_seconds", "How long requests to the node took."), &metrics)
    }
  }

  /// What was counted of one operation; nothing when it never ended.
  private static func add(
    _ snapshot: Statistics.Snapshot, _ labels: [(String, String)], calls: (name: String, help: String),
    seconds: (name: String, help: String), _ metrics: inout MetricsText
  ) {
    guard snapshot.count > 0 else { return }
    for (code, count) in snapshot.codes.enumerated() where count > 0 {
      metrics.counter(
        calls.name, help: calls.help, labels: labels + [("code", CodeNames.name(bp_code(code)))], count)
    }
    metrics.histogram(
      seconds.name, help: seconds.help, unit: "seconds", labels: labels,
      bounds: (0..<Statistics.bucketCount - 1).map(Statistics.boundSeconds),
      buckets: Array(snapshot.buckets.dropLast()), count: snapshot.count, sum: snapshot.sumSeconds)
  }

  /// Of the process as a whole: what plugins take in it cannot be told apart.
  private static func process(_ metrics: inout MetricsText) {
    let pages = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ") ?? []
    if pages.count > 1, let resident = Double(pages[1]) {
      metrics.gauge(
        "process_resident_memory_bytes", help: "Resident memory of the node with its plugins.", unit: "bytes",
        resident * Double(sysconf(Int32(_SC_PAGESIZE))))
    }
    func entries(_ directory: String) -> Double {
      Double((try? FileManager.default.contentsOfDirectory(atPath: directory).count) ?? 0)
    }
    metrics.gauge("process_open_fds", help: "Open descriptors of the process.", entries("/proc/self/fd"))
    metrics.gauge("process_threads", help: "Threads of the process.", entries("/proc/self/task"))
    metrics.counter(
      "backplane_marks_spilled", help: "Threads that found no room among the marks.",
      bp_marks_header().pointee.spilled_threads)
    metrics.counter(
      "backplane_descriptors_lost", help: "Descriptors of the kernel's that somebody else closed or replaced.",
      OwnDescriptors.shared.lost.load(ordering: .relaxed))
  }

  private static func addRepair(_ instance: Instance, _ labels: [(String, String)], _ metrics: inout MetricsText) {
    let report = instance.isBehind ? instance.backlog.report : nil
    metrics.gauge(
      "backplane_repair_journal_units", help: "Acknowledged writes that the slot's backend does not have yet.",
      labels: labels, Double(report?.units ?? 0))
    metrics.gauge(
      "backplane_repair_journal_bytes",
      help: "What they take in its repair journal (at most repair.journal_size_bytes_max).", labels: labels,
      Double(report?.bytes ?? 0))
    metrics.gauge(
      "backplane_repair_incomplete", help: "1 when the backend missed what no journal can make good.", labels: labels,
      report?.incomplete == nil ? 0 : 1)
    metrics.counter(
      "backplane_repair_replayed", help: "Writes that the slot's backend got from its repair journal.", labels: labels,
      instance.backlog.replayed.load(ordering: .relaxed))
    metrics.counter(
      "backplane_repair_refused", help: "Writes of the repair journal that the backend refused for good.",
      labels: labels, instance.backlog.refused.load(ordering: .relaxed))
  }

  private static func add(_ instance: Instance, _ metrics: inout MetricsText) {
    let labels = [
      ("slot", instance.slot.name), ("kind", instance.slot.kind.rawValue), ("plugin", instance.image.id),
      ("version", instance.image.version),
      ("generation", "\(instance.bornGeneration.load(ordering: .relaxed))"),
    ]
    let health = instance.health
    metrics.gauge(
      "backplane_slot_health", help: "0 healthy, 1 degraded, 2 unhealthy.", labels: labels, Double(health.state))
    metrics.gauge(
      "backplane_slot_behind", help: "1 when the slot missed an acknowledged write.", labels: labels,
      instance.isBehind ? 1 : 0)
    if let report = instance.kernel.peers.report(of: instance.slot) {
      PeerMetrics.add(report, labels, &metrics)
    } else if instance.backend != nil {
      addRepair(instance, labels, &metrics)
    }
    metrics.gauge(
      "backplane_calls_in_flight", help: "Calls open in the plugin.", labels: labels,
      Double(instance.inFlight.load(ordering: .relaxed)))
    let stuck = instance.stuckThreads.load(ordering: .relaxed) + instance.lostCalls.load(ordering: .relaxed)
    metrics.gauge(
      "backplane_calls_stuck", help: "Calls that do not come back, or were given up and are never completed.",
      labels: labels, Double(stuck))
    metrics.counter(
      "backplane_slot_completions_ignored", help: "Completions of the slot that named a token that was not open to it.",
      labels: labels, instance.ignoredCompletions.load(ordering: .relaxed))
    metrics.counter(
      "backplane_direct_calls_slow", help: "Direct calls that took over 1 ms.", labels: labels,
      instance.directness.slowCalls.load(ordering: .relaxed))
    if let counts = instance.proxy?.counts { IsolationMetrics.add(counts, labels, &metrics) }
    for operation in Operation.allCases {
      add(
        instance.statistics.snapshot(operation), labels + [("operation", operation.name)],
        calls: ("backplane_calls", "Completed calls by result code."),
        seconds: ("backplane_call_seconds", "From submit to completion."), &metrics)
    }
    for series in instance.metrics.snapshot() {
      let name = "backplane_plugin_\(series.name)"
      let labels = labels + series.labels
      switch series.type {
      case BP_METRIC_COUNTER:
        let base = name.hasSuffix("_total") ? String(name.dropLast(6)) : name
        metrics.add(base, type: "counter", help: series.help, labels: labels, suffix: "_total", series.value)
      case BP_METRIC_GAUGE: metrics.gauge(name, help: series.help, labels: labels, series.value)
      default:
        metrics.histogram(
          name, help: series.help, unit: "", labels: labels, bounds: PluginMetrics.bounds(series.unit),
          buckets: series.buckets, count: series.count, sum: series.value)
      }
    }
  }
}

/// The names of result codes, for metrics and logs.
enum CodeNames {
  private static let names = [
    "ok", "cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
    "permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented",
    "internal", "unavailable", "data_loss", "unauthenticated", "quota", "durability", "rejected", "closed",
  ]

  static func name(_ code: bp_code) -> String { Int(code) < names.count ? names[Int(code)] : "unknown" }
}

/// The kernel's version.
public enum BackplaneVersion {
  public static let current = "0.1.0"
}
