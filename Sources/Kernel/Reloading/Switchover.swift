import BackplaneABI

/// The second half of a reload: from started instances to the published generation. State moves, slots that exclude each
/// other stop and start, and one pointer makes it so (boundary.md, "Handover of state").
///
/// Order: state is exported while the old instances serve; the door shuts and exclusive slots change places; fences go
/// up and the rest of the state follows; the generation is published; fences and door open towards it. Whatever fails
/// before the publication takes the fences down again, and what serves goes on.
extension Reconciler {
  /// True when a generation was published.
  func switchOver(
    _ plan: ReloadPlan, _ loaded: LoadedConfiguration, _ transaction: inout ReloadTransaction, losesState: Bool
  ) -> Bool {
    let node = loaded.node
    let movers = plan.builds.filter { $0.isServing && !$0.isExclusive && $0.hasStateToMove }
    for build in movers {
      if losesState {
        build.stateNote = "cold: asked for (--lose-state)"
      } else {
        snapshot(build, node, &transaction)
      }
      if transaction.isLost { break }
    }
    if !movers.isEmpty { transaction.ended("exported", nowNs: world.nowNs()) }
    if !transaction.isLost {
      do throws(Refusal) { try world.beforeFence() } catch {
        transaction.refusals.append(Receipt.Refused(slot: nil, error))
      }
    }

    let isExclusive = !transaction.isLost && exchange(plan, node, &transaction, losesState: losesState)
    if !transaction.isLost { raiseFences(movers, node, &transaction) }
    // Also when nothing was published: then what waits goes on where it would have gone.
    defer { if isExclusive { kernel.door.open(kernel.ring, kernel.workers) } }
    if transaction.isLost || !publish(plan, loaded, &transaction) {
      // What serves goes on. Only slots that have changed places already need a generation, to change back.
      abandon(movers)
      let isRepaired = transaction.refusals.isEmpty ? false : takeBack(plan, loaded, &transaction)
      discard(plan)
      return isRepaired
    }
    for build in movers where build.isServing && build.transfer != nil {
      // Reads of older leases follow the state; what is parked goes on at the successor.
      build.previous?.close()
      build.previous?.fence?.move()
    }
    abandon(movers.filter { !$0.isServing })
    return true
  }

  private func limits(_ node: NodeConfiguration, _ transaction: ReloadTransaction) -> StateTransfer.Limits {
    let now = world.nowNs()
    let timeoutMs = transaction.timeoutMs(node.reload.handoverTimeoutMs, nowNs: now)
    return StateTransfer.Limits(
      sizeBytesMax: node.limits.stateHandoverSizeBytesMax, deadlineNs: now + UInt64(timeoutMs) * 1_000_000)
  }

  // MARK: State

  private func snapshot(_ build: SlotBuild, _ node: NodeConfiguration, _ transaction: inout ReloadTransaction) {
    let previous = build.previous!
    let instance = build.instance!
    if let obstacle = StateTransfer.obstacle(previous, instance) {
      build.stateNote = "cold: \(obstacle)"
      return
    }
    let transfer = StateTransfer(from: previous)
    do throws(StateTransfer.Failure) {
      try world.move(BP_STATE_SNAPSHOT, transfer, to: instance, limits(node, transaction))
      build.transfer = transfer
    } catch {
      world.abandon(transfer)
      stateFailed(build, error, &transaction)
    }
  }

  /// A format that is not read means a cold start; everything else refuses the change.
  private func stateFailed(
    _ build: SlotBuild, _ failure: StateTransfer.Failure, _ transaction: inout ReloadTransaction
  ) {
    switch failure {
    case .unreadable(let reason): build.stateNote = "cold: the successor does not read it: \(reason)"
    case .failed(let reason): refuse(build, SlotRefusals.stateRefused(build, reason), &transaction)
    }
  }

  private func raiseFences(_ movers: [SlotBuild], _ node: NodeConfiguration, _ transaction: inout ReloadTransaction) {
    let moving = movers.filter { $0.isServing && $0.transfer != nil }
    guard !moving.isEmpty else { return }
    for build in moving { build.previous!.fence?.raise() }
    for build in moving {
      let limits = limits(node, transaction)
      let previous = build.previous!
      if let fence = previous.fence, !world.waitUntilEmpty(fence, untilNs: limits.deadlineNs) {
        stateFailed(
          build,
          .failed("writes that began before it had not ended in time (reload.handover_timeout_ms)"), &transaction)
      } else {
        do throws(StateTransfer.Failure) {
          try world.move(BP_STATE_REST, build.transfer!, to: build.instance!, limits)
          build.stateNote = "moved \(build.transfer!.sizeBytes) bytes"
        } catch { stateFailed(build, error, &transaction) }
      }
      if !build.isServing { previous.fence?.lower() }
      if transaction.isLost { break }
    }
    transaction.ended("moved", nowNs: world.nowNs())
  }

  private func abandon(_ builds: [SlotBuild]) {
    for build in builds {
      guard let transfer = build.transfer else { continue }
      build.transfer = nil
      build.previous?.fence?.lowerIfRaised()
      world.abandon(transfer)
    }
  }

  // MARK: Exclusive slots

  /// Slots that cannot be beside their predecessor: requests wait at the door, the old stops, the new starts. True when
  /// the door was shut; it is the caller's to open.
  private func exchange(
    _ plan: ReloadPlan, _ node: NodeConfiguration, _ transaction: inout ReloadTransaction, losesState: Bool
  ) -> Bool {
    let builds = plan.builds.filter { $0.isExclusive && !$0.isRefused }
    guard !builds.isEmpty else { return false }
    // Transports and services bring the requests: they have none of their own to wait for, and connections wait at the
    // transport's socket.
    let isDoor = builds.contains(where: \.slot.kind.takesCalls)
    if isDoor { kernel.door.shut(kernel.ring) }
    for build in builds {
      exchange(build, node, &transaction, losesState: losesState)
      if transaction.isLost { break }
    }
    transaction.ended("exchanged", nowNs: world.nowNs())
    return isDoor
  }

  private func exchange(
    _ build: SlotBuild, _ node: NodeConfiguration, _ transaction: inout ReloadTransaction, losesState: Bool
  ) {
    let previous = build.previous!
    let limits = limits(node, transaction)
    if build.slot.kind.takesCalls, !release(previous, limits.deadlineNs) {
      return refuse(build, SlotRefusals.held(build, leases(holding: previous), node), &transaction)
    }
    // Its sockets outlive it, for whoever comes next.
    let standIn = SlotBuild(previous.slot, previous.image.plugin, replacing: previous)
    standIn.image = previous.image
    do throws(Refusal) { try standIn.bindListeners() } catch { return refuse(build, error, &transaction) }
    if build.hasStateToMove, !losesState {
      let transfer = StateTransfer(from: previous)
      do throws(StateTransfer.Failure) {
        try world.move(BP_STATE_SNAPSHOT, transfer, to: nil, limits)
        try world.move(BP_STATE_REST, transfer, to: nil, limits)
        build.transfer = transfer
      } catch {
        world.abandon(transfer)
        return stateFailed(build, error, &transaction)
      }
    }
    previous.close()
    build.isPreviousStopped = true
    if !world.stop(previous) {
      transaction.notes.append(
        "slot '\(build.slot.name)': the instance that served did not stop in time; what it holds may still be taken")
    }
    do throws(Refusal) {
      try world.start(build, node, timeoutMs: transaction.timeoutMs(node.reload.startTimeoutMs, nowNs: world.nowNs()))
      if let failure = deliver(build.transfer, to: build, node) { throw SlotRefusals.stateRefused(build, failure) }
    } catch {
      refuse(build, error, &transaction)
      bringBack(build, standIn, node, &transaction)
    }
  }

  /// Waits until no request holds the instance; past the limit its calls are cancelled, and get a moment to end.
  private func release(_ instance: Instance, _ deadlineNs: UInt64) -> Bool {
    let leases = { self.leases(holding: instance) }
    if world.waitUntilReleased(instance, by: leases, untilNs: deadlineNs) { return true }
    world.cancelCalls(of: instance)
    return world.waitUntilReleased(instance, by: leases, untilNs: world.nowNs() + 1_000_000_000)
  }

  /// Requests that may use the instance, through whatever generation: also those that have its predecessor, because they
  /// go on here when that has been closed (`Admission`).
  private func leases(holding instance: Instance) -> Int {
    let generations = (published.map { [$0] } ?? []) + world.heldGenerations
    return generations.filter { $0.instance(slot: instance.slot.name) != nil }
      .reduce(0) { $0 + kernel.ring.leases($1.number) }
  }

  /// Gives a started instance the state that was kept for it. A reason when that must not be.
  private func deliver(_ transfer: StateTransfer?, to build: SlotBuild, _ node: NodeConfiguration) -> String? {
    guard let transfer, let previous = build.previous, let instance = build.instance else { return nil }
    if let obstacle = StateTransfer.obstacle(previous, instance) {
      build.stateNote = "cold: \(obstacle)"
      return nil
    }
    let deadlineNs = world.nowNs() + UInt64(node.reload.handoverTimeoutMs) * 1_000_000
    do throws(StateTransfer.Failure) {
      try world.deliver(transfer, to: instance, deadlineNs: deadlineNs)
      build.stateNote = "moved \(transfer.sizeBytes) bytes"
      return nil
    } catch {
      switch error {
      case .unreadable(let reason):
        build.stateNote = "cold: the successor does not read it: \(reason)"
        return nil
      case .failed(let reason): return reason
      }
    }
  }

  /// Starts what had been stopped anew, because its successor did not start.
  private func bringBack(
    _ build: SlotBuild, _ standIn: SlotBuild, _ node: NodeConfiguration, _ transaction: inout ReloadTransaction
  ) {
    do throws(Refusal) {
      try world.start(standIn, node, timeoutMs: node.reload.startTimeoutMs)
      if let failure = deliver(build.transfer, to: standIn, node) {
        throw SlotRefusals.stateRefused(standIn, failure)
      }
      build.standIn = standIn.instance
      transaction.notes.append("slot '\(build.slot.name)': what served before was started again")
    } catch {
      if let instance = standIn.instance, instance.state != .wedged { world.discard(instance) }
      transaction.refusals.append(Receipt.Refused(slot: build.slot.name, error))
      transaction.notes.append(
        "slot '\(build.slot.name)' is down: neither the new nor the old one starts; requests for it are answered 503 "
          + "until a reload succeeds")
    }
  }

  /// The change is not to be, but some slots have changed places already: they change back. True when that made a
  /// generation.
  private func takeBack(
    _ plan: ReloadPlan, _ loaded: LoadedConfiguration, _ transaction: inout ReloadTransaction
  ) -> Bool {
    let builds = plan.builds.filter(\.isPreviousStopped)
    guard !builds.isEmpty, let published else { return false }
    for build in builds where build.isServing {
      let previous = build.previous!
      build.isRefused = true
      let standIn = SlotBuild(previous.slot, previous.image.plugin, replacing: previous)
      standIn.image = previous.image
      standIn.inheritable = Array(build.listeners.values)
      do throws(Refusal) { try standIn.bindListeners() } catch {
        transaction.refusals.append(Receipt.Refused(slot: build.slot.name, error))
      }
      _ = world.stop(build.instance!)
      bringBack(build, standIn, loaded.node, &transaction)
    }
    var repair = ReloadPlan()
    for instance in published.slots {
      let build = builds.first { $0.previous === instance }
      repair.entries.append(build.map { .built($0) } ?? .kept(instance))
    }
    return publish(repair, loaded, &transaction)
  }
}

extension SlotBuild {
  /// The previous instance of the slot keeps something in memory that is to move.
  var hasStateToMove: Bool { previous?.stateTable != nil && previous?.slot.kind == slot.kind }
}
