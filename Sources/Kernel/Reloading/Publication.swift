import BackplaneABI

/// The publication: the new generation, complete, behind one pointer.
extension Reconciler {
  /// True when the published generation is another than before. A plan that comes to what serves already changes the
  /// configuration alone.
  func publish(_ plan: ReloadPlan, _ loaded: LoadedConfiguration, _ transaction: inout ReloadTransaction) -> Bool {
    var slots: [Instance] = []
    var missing: [Generation.MissingSlot] = []
    for entry in plan.entries {
      switch entry {
      case .kept(let instance), .restored(let instance, _): slots.append(instance)
      case .built(let build):
        if let instance = build.published {
          slots.append(instance)
        } else if build.isPreviousStopped || build.absence != nil {
          missing.append(Publication.missing(build))
        }
      }
    }
    missing += stillMissing(slots, missing, transaction.isLost ? configuration ?? loaded : loaded)
    let policy = loaded.node.writePolicy
    let isSame =
      published.map { old in
        old.slots.count == slots.count && zip(old.slots, slots).allSatisfy { $0 === $1 } && old.writePolicy == policy
          && old.missing.map(\.slot) == missing.map(\.slot)
      } ?? false
    if isSame {
      // A configuration that differs only in what the kernel reads.
      if !transaction.isLost { adopt(loaded) }
      return false
    }
    let generation: Generation
    do throws(Refusal) {
      guard let number = kernel.ring.nextNumber() else { throw SlotRefusals.tooManyGenerations() }
      generation = try Publication.generation(number, slots, policy, missing)
    } catch {
      transaction.refusals.append(Receipt.Refused(slot: nil, error))
      return false
    }
    for instance in slots {
      instance.generations.add(1, ordering: .relaxed)
      instance.wasPublished(in: generation.number)
    }
    let old = published
    published = generation
    if !transaction.isLost { adopt(loaded) }
    kernel.ring.publish(generation)
    transaction.ended("published", nowNs: world.nowNs())
    transaction.changes = Publication.changes(plan)
    // Before the old generation can retire: what is on probation pins its predecessor.
    let pinned = beginTrials(plan, superseding: old)
    if let old {
      world.supersede(
        old,
        leaving: old.slots.filter { instance in
          !slots.contains { $0 === instance } && !pinned.contains { $0 === instance }
        })
    }
    world.tellReady(slots, timeoutMs: loaded.node.reload.startTimeoutMs)
    return true
  }

  /// Slots that nothing served before and nothing serves now, as far as they are still configured.
  private func stillMissing(
    _ slots: [Instance], _ missing: [Generation.MissingSlot], _ loaded: LoadedConfiguration
  ) -> [Generation.MissingSlot] {
    let known = Set(slots.map(\.slot.name) + missing.map(\.slot.name))
    let configured = Set(loaded.node.slots.map(\.name))
    return (published?.missing ?? []).filter { configured.contains($0.slot.name) && !known.contains($0.slot.name) }
  }
}

enum Publication {
  static func missing(_ build: SlotBuild) -> Generation.MissingSlot {
    Generation.MissingSlot(
      slot: build.slot, plugin: build.plugin.manifest.id, version: build.plugin.manifest.version,
      reason: build.absence
        ?? "nothing serves the slot: neither the new instance nor the one before could be started")
  }

  static func changes(_ plan: ReloadPlan) -> [Receipt.Change] {
    var changes: [Receipt.Change] = []
    for entry in plan.entries {
      switch entry {
      case .built(let build) where build.isServing: changes.append(change(build, build.instance!))
      case .restored(let instance, let candidate):
        changes.append(
          Receipt.Change(
            slot: instance.slot.name, action: .replaced, plugin: instance.image.id, version: instance.image.version,
            previousVersion: candidate.image.version, reason: "rolled back", content: instance.image.contentHash))
      default: break
      }
    }
    for instance in plan.removed {
      changes.append(
        Receipt.Change(
          slot: instance.slot.name, action: .removed, plugin: instance.image.id, version: "",
          previousVersion: instance.image.version, reason: "no longer configured", content: ""))
    }
    return changes
  }

  private static func change(_ build: SlotBuild, _ instance: Instance) -> Receipt.Change {
    let previous = build.previous
    let reason =
      previous.map { $0.image.contentHash != build.plugin.contentHash ? "new file" : "new configuration" } ?? "new slot"
    return Receipt.Change(
      slot: build.slot.name, action: previous == nil ? .added : .replaced, plugin: instance.image.id,
      version: instance.image.version, previousVersion: previous?.image.version ?? "", reason: reason,
      content: build.plugin.contentHash, state: build.stateNote)
  }

  static func generation(
    _ number: UInt64, _ slots: [Instance], _ policy: WritePolicy, _ missing: [Generation.MissingSlot]
  ) throws(Refusal) -> Generation {
    var routes: [Generation.ProgramRoute] = []
    var fallback: Instance?
    for instance in slots where instance.schema != nil {
      for program in instance.programs {
        if program.flags & BP_PROGRAM_FALLBACK != 0 {
          if let fallback { throw SlotRefusals.conflict("every other program", fallback, instance) }
          fallback = instance
        } else if let owner = routes.first(where: { $0.key == program.key })?.schema {
          throw SlotRefusals.conflict(
            "the program '\(Wording.printable(String(decoding: program.key, as: UTF8.self)))'", owner, instance)
        } else {
          routes.append(Generation.ProgramRoute(key: program.key, schema: instance, flags: program.flags))
        }
      }
    }
    return Generation(
      number: number, slots: slots, programs: routes, fallback: fallback, writePolicy: policy, missing: missing)
  }
}
