#if SIMULATION
import BackplaneABI
import SimulatedSystem

@testable import Kernel

/// What must hold whatever happens. Each is looked at where it could break, or after every step.
final class Invariants {
  private unowned let node: SimulatedNode

  init(_ node: SimulatedNode) { self.node = node }

  // MARK: After every step

  func check() {
    isPublishedComplete()
    let warm = Set(node.reconciler.trials.running.values.filter { $0.target.warm != nil }.map(\.target.generation))
    Report.require(warm.count <= Trials.warmGenerationsMax, "\(warm.count) generations are warm")
    for warm in node.reconciler.trials.running.values.compactMap(\.target.warm) {
      Report.require(
        warm.state == .serving || warm.state == .wedged,
        "a warm instance of slot '\(warm.slot.name)' is \(warm.state)")
    }
    Report.require(node.kernel.lot.parked >= 0, "\(node.kernel.lot.parked) requests are parked")
  }

  /// A published generation is complete: every slot of the configuration that it was made of is there, and serves.
  private func isPublishedComplete() {
    guard let published = node.reconciler.published, published.number == node.kernel.ring.currentNumber,
      let configuration = node.reconciler.configuration
    else { return }
    let names = published.slots.map(\.slot.name) + published.missing.map(\.slot.name)
    for slot in configuration.node.slots {
      Report.require(names.contains(slot.name), "generation \(published.number) lacks the slot '\(slot.name)'")
    }
    // While the door is shut an exclusive slot may be on its way.
    guard !node.kernel.ring.isParked else { return }
    for instance in published.slots {
      Report.require(
        instance.state == .serving || instance.state == .wedged || node.isEnding,
        "generation \(published.number) is published, and its slot '\(instance.slot.name)' is \(instance.state)")
      Report.require(
        !instance.isClosed || node.isEnding || instance.state == .wedged,
        "generation \(published.number) is published, and its slot '\(instance.slot.name)' is closed")
    }
  }

  // MARK: Where it could break

  /// No lease outlives its generation's retirement.
  func isHeld(_ generation: UInt64, _ what: String) {
    guard generation != node.kernel.ring.currentNumber else { return }
    Report.require(
      node.reaper.held().contains { $0.number == generation },
      "\(what) on generation \(generation), which has retired (the current one is \(node.kernel.ring.currentNumber))")
  }

  /// An instance is stopped only when no lease can reach it, but for what the hard limit has cut off.
  func stops(_ plugin: SimulatedPlugin) {
    let hardMs = node.isEnding ? 0 : node.style.drainHardMs
    var reachable: [(number: UInt64, ageMs: Int)] = node.reaper.held().map { ($0.number, $0.ageMs) }
    if node.kernel.ring.currentNumber != 0 { reachable.append((node.kernel.ring.currentNumber, 0)) }
    for (number, ageMs) in reachable where ageMs <= hardMs {
      guard node.generations[number]?.contains(plugin.handle) == true else { continue }
      let leases = node.kernel.ring.leases(number)
      Report.require(
        leases == 0 || plugin.content.role.kind == .transport,
        "\(plugin.name) is stopped while \(leases) leases are held on generation \(number)")
    }
  }

  /// A caller is not answered after it has stopped.
  func mayCall(_ caller: bp_instance, _ request: Request) {
    guard let plugin = node.plugins.first(where: { $0.handle == caller }) else { return }
    Report.require(
      plugin.phase != .stopped && plugin.phase != .destroyed,
      "\(request.name) is answered after its transport is \(plugin.phase)")
  }

  // MARK: After a reload

  func reloaded(_ receipt: Receipt, _ before: [Instance], wasPublished: Bool) {
    Report.trace(
      "receipt \(receipt.id): \(receipt.outcome) generation \(receipt.generation) refusals "
        + "\(receipt.refusals.map { "\($0.slot ?? "-"): \($0.code)" }) changes "
        + "\(receipt.changes.map { "\($0.slot): \($0.action) \($0.state ?? "")" })")
    Report.require(!node.kernel.ring.isParked, "the door is shut after a reload")
    let now = node.reconciler.published?.slots ?? []
    for instance in now {
      guard let fence = instance.fence else { continue }
      switch fence.enter() {
      case .passed: fence.leave()
      case .raised: Report.violated("the fence of slot '\(instance.slot.name)' is up after a reload")
      case .moved: Report.violated("the published slot '\(instance.slot.name)' has moved away")
      }
    }
    for instance in before where !now.contains(where: { $0 === instance }) {
      guard let fence = instance.fence else { continue }
      if case .raised = fence.enter() {
        Report.violated("the fence of the replaced slot '\(instance.slot.name)' is up after a reload")
      }
    }
    if receipt.outcome == .refused, receipt.generation == receipt.generationBefore {
      let isSame = before.count == now.count && zip(before, now).allSatisfy { $0 === $1 }
      Report.require(isSame || !wasPublished, "a refused reload changed what serves")
    }
    if receipt.generation == receipt.generationBefore, wasPublished {
      Report.require(receipt.changes.isEmpty, "a receipt without a new generation has changes")
    }
    check()
  }

  // MARK: At the end

  /// Nobody waits for longer than it may; looked at when time has passed and nothing else happened.
  func areAnswered(by nowNs: UInt64, _ when: String) {
    for request in node.requests where !request.isAnswered {
      Report.require(nowNs < request.answeredByNs, "\(request.name) was not answered \(when)")
    }
  }

  func isOver() {
    for request in node.requests {
      Report.require(request.answers == 1, "\(request.name) was answered \(request.answers) times")
    }
    Report.require(node.kernel.lot.parked == 0, "\(node.kernel.lot.parked) requests are parked at the end")
    let count = node.kernel.requests.count
    Report.require(count == 0, "\(count) requests are in the table at the end")
    var isWedged = false
    for plugin in node.plugins {
      let isGone = plugin.phase == .destroyed
      let isWrittenOff = plugin.instance.state == .wedged
      isWedged = isWedged || isWrittenOff
      Report.require(
        isGone || isWrittenOff || plugin.instance.plugin == nil,
        "\(plugin.name) is left over: \(plugin.phase), \(plugin.instance.state)")
      let open = plugin.instance.inFlight.load(ordering: .acquiring)
      Report.require(open == 0 || isWrittenOff, "\(open) calls are open in \(plugin.name) at the end")
    }
    guard !isWedged else { return }
    for (number, _) in node.generations {
      let leases = node.kernel.ring.leases(number)
      Report.require(leases == 0, "\(leases) leases are held on generation \(number) at the end")
    }
    for request in node.requests {
      Report.require(!request.isBodyKept, "the body of \(request.name) was never given back")
    }
  }
}
#endif
