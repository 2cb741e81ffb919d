import Foundation
import Synchronization

/// The backlogs of all slots, the thread that writes their journals, and the repairs that are under way.
///
/// Files are in `repair/<slot>` of the state directory: what is missing is on the disk before a write is acknowledged
/// without it, so that no restart forgets it.
final class RepairRegistry: Sendable {
  private struct State {
    var backlogs: [String: Backlog] = [:]
    /// Slots of whose repair a thread has been started.
    var repairing: Set<String> = []
    var dirty: [Backlog] = []
    var hasWriter = false
    /// Set by `begin`; before, nothing is loaded and nothing repaired.
    var repairer: Repairer?
    var isShutDown = false
  }

  private let directory: String
  private let state = Mutex(State())
  private let work = Mutex(Promise<Bool>())
  let stopped = Promise<Bool>()
  private let threads = DetachedThreads()
  /// `repair.journal_size_bytes_max`, for each slot.
  let journalSizeBytesMax = Atomic<Int>(256 << 20)
  /// `repair.batch_units_max`.
  let batchUnitsMax = Atomic<Int>(512)

  /// - Parameter directory: made when the first write is missed. Empty: nothing can be recorded, so that a backend that
  ///   misses a write is behind until the operator accepts it.
  init(directory: String) {
    self.directory = directory
    for slot in JournalDirectory.slots(in: directory).keys { backlog(slot).hold() }
  }

  /// The one backlog of a slot name.
  func backlog(_ slot: String) -> Backlog {
    state.withLock { state in
      if let known = state.backlogs[slot] { return known }
      let made = Backlog(slot: slot, directory: directory.isEmpty ? "" : "\(directory)/\(slot)")
      state.backlogs[slot] = made
      return made
    }
  }

  /// All that are behind, by slot.
  var reports: [(slot: String, report: RepairReport)] {
    let backlogs = state.withLock { Array($0.backlogs.values) }
    return backlogs.compactMap { backlog in backlog.report.map { (backlog.slot, $0) } }.sorted { $0.0 < $1.0 }
  }

  // MARK: Misses

  /// `Backlog.missed`, and everything that must happen then.
  func missed(
    _ instance: Instance, _ record: [UInt8], timestampMs: UInt64, reason: String, _ passage: Backlog.Passage,
    _ recorded: @escaping Backlog.Recorded
  ) {
    instance.kernel.missedWrites.add(1, ordering: .relaxed)
    let backlog = instance.backlog
    let isNew = !backlog.isBehind
    if directory.isEmpty {
      if passage == .deferred { backlog.release() }
      backlog.markIncomplete(reason)
      recorded(nil)
    } else {
      backlog.missed(
        record, timestampMs: timestampMs, reason: Redaction.redact(reason), passage,
        journalSizeMax: journalSizeBytesMax.load(ordering: .relaxed), recorded)
      write(backlog)
      repair(backlog)
    }
    if isNew { warn(instance, reason) }
  }

  /// The backend has lost what no journal has.
  func lost(_ instance: Instance, reason: String) {
    let isNew = !instance.backlog.isBehind
    instance.backlog.markIncomplete(reason)
    if !directory.isEmpty { write(instance.backlog) }
    if isNew { warn(instance, reason) }
  }

  /// Puts on the disk that a backlog cannot be made good.
  func recordIncomplete(_ backlog: Backlog) { write(backlog) }

  private func warn(_ instance: Instance, _ reason: String) {
    instance.kernel.log.warning(
      "a backend missed an acknowledged write and is behind; it is not read from while another can answer",
      ["slot": instance.slot.name, "reason": Redaction.redact(reason)])
  }

  // MARK: The writer

  private func write(_ backlog: Backlog) {
    let isToStart = state.withLock { state in
      if !state.dirty.contains(where: { $0 === backlog }) { state.dirty.append(backlog) }
      defer { state.hasWriter = true }
      return !state.hasWriter
    }
    if isToStart { threads.start("bp-journal") { [self] in writeAll() } }
    work.withLock { $0.set(true) }
  }

  private func writeAll() {
    while true {
      let promise = work.withLock { $0 }
      let isEnding = stopped.get(untilNs: 0) != nil
      let dirty = state.withLock { state in
        defer { state.dirty = [] }
        return state.dirty
      }
      for backlog in dirty where backlog.hasToWrite { backlog.flush() }
      guard dirty.isEmpty else { continue }
      if isEnding { return }
      _ = promise.get()
      work.withLock { if $0 === promise { $0 = Promise() } }
    }
  }

  // MARK: Repairs

  /// Takes over what earlier processes have left, none of which writes any more, and begins to repair. `repairer` is
  /// told of slots from then on.
  func begin(_ repairer: Repairer) {
    let onDisk = JournalDirectory.slots(in: directory)
    let names = Set(onDisk.keys).union(state.withLock { $0.backlogs.keys })
    for name in names { backlog(name).load(onDisk[name] ?? []) }
    state.withLock { $0.repairer = repairer }
    for name in names where backlog(name).isRepairing { repair(backlog(name)) }
  }

  /// Sees to it that a thread repairs a slot.
  private func repair(_ backlog: Backlog) {
    let repairer = state.withLock { state -> Repairer? in
      guard let repairer = state.repairer, !state.isShutDown else { return nil }
      return state.repairing.insert(backlog.slot).inserted ? repairer : nil
    }
    guard let repairer else { return }
    threads.start("bp-repair") { [self] in
      while true {
        repairer.run(backlog, stopped: stopped)
        state.withLock { _ = $0.repairing.remove(backlog.slot) }
        // What was missed in between found the thread still there.
        guard stopped.get(untilNs: 0) == nil, backlog.isRepairing,
          state.withLock({ $0.repairing.insert(backlog.slot).inserted })
        else { return }
      }
    }
  }

  /// The operator says that the slot's backend is good as it is. False when it was not behind.
  func accept(_ slot: String) -> Bool {
    guard let known = state.withLock({ $0.backlogs[slot] }) else { return false }
    return known.accept()
  }

  /// Writes what is queued and ends the threads; one that a plugin's code holds at `deadlineNs` is left behind.
  func shutDown(untilNs deadlineNs: UInt64) -> Bool {
    let backlogs = state.withLock { state in
      state.isShutDown = true
      return Array(state.backlogs.values)
    }
    stopped.set(true)
    work.withLock { $0.set(true) }
    for backlog in backlogs { backlog.wake() }
    return threads.wait(untilNs: deadlineNs)
  }
}
