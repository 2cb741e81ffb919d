import BackplaneABI
import Foundation
import Synchronization

/// What the node has for its peers beyond their instances: queues, the threads that send what is in them, and what came of
/// asking. All by slot name, so that it outlives a slot's instances.
///
/// Files are in `peers/<slot>` of the state directory.
final class PeerRegistry: Sendable {
  private struct State {
    var queues: [String: PushQueue] = [:]
    var records: [String: PullRecord] = [:]
    var senders: [String: PushSender] = [:]
    /// Set by `begin`; before, nothing is loaded and nothing sent.
    var kernel: KernelReference?
    var isShutDown = false
    var hasSynchroniser = false
    /// For what is still sent when no generation is published any more.
    var lastLease: Lease?
  }
  private struct KernelReference {
    unowned let value: KernelContext
  }
  /// How long the system may keep what was written before the disk is asked to have it.
  static let synchroniseNs: UInt64 = 100_000_000

  private let directory: String
  private let state = Mutex(State())
  private let stopped = Promise<Bool>()
  private let threads = DetachedThreads()

  /// - Parameter directory: made when the first durable queue is. Empty: queues are in memory.
  init(directory: String) {
    self.directory = directory
    for slot in slotsOnDisk().keys { _ = queue(slot) }
  }

  private func slotsOnDisk() -> [String: [String]] {
    JournalDirectory.slots(in: directory).filter { $0.value.contains { $0.hasSuffix(JournalSegment.suffix) } }
  }

  /// The one queue of a slot name.
  func queue(_ slot: String) -> PushQueue {
    state.withLock { state in
      if let known = state.queues[slot] { return known }
      let made = PushQueue(slot: slot, directory: directory.isEmpty ? "" : "\(directory)/\(slot)")
      state.queues[slot] = made
      return made
    }
  }

  /// What came of asking the peer of a slot name.
  func record(_ slot: String) -> PullRecord {
    state.withLock { state in
      if let known = state.records[slot] { return known }
      let made = PullRecord()
      state.records[slot] = made
      return made
    }
  }

  /// Takes over what a configuration says of the slots. Before the generation is published that has them.
  func apply(_ slots: [SlotConfiguration], _ log: KernelLog) {
    let wanted = Dictionary(
      uniqueKeysWithValues: slots.compactMap { slot in
        slot.peer.flatMap { $0.pushes ? (slot.name, $0.push) : nil }
      })
    for name in wanted.keys { _ = queue(name) }
    for (name, queue) in state.withLock({ $0.queues }) { queue.configure(wanted[name], log) }
    for name in wanted.keys { send(name) }
  }

  // MARK: Sending

  /// Takes over what earlier processes have left, none of which writes any more, and begins to send.
  func begin(_ kernel: KernelContext) {
    for (slot, names) in slotsOnDisk() { queue(slot).load(names, kernel.log) }
    let slots = state.withLock { state in
      state.kernel = KernelReference(value: kernel)
      return Array(state.queues.keys)
    }
    for slot in slots where queue(slot).isConfigured { send(slot) }
  }

  /// Sees to it that a thread sends what is in a queue, and that one brings files to the disk.
  private func send(_ slot: String) {
    let (sender, isFirst) = state.withLock { state -> (PushSender?, Bool) in
      guard let kernel = state.kernel?.value, !state.isShutDown, state.senders[slot] == nil,
        let queue = state.queues[slot]
      else { return (nil, false) }
      let sender = PushSender(queue, kernel)
      state.senders[slot] = sender
      defer { if !directory.isEmpty { state.hasSynchroniser = true } }
      return (sender, !state.hasSynchroniser && !directory.isEmpty)
    }
    guard let sender else { return }
    threads.start("bp-push") { [self] in sender.run { mayEnd(slot) } }
    if isFirst { threads.start("bp-push-sync") { [self] in synchroniseAll() } }
  }

  /// The thread of a queue that no slot pushes to may end, unless that has just changed.
  private func mayEnd(_ slot: String) -> Bool {
    state.withLock { state in
      guard state.queues[slot]?.isConfigured != true else { return false }
      state.senders[slot] = nil
      return true
    }
  }

  private func synchroniseAll() {
    while true {
      let isEnding = stopped.get(untilNs: Clock.monotonicNs() + PeerRegistry.synchroniseNs) != nil
      for queue in state.withLock({ Array($0.queues.values) }) { queue.synchronise() }
      if isEnding { return }
    }
  }

  /// Of the generation that was the last one; the caller gives it back.
  func lastLease() -> Lease? {
    state.withLock { state in
      guard let lease = state.lastLease, let kernel = state.kernel?.value else { return nil }
      return kernel.ring.extend(lease)
    }
  }

  // MARK: The operator

  /// What waits for a peer is dropped. False when nothing does.
  func accept(_ slot: String) -> Bool { state.withLock { $0.queues[slot] }?.accept() ?? false }

  /// Queues with something in them, by slot.
  var reports: [(slot: String, report: PushReport)] {
    let queues = state.withLock { Array($0.queues.values) }
    return queues.map { ($0.slot, $0.report) }.filter { $0.report.units > 0 }.sorted { $0.slot < $1.slot }
  }

  /// What a slot is as a peer; nil when it is none.
  func report(of slot: SlotConfiguration) -> PeerReport? {
    slot.peer.map { peer in
      PeerReport(
        direction: peer.direction.rawValue, push: peer.pushes ? queue(slot.name).report : nil,
        pull: peer.pulls ? record(slot.name).report : nil)
    }
  }

  /// What was counted of a slot, for the process that takes this one's place.
  func counts(_ slot: String) -> PeerCounts {
    let (queue, record) = state.withLock { ($0.queues[slot], $0.records[slot]) }
    return PeerCounts(push: queue?.counts ?? [], pull: record?.counts ?? [])
  }

  /// Adds what the process before has counted.
  func add(_ counts: PeerCounts, to slot: String) {
    let (queue, record) = state.withLock { ($0.queues[slot], $0.records[slot]) }
    queue?.add(counts.push)
    record?.add(counts.pull)
  }

  // MARK: The end

  /// Sends what waits in memory, as long as the peers take it and at the latest until then; what is in files waits for the
  /// next process.
  ///
  /// - Parameter lease: of the generation that was the last one; taken over.
  func end(_ kernel: KernelContext, _ lease: Lease?, untilNs deadlineNs: UInt64) {
    let senders = state.withLock { state in
      state.lastLease = lease
      state.isShutDown = true
      return Array(state.senders.values)
    }
    for sender in senders { sender.end(atNs: deadlineNs) }
    stopped.set(true)
    _ = threads.wait(untilNs: deadlineNs + PeerRegistry.synchroniseNs)
    state.withLock { $0.lastLease = nil }
    if let lease { kernel.ring.release(lease) }
    for queue in state.withLock({ Array($0.queues.values) }) {
      queue.synchronise()
      let report = queue.report
      guard report.units > 0 else { continue }
      kernel.log.notice(
        report.isDurable
          ? "messages that wait for a peer are kept for the next start"
          : "messages that waited for a peer in memory are lost with this process",
        ["slot": queue.slot, "messages": "\(report.units)"])
    }
  }

  /// Ends the threads; false when one is left behind.
  func shutDown(untilNs deadlineNs: UInt64) -> Bool {
    let senders = state.withLock { state in
      state.isShutDown = true
      return Array(state.senders.values)
    }
    for sender in senders { sender.end(atNs: 1) }
    stopped.set(true)
    return threads.wait(untilNs: deadlineNs)
  }
}
