import Glibc
import Synchronization

/// What the backend of one slot has missed of acknowledged writes: its repair journal, and whether the backend takes
/// writes now or is being repaired.
///
/// As long as anything is missing, no write goes to the backend but the repair's own: what comes meanwhile is put at the
/// end of the journal, so that the backend gets everything in the order in which the others got it. One for each slot
/// name; it outlives the slot's instances.
final class Backlog: Sendable {
  /// How a backend's part of a write goes.
  enum Passage {
    /// To the backend; `leave` when it has been completed.
    case live
    /// Not to the backend: `missed` when the write is acknowledged, `release` when it is not.
    case deferred
  }

  /// Answers a recorded miss: nil when it is on the disk.
  typealias Recorded = @Sendable (JournalProblem?) -> Void

  private struct Queued {
    /// Nil: there is no room for it; only the sentence that says so has to be on the disk.
    var record: [UInt8]?
    var recorded: Recorded
  }

  struct Written {
    let segment: JournalSegment
    /// Up to here it may be read.
    var size: Int
  }

  private struct State {
    var isRepairing = false
    /// What the journal cannot make good: only the operator ends that.
    var incomplete: String?
    var isIncompleteRecorded = true
    /// Why it fell behind.
    var reason = ""
    var liveLegs = 0
    var deferredLegs = 0
    var queued: [Queued] = []
    /// The writer has taken some of `queued` and not yet come back.
    var isWriting = false
    var segments: [Written] = []
    /// Where in the first segment the first unit is that has not been replayed.
    var head = 0
    /// Missed and not replayed, and what they take.
    var units = 0
    var bytes = 0
    var oldestMs: UInt64 = 0
    /// Versions of units in the journal that have arrived by themselves after all.
    var arrived: Set<UInt64> = []
    /// Moves when everything is dropped.
    var epoch = 0
    var attempt = ""
  }

  let slot: String
  let directory: String
  /// Read on every request: the backend is not read from while another can answer.
  var isBehind: Bool { behind.load(ordering: .acquiring) }
  private let behind = Atomic<Bool>(false)
  let replayed = Atomic<UInt64>(0)
  let refused = Atomic<UInt64>(0)
  private let state = Mutex(State())
  private let changed = Mutex(Promise<Bool>())

  /// - Parameter directory: where its files are; need not exist. Empty: it has no journal.
  init(slot: String, directory: String) {
    self.slot = slot
    self.directory = directory
  }

  // MARK: Writes

  func enter() -> Passage {
    state.withLock { state in
      if state.isRepairing {
        state.deferredLegs += 1
        return .deferred
      }
      state.liveLegs += 1
      return .live
    }
  }

  /// A live part has been completed.
  func leave() {
    let isWaitedFor = state.withLock { state in
      state.liveLegs -= 1
      return state.isRepairing && state.liveLegs == 0
    }
    if isWaitedFor { wake() }
  }

  /// The write of a deferred part was not acknowledged.
  func release() {
    state.withLock { $0.deferredLegs -= 1 }
    wake()
  }

  /// Puts a unit on record that was, or is about to be, acknowledged without this backend. From here on its writes are
  /// deferred. `recorded` is called when that is on the disk, from whatever thread.
  ///
  /// - Parameters:
  ///   - record: `MissedUnit.record`.
  ///   - journalSizeMax: `repair.journal_size_bytes_max`.
  func missed(
    _ record: [UInt8], timestampMs: UInt64, reason: String, _ passage: Passage, journalSizeMax: Int,
    _ recorded: @escaping Recorded
  ) {
    state.withLock { state in
      if passage == .deferred { state.deferredLegs -= 1 }
      if !state.isRepairing {
        state.isRepairing = true
        state.reason = reason
      }
      behind.store(true, ordering: .releasing)
      guard state.bytes + record.count <= journalSizeMax, record.count <= MissedUnit.payloadSizeMax else {
        // What is in it is still replayed: it brings the backend nearer.
        Backlog.setIncomplete(
          "its repair journal is full (repair.journal_size_bytes_max is \(journalSizeMax) bytes), so what it missed after that "
            + "is not recorded", &state)
        state.queued.append(Queued(record: nil, recorded: recorded))
        return
      }
      if state.units == 0 { state.oldestMs = timestampMs }
      state.units += 1
      state.bytes += record.count
      state.queued.append(Queued(record: record, recorded: recorded))
    }
  }

  /// A unit that is recorded as missed, or is about to be, has arrived after all.
  func arrived(_ version: UInt64) {
    guard !directory.isEmpty else { return }
    state.withLock { _ = $0.arrived.insert(version) }
    wake()
  }

  /// It has lost what no journal has.
  func markIncomplete(_ reason: String) {
    state.withLock { state in
      Backlog.setIncomplete(reason, &state)
      behind.store(true, ordering: .releasing)
    }
  }

  private static func setIncomplete(_ reason: String, _ state: inout State) {
    guard state.incomplete == nil else { return }
    state.incomplete = reason
    state.isIncompleteRecorded = false
  }

  /// The operator says that the backend is good as it is. False when it was not behind.
  func accept() -> Bool {
    let (wasBehind, dropped) = state.withLock { state -> (Bool, [Queued]) in
      let wasBehind = state.isRepairing || state.incomplete != nil
      for written in state.segments { unlink(written.segment.path) }
      unlink("\(directory)/\(Backlog.incompleteName)")
      JournalDirectory.synchronise(directory)
      let dropped = state.queued
      let epoch = state.epoch + 1
      let (liveLegs, deferredLegs) = (state.liveLegs, state.deferredLegs)
      let isWriting = state.isWriting
      state = State()
      (state.epoch, state.liveLegs, state.deferredLegs) = (epoch, liveLegs, deferredLegs)
      state.isWriting = isWriting
      behind.store(false, ordering: .releasing)
      return (wasBehind, dropped)
    }
    for queued in dropped { queued.recorded(nil) }
    wake()
    return wasBehind
  }

  // MARK: The journal's writer

  private static let incompleteName = "incomplete"

  /// Writes what is queued, on the one thread that does that, and tells those who wait for it.
  func flush() {
    let (queued, active, incomplete, epoch) = state.withLock { state -> ([Queued], Written?, String?, Int) in
      defer { state.queued = [] }
      state.isWriting = !state.queued.isEmpty
      return (state.queued, state.segments.last, state.isIncompleteRecorded ? nil : state.incomplete, state.epoch)
    }
    var problem: JournalProblem?
    if let incomplete {
      do throws(JournalProblem) {
        try record(incomplete: incomplete)
        state.withLock { $0.isIncompleteRecorded = true }
      } catch { problem = error }
    }
    let records = queued.compactMap(\.record)
    var written: Written?
    if problem == nil, !records.isEmpty {
      do throws(JournalProblem) { written = try append(records, to: active) } catch { problem = error }
    }
    state.withLock { state in
      state.isWriting = false
      guard state.epoch == epoch else {
        // Everything was dropped meanwhile, and so is this.
        if let written { unlink(written.segment.path) }
        return
      }
      if let written {
        if let last = state.segments.last, last.segment === written.segment {
          state.segments[state.segments.count - 1] = written
        } else {
          if state.segments.isEmpty { state.head = JournalSegment.firstRecord }
          state.segments.append(written)
        }
      } else {
        state.units -= records.count
        state.bytes -= records.reduce(0) { $0 + $1.count }
      }
    }
    for one in queued { one.recorded(problem) }
    wake()
  }

  private func append(_ records: [[UInt8]], to active: Written?) throws(JournalProblem) -> Written {
    if let active, active.size < JournalSegment.sizeMax {
      try active.segment.write(records)
      return Written(segment: active.segment, size: active.segment.writtenSize)
    }
    try JournalDirectory.make(directory)
    let segment = try JournalSegment(creating: "\(directory)/\(JournalDirectory.nextName())")
    do throws(JournalProblem) { try segment.write(records) } catch {
      unlink(segment.path)
      throw error
    }
    JournalDirectory.synchronise(directory)
    return Written(segment: segment, size: segment.writtenSize)
  }

  private func record(incomplete reason: String) throws(JournalProblem) {
    try JournalDirectory.make(directory)
    let path = "\(directory)/\(Backlog.incompleteName)"
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw JournalProblem("make", path) }
    defer { close(descriptor) }
    let text = Array((Redaction.redact(reason) + "\n").utf8)
    guard text.withUnsafeBytes({ write(descriptor, $0.baseAddress, $0.count) }) == text.count, fsync(descriptor) == 0
    else { throw JournalProblem("write", path) }
    JournalDirectory.synchronise(directory)
  }

  // MARK: What is there at the start

  /// Its writes are deferred until `load`: there are files, or a process that may still write some.
  func hold() {
    state.withLock { state in
      state.isRepairing = true
      behind.store(true, ordering: .releasing)
    }
  }

  /// Takes over what earlier processes have left. Nobody else writes there any more.
  func load(_ names: [String]) {
    let own = state.withLock { $0.segments.map(\.segment.path) }
    var found: [Written] = []
    var (units, bytes, oldestMs) = (0, 0, UInt64(0))
    var incomplete: String?
    for name in names.sorted() where name.hasSuffix(JournalSegment.suffix) {
      let path = "\(directory)/\(name)"
      guard !own.contains(path) else { continue }
      do throws(JournalProblem) {
        let segment = try JournalSegment(opening: path) { unit, size in
          if units == 0 { oldestMs = unit.timestampMs }
          units += 1
          bytes += size
        }
        found.append(Written(segment: segment, size: segment.writtenSize))
      } catch {
        incomplete = error.sentence
      }
    }
    if names.contains(Backlog.incompleteName) {
      incomplete = incomplete ?? Backlog.text("\(directory)/\(Backlog.incompleteName)")
    }
    state.withLock { state in
      if !found.isEmpty {
        if state.units == 0 || oldestMs < state.oldestMs { state.oldestMs = oldestMs }
        if state.reason.isEmpty { state.reason = "it missed writes before the node was started" }
        state.segments = found + state.segments
        state.head = JournalSegment.firstRecord
        state.units += units
        state.bytes += bytes
        state.isRepairing = true
      }
      if let incomplete, state.incomplete == nil {
        state.incomplete = incomplete
        state.isIncompleteRecorded = names.contains(Backlog.incompleteName)
      }
      behind.store(state.isRepairing || state.incomplete != nil, ordering: .releasing)
    }
  }

  private static func text(_ path: String) -> String {
    var text = [UInt8](repeating: 0, count: 4096)
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "it is not known why" }
    defer { close(descriptor) }
    let count = max(0, text.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) })
    let line = String(decoding: text[..<count], as: UTF8.self).prefix { $0 != "\n" }
    return line.isEmpty ? "it is not known why" : String(line)
  }

  // MARK: The repair

  /// Units that are to be replayed, the oldest first, and where that leaves the journal.
  struct Batch {
    var units: [MissedUnit] = []
    fileprivate var arrived: [UInt64] = []
    fileprivate var unitsRead = 0
    fileprivate var bytesRead = 0
    fileprivate var segmentsDone = 0
    fileprivate var head = 0
    fileprivate var epoch = 0

    /// Nothing was there to be read.
    var isEmpty: Bool { unitsRead == 0 }
  }

  /// What to do next; nil when there is nothing to do but wait.
  func nextBatch(unitsMax: Int, bytesMax: Int) throws(JournalProblem) -> Batch? {
    let found = state.withLock { state -> ([Written], Int, Int, Set<UInt64>)? in
      // What was under way when it fell behind has to end first: it could overtake what is replayed.
      guard state.isRepairing, state.liveLegs == 0 else { return nil }
      return (state.segments, state.head, state.epoch, state.arrived)
    }
    guard let (segments, head, epoch, arrived) = found else { return nil }
    var batch = Batch()
    (batch.head, batch.epoch) = (head, epoch)
    var index = 0
    while index < segments.count, batch.unitsRead < unitsMax, batch.bytesRead < bytesMax {
      let (segment, size) = (segments[index].segment, segments[index].size)
      guard batch.head < size else {
        guard index + 1 < segments.count else { break }
        index += 1
        batch.segmentsDone = index
        batch.head = JournalSegment.firstRecord
        continue
      }
      guard let (unit, recordSize) = try segment.unit(at: batch.head) else {
        throw JournalProblem("\(segment.path) is damaged at byte \(batch.head)")
      }
      batch.head += recordSize
      batch.unitsRead += 1
      batch.bytesRead += recordSize
      if arrived.contains(unit.version) { batch.arrived.append(unit.version) } else { batch.units.append(unit) }
    }
    return batch
  }

  /// The backend has these now, or will never take them.
  func consume(_ batch: Batch) {
    state.withLock { state in
      guard state.epoch == batch.epoch else { return }
      for written in state.segments.prefix(batch.segmentsDone) { unlink(written.segment.path) }
      state.segments.removeFirst(batch.segmentsDone)
      state.head = batch.head
      state.arrived.subtract(batch.arrived)
      state.units -= batch.unitsRead
      state.bytes -= batch.bytesRead
      state.oldestMs = batch.units.last?.timestampMs ?? state.oldestMs
      state.attempt = ""
    }
    replayed.add(UInt64(batch.units.count), ordering: .relaxed)
  }

  /// The rest of a journal cannot be read.
  func giveUpJournal(_ problem: JournalProblem) {
    let dropped = state.withLock { state -> [Written] in
      Backlog.setIncomplete(problem.sentence, &state)
      defer {
        state.segments = []
        state.units = state.queued.count { $0.record != nil }
        state.bytes = state.queued.reduce(0) { $0 + ($1.record?.count ?? 0) }
        state.epoch += 1
      }
      return state.segments
    }
    // Kept for whoever wants to look, under a name that is not read again.
    for written in dropped { rename(written.segment.path, written.segment.path + ".damaged") }
  }

  /// Lets writes through again when nothing is missing any more. False when something is.
  func level() -> Bool {
    state.withLock { state in
      guard state.isRepairing else { return true }
      guard state.queued.isEmpty, !state.isWriting, state.units == 0, state.liveLegs == 0, state.deferredLegs == 0
      else { return false }
      for written in state.segments { unlink(written.segment.path) }
      // Before the first write goes to the backend: old units that came back from the dead would undo new ones.
      if !state.segments.isEmpty { JournalDirectory.synchronise(directory) }
      state.segments = []
      state.arrived = []
      state.isRepairing = false
      state.reason = ""
      behind.store(state.incomplete != nil, ordering: .releasing)
      return true
    }
  }

  /// What the last attempt came to, for the status.
  func failed(_ attempt: String) { state.withLock { $0.attempt = attempt } }

  /// Something has changed that the repair may wait for.
  func wake() { changed.withLock { $0.set(true) } }

  /// Waits for a change, at most until then.
  func waitForChange(untilNs deadlineNs: UInt64) {
    let promise = changed.withLock { $0 }
    if promise.get(untilNs: deadlineNs) != nil { changed.withLock { $0 = Promise() } }
  }

  // MARK: What it says of itself

  var isRepairing: Bool { state.withLock { $0.isRepairing } }

  var hasToWrite: Bool { state.withLock { !$0.queued.isEmpty || !$0.isIncompleteRecorded } }

  var report: RepairReport? {
    state.withLock { state in
      guard state.isRepairing || state.incomplete != nil else { return nil }
      let phase: RepairReport.Phase =
        if !state.isRepairing {
          .incomplete
        } else if state.attempt.isEmpty { .repairing } else { .waiting }
      return RepairReport(
        phase: phase, units: state.units, bytes: state.bytes, oldestMs: state.units == 0 ? nil : state.oldestMs,
        reason: state.reason.isEmpty ? nil : state.reason, attempt: state.attempt.isEmpty ? nil : state.attempt,
        incomplete: state.incomplete, callsWaitedFor: state.isRepairing ? state.liveLegs : 0)
    }
  }
}
