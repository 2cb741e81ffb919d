import BackplaneABI
import Synchronization

/// How a generation is: each slot's own word, and what the kernel has seen.
struct Health {
  struct Slot {
    var name: String
    var kind: String
    var plugin: String
    var version: String
    var scheme: String
    var state: UInt32
    var message: String
    /// It is no backend of the node's own.
    var isPeer = false
  }

  var slots: [Slot]

  /// Unhealthy when a slot that nothing replaces is; degraded when any is not healthy.
  var state: UInt32
  /// Requests of every verb can be answered: a failed backend beside a good one is degraded, not unready, and so is a
  /// failed service, which no request needs.
  var isReady: Bool

  static func of(_ generation: Generation) -> Health {
    let slots =
      generation.slots.map(Health.of)
      + generation.missing.map { missing in
        Slot(
          name: missing.slot.name, kind: missing.slot.kind.rawValue, plugin: missing.plugin, version: missing.version,
          scheme: missing.slot.scheme ?? "",
          state: missing.slot.peer == nil ? BP_HEALTH_UNHEALTHY : BP_HEALTH_DEGRADED,
          message: Redaction.redact(missing.reason), isPeer: missing.slot.peer != nil)
      }
    func usable(_ kind: String) -> Bool {
      let ofKind = slots.filter { $0.kind == kind && !$0.isPeer }
      return ofKind.isEmpty ? kind != "backend" : ofKind.contains { $0.state != BP_HEALTH_UNHEALTHY }
    }
    let isReady =
      usable("backend")
      && slots.allSatisfy { $0.kind == "backend" || $0.kind == "service" || $0.state != BP_HEALTH_UNHEALTHY }
    let worst = slots.map(\.state).max() ?? BP_HEALTH_HEALTHY
    let isAlarmed = generation.slots.first.map { !$0.kernel.wedged.all.isEmpty } ?? false
    let state =
      !isReady
      ? BP_HEALTH_UNHEALTHY
      : worst == BP_HEALTH_HEALTHY && !isAlarmed && OwnDescriptors.shared.alarms.isEmpty
        ? BP_HEALTH_HEALTHY : BP_HEALTH_DEGRADED
    return Health(slots: slots, state: state, isReady: isReady)
  }

  private static func of(_ instance: Instance) -> Slot {
    var (state, message) = instance.health
    if let report = instance.kernel.peers.report(of: instance.slot) {
      // The node serves without it.
      state = min(state, BP_HEALTH_DEGRADED)
      let said = [message, report.sentence].filter { !$0.isEmpty }
      if !report.sentence.isEmpty { state = BP_HEALTH_DEGRADED }
      message = said.joined(separator: "; ")
    }
    if instance.isBehind, let report = instance.backlog.report {
      state = max(state, BP_HEALTH_DEGRADED)
      message = message.isEmpty ? report.sentence : "\(message); \(report.sentence)"
    }
    let demoted = instance.demotedOperations
    if !demoted.isEmpty {
      state = max(state, BP_HEALTH_DEGRADED)
      if message.isEmpty {
        message = "\(demoted.map(\.name).joined(separator: ", ")) declared direct but slow; runs on threads"
      }
    }
    let found = Health.watched(instance)
    if !found.isEmpty {
      state = max(state, BP_HEALTH_DEGRADED)
      message = ([message] + found).filter { !$0.isEmpty }.joined(separator: "; ")
    }
    return Slot(
      name: instance.slot.name, kind: instance.slot.kind.rawValue, plugin: instance.image.id,
      version: instance.image.version, scheme: instance.slot.scheme ?? "", state: state,
      message: Redaction.redact(message), isPeer: instance.slot.peer != nil)
  }

  /// What the watchdog has seen of it, and of those that were in its place before.
  private static func watched(_ instance: Instance) -> [String] {
    var found: [String] = []
    let stuck = instance.stuckThreads.load(ordering: .relaxed)
    if stuck > 0 { found.append("\(stuck) \(stuck == 1 ? "thread is" : "threads are") stuck in it") }
    let lost = instance.lostCalls.load(ordering: .relaxed)
    if lost > 0 { found.append("it has not completed \(lost) \(lost == 1 ? "call" : "calls") that were given up") }
    let ignoredNs = instance.lastIgnoredNs.load(ordering: .relaxed)
    if ignoredNs != 0, Clock.monotonicNs() &- ignoredNs < ignoredNsMax {
      found.append("it completed calls that were not open, twice perhaps")
    }
    if let wedged = instance.kernel.wedged.sentence(slot: instance.slot.name) { found.append(wedged) }
    return found
  }

  /// A false completion is told of for so long.
  private static let ignoredNsMax: UInt64 = 60_000_000_000

  static func name(_ state: UInt32) -> String {
    switch state {
    case BP_HEALTH_HEALTHY: "healthy"
    case BP_HEALTH_DEGRADED: "degraded"
    default: "unhealthy"
    }
  }
}
