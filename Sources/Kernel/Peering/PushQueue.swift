import Synchronization

/// The units that one peer is still to get, in the order in which they were accepted. One for each slot name; it outlives
/// the slot's instances.
///
/// Bounded: when it is full the oldest unit that waits is dropped. What the peer is then without are old states of records,
/// and mostly of records that it gets again later; were new ones turned away, it would keep the old states for good.
final class PushQueue: Sendable {
  /// One unit that waits or is on its way.
  struct Unit {
    enum Place {
      case memory([UInt8])
      case file(PushFiles.Place)
    }
    /// Their order.
    let sequence: Int64
    /// Of its record, in bytes.
    let size: Int
    let timestampMs: UInt64
    let place: Place
  }

  private struct State {
    /// Nil: no slot of that name pushes.
    var settings: PeerSettings.Push?
    var waiting = UnitList()
    var bytes = 0
    /// On their way, by sequence.
    var taken: [Int64: Unit] = [:]
    var nextSequence: Int64 = 1 << 40
    /// What earlier processes have left comes before.
    var firstSequence: Int64 = 1 << 40
    var files: PushFiles?
    /// Dropped since the peer was last level.
    var overflow = 0
    var problem: String?
    /// Why nothing goes out now.
    var outage: String?
  }

  let slot: String
  let directory: String
  let bell = FeedBell()
  /// Counted by units.
  let pushed = Atomic<UInt64>(0)
  let dropped = Atomic<UInt64>(0)
  let refused = Atomic<UInt64>(0)
  let retried = Atomic<UInt64>(0)
  private let log: Mutex<KernelLog?> = Mutex(nil)
  private let state = Mutex(State())

  /// - Parameter directory: where its files are; need not exist. Empty: it is in memory, whatever is asked for.
  init(slot: String, directory: String) {
    self.slot = slot
    self.directory = directory
  }

  /// What the slot says now; nil: there is none that pushes, and what waits is kept.
  func configure(_ settings: PeerSettings.Push?, _ log: KernelLog) {
    self.log.withLock { $0 = log }
    state.withLock { state in
      state.settings = settings
      if let settings { makeRoom(0, settings, &state) }
    }
    bell.ring()
  }

  var isConfigured: Bool { state.withLock { $0.settings != nil } }

  // MARK: Putting

  /// Puts a unit at the end, and drops what is too much. Waits for nobody. Any thread.
  ///
  /// - Parameter record: `MissedUnit.record`; shared with other queues.
  func put(_ record: [UInt8], timestampMs: UInt64) {
    let (isFirstDrop, problem) = state.withLock { state -> (Bool, String?) in
      guard let settings = state.settings else { return (false, nil) }
      let before = state.overflow
      guard record.count <= settings.queueSizeBytesMax else {
        state.overflow += 1
        dropped.add(1, ordering: .relaxed)
        return (before == 0, nil)
      }
      makeRoom(record.count, settings, &state)
      var place = Unit.Place.memory(record)
      var problem: String?
      if settings.isDurable, !directory.isEmpty {
        do throws(JournalProblem) {
          place = .file(try files(&state).append(record))
        } catch {
          // It stays in memory: that is less than was asked for, and better than nothing.
          if state.problem == nil { problem = error.sentence }
          state.problem = error.sentence
        }
      }
      let unit = Unit(sequence: state.nextSequence, size: record.count, timestampMs: timestampMs, place: place)
      state.nextSequence += 1
      state.waiting.append(unit)
      state.bytes += unit.size
      return (before == 0 && state.overflow > 0, problem)
    }
    bell.ring()
    if isFirstDrop { sayFull() }
    if let problem {
      log.withLock { $0 }?.error(
        "the queue of a peer cannot be written; its messages wait in memory", ["slot": slot, "reason": problem])
    }
  }

  private func files(_ state: inout State) throws(JournalProblem) -> PushFiles {
    if let files = state.files { return files }
    let files = try PushFiles(directory)
    state.files = files
    return files
  }

  private func makeRoom(_ size: Int, _ settings: PeerSettings.Push, _ state: inout State) {
    var isChanged = false
    while state.waiting.count + (size > 0 ? 1 : 0) > settings.queueUnitsMax
      || state.bytes + size > settings.queueSizeBytesMax
    {
      guard let oldest = state.waiting.popFirst() else { break }
      state.bytes -= oldest.size
      if case .file(let place) = oldest.place {
        state.files?.done(place)
        isChanged = true
      }
      state.overflow += 1
      dropped.add(1, ordering: .relaxed)
    }
    if isChanged { remember(&state) }
  }

  private func sayFull() {
    let bounds = state.withLock { $0.settings }
    log.withLock { $0 }?.warning(
      "the queue of a peer is full, and the oldest messages are dropped from now on",
      [
        "slot": slot, "push.queue_units_max": "\(bounds?.queueUnitsMax ?? 0)",
        "push.queue_size_bytes_max": "\(bounds?.queueSizeBytesMax ?? 0)",
      ])
  }

  // MARK: Sending

  var hasWaiting: Bool { state.withLock { $0.settings != nil && !$0.waiting.isEmpty } }

  /// The oldest ones, at most so many and so much, at least one when there is any. They are on their way then, until
  /// `done` or `giveBack`.
  func take(unitsMax: Int, bytesMax: Int) -> [Unit] {
    state.withLock { state in
      guard state.settings != nil else { return [] }
      var units: [Unit] = []
      var bytes = 0
      while units.count < unitsMax, let next = state.waiting.first, units.isEmpty || bytes + next.size <= bytesMax {
        _ = state.waiting.popFirst()
        state.bytes -= next.size
        bytes += next.size
        state.taken[next.sequence] = next
        units.append(next)
      }
      return units
    }
  }

  /// They wait again, in their places.
  func giveBack(_ units: [Unit]) {
    guard !units.isEmpty else { return }
    state.withLock { state in
      let returning = units.filter { state.taken.removeValue(forKey: $0.sequence) != nil }
      state.waiting.putBack(returning)
      state.bytes += returning.reduce(0) { $0 + $1.size }
    }
  }

  enum Outcome {
    case pushed
    case refused
  }

  /// The peer has it, or will never take it.
  func done(_ unit: Unit, _ outcome: Outcome) {
    switch outcome {
    case .pushed: pushed.add(1, ordering: .relaxed)
    case .refused: refused.add(1, ordering: .relaxed)
    }
    let dropped = state.withLock { state -> Int in
      guard state.taken.removeValue(forKey: unit.sequence) != nil else { return 0 }
      if case .file(let place) = unit.place {
        state.files?.done(place)
        remember(&state)
      }
      state.outage = nil
      guard state.waiting.isEmpty, state.taken.isEmpty else { return 0 }
      state.problem = nil
      defer { state.overflow = 0 }
      return state.overflow
    }
    if dropped > 0 {
      log.withLock { $0 }?.notice(
        "a peer whose queue was full is level again; it is without what was dropped",
        ["slot": slot, "dropped": "\(dropped)"])
    }
  }

  /// The first unit in a file that is not done is where the process after this one begins.
  private func remember(_ state: inout State) {
    guard let files = state.files else { return }
    var first: (sequence: Int64, place: PushFiles.Place)?
    for unit in state.taken.values {
      if case .file(let place) = unit.place, unit.sequence < first?.sequence ?? .max { first = (unit.sequence, place) }
    }
    if first == nil, let next = state.waiting.firstInFile { first = next }
    files.remember(first?.place)
  }

  /// What is to be sent; throws when its file cannot be read.
  func load(_ unit: Unit) throws(JournalProblem) -> MissedUnit {
    switch unit.place {
    case .memory(let record):
      guard let loaded = MissedUnit(payload: Array(record[MissedUnit.headSize...])) else {
        throw JournalProblem("a message that waits for a peer is damaged")
      }
      return loaded
    case .file(let place):
      guard let (loaded, _) = try place.segment.journal.unit(at: place.offset) else {
        throw JournalProblem("\(place.segment.journal.path) is damaged at byte \(place.offset)")
      }
      return loaded
    }
  }

  /// Nothing goes out now, for this reason.
  func waits(_ reason: String) { state.withLock { $0.outage = reason } }

  // MARK: Files

  /// Takes over what earlier processes have left. Nobody else writes there any more.
  func load(_ names: [String], _ log: KernelLog) {
    guard !directory.isEmpty, !names.isEmpty else { return }
    state.withLock { state in
      do throws(JournalProblem) {
        let files = try files(&state)
        let found = files.load(names) {
          log.error(
            "a file of a peer's queue cannot be read, and is left aside", ["slot": slot, "reason": $0.sentence])
        }
        state.firstSequence -= Int64(found.count)
        let first = state.firstSequence
        state.waiting.putBack(
          found.enumerated().map { index, unit in
            Unit(
              sequence: first + Int64(index), size: unit.size, timestampMs: unit.timestampMs, place: .file(unit.place))
          })
        state.bytes += found.reduce(0) { $0 + $1.size }
      } catch { state.problem = error.sentence }
    }
    bell.ring()
  }

  /// Brings to the disk what is not there yet. The one thread that does that.
  func synchronise() {
    let (segments, directory) = state.withLock { $0.files?.takeUnsynchronised() ?? ([], nil) }
    for segment in segments {
      do throws(JournalProblem) { try segment.synchronise() } catch {
        state.withLock { $0.problem = error.sentence }
      }
    }
    if let directory { JournalDirectory.synchronise(directory) }
  }

  /// The operator says that the peer needs nothing of what waits. False when nothing does.
  func accept() -> Bool {
    state.withLock { state in
      guard !state.waiting.isEmpty || state.overflow > 0 || state.problem != nil else { return false }
      state.waiting = UnitList()
      state.bytes = 0
      // What is on its way is nobody's when it comes back.
      state.taken = [:]
      state.files?.clear()
      state.overflow = 0
      state.problem = nil
      state.outage = nil
      return true
    }
  }

  // MARK: What it says of itself

  /// For the process that takes this one's place.
  var counts: [UInt64] {
    [
      pushed.load(ordering: .relaxed), dropped.load(ordering: .relaxed), refused.load(ordering: .relaxed),
      retried.load(ordering: .relaxed),
    ]
  }

  func add(_ counts: [UInt64]) {
    guard counts.count == 4 else { return }
    pushed.add(counts[0], ordering: .relaxed)
    dropped.add(counts[1], ordering: .relaxed)
    refused.add(counts[2], ordering: .relaxed)
    retried.add(counts[3], ordering: .relaxed)
  }

  var report: PushReport {
    state.withLock { state in
      let oldest = (state.taken.values.map(\.timestampMs) + (state.waiting.first.map { [$0.timestampMs] } ?? [])).min()
      return PushReport(
        isDurable: state.settings?.isDurable ?? (state.files != nil), units: state.waiting.count + state.taken.count,
        bytes: state.bytes + state.taken.values.reduce(0) { $0 + $1.size }, inFlight: state.taken.count,
        oldestMs: oldest, pushed: pushed.load(ordering: .relaxed), dropped: dropped.load(ordering: .relaxed),
        refused: refused.load(ordering: .relaxed), retried: retried.load(ordering: .relaxed),
        droppedSinceLevel: state.overflow, reason: state.outage, problem: state.problem)
    }
  }
}

/// Units in order: taken from the front, put at the end.
struct UnitList {
  private var units: [PushQueue.Unit?] = []
  private var head = 0

  var count: Int { units.count - head }
  var isEmpty: Bool { head == units.count }
  var first: PushQueue.Unit? { isEmpty ? nil : units[head] }

  mutating func append(_ unit: PushQueue.Unit) { units.append(unit) }

  mutating func popFirst() -> PushQueue.Unit? {
    guard !isEmpty else { return nil }
    let unit = units[head]
    units[head] = nil
    head += 1
    if head == units.count {
      units.removeAll(keepingCapacity: units.count <= 4096)
      head = 0
    } else if head >= 64, head * 2 >= units.count {
      units.removeFirst(head)
      head = 0
    }
    return unit
  }

  /// Takes back what was taken from the front, or belongs before it.
  mutating func putBack(_ returning: [PushQueue.Unit]) {
    guard !returning.isEmpty else { return }
    let last = returning.map(\.sequence).max()!
    // Those behind the last of them stay where they are.
    var end = head
    while end < units.count, units[end]!.sequence < last { end += 1 }
    let front = (returning + units[head..<end].map { $0! }).sorted { $0.sequence < $1.sequence }
    units.replaceSubrange(0..<end, with: front.map(Optional.some))
    head = 0
  }

  /// The first that lies in a file.
  var firstInFile: (sequence: Int64, place: PushFiles.Place)? {
    for case let unit? in units[head...] {
      if case .file(let place) = unit.place { return (unit.sequence, place) }
    }
    return nil
  }
}
