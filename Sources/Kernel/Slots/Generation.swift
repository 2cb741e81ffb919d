import BackplaneABI
import URIText

/// An immutable, numbered picture of every slot and route, built completely before it is published.
final class Generation: @unchecked Sendable {
  // @unchecked: immutable after init; instances are Sendable.
  let number: UInt64
  /// When it was made, CLOCK_MONOTONIC.
  let madeNs = Clock.monotonicNs()
  /// In configured order.
  let slots: [Instance]
  /// The node's own: no peers.
  let backends: [Instance]
  /// Asked for what no backend has, in this order.
  let pullPeers: [Instance]
  /// What accepted messages are put into; also of peers that could not be started yet.
  let pushQueues: [PushQueue]
  /// One entry for each program that is not the fallback, in the order clients see.
  let programs: [ProgramRoute]
  let fallback: Instance?
  let writePolicy: WritePolicy
  /// Slots that are configured and have nothing that serves.
  let missing: [MissingSlot]
  /// Programs whose URIs have a canonical form.
  let canonical: [ProgramRoute]

  struct MissingSlot {
    let slot: SlotConfiguration
    let plugin: String
    let version: String
    /// One sentence.
    let reason: String
  }

  struct ProgramRoute {
    let key: [UInt8]
    let schema: Instance
    let flags: UInt32
  }

  init(
    number: UInt64, slots: [Instance], programs: [ProgramRoute], fallback: Instance?, writePolicy: WritePolicy,
    missing: [MissingSlot] = []
  ) {
    self.missing = missing
    self.number = number
    self.slots = slots
    backends = slots.filter { $0.backend != nil && $0.slot.peer == nil }
    pullPeers = slots.filter { $0.backend != nil && $0.pulls != nil }
    let pushing = (slots.map(\.slot) + missing.map(\.slot)).filter { $0.peer?.pushes == true }
    pushQueues = slots.first.map { first in pushing.map { first.kernel.peers.queue($0.name) } } ?? []
    self.programs = programs
    self.fallback = fallback
    self.writePolicy = writePolicy
    canonical = programs.filter { $0.flags & BP_PROGRAM_CANONICAL != 0 }
  }

  func instance(slot: String) -> Instance? { slots.first { $0.slot.name == slot } }

  /// The schema of a program, or the fallback, or nil.
  func schema(forProgram program: UnsafeBufferPointer<UInt8>) -> Instance? {
    programs.first { $0.key.count == program.count && $0.key.elementsEqual(program) }?.schema ?? fallback
  }

  /// The program whose URIs have a canonical form, when `program` is one.
  @inline(__always)
  func canonicalRoute(_ program: UnsafeBufferPointer<UInt8>) -> ProgramRoute? {
    for route in canonical where route.key.count == program.count && route.key.elementsEqual(program) { return route }
    return nil
  }
}

public typealias WritePolicy = NodeConfiguration.WritePolicy

extension NodeConfiguration.WritePolicy {
  /// Whether a write that `accepted` of `count` backends took counts as accepted.
  func isSatisfied(accepted: Int, of count: Int) -> Bool {
    switch self {
    case .any: accepted >= 1
    case .all: accepted == count
    case .quorum: accepted * 2 > count
    }
  }
}
