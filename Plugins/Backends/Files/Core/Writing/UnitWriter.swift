import BackendSupport
import Glibc
import PluginAPI

/// Applies units. One thread at a time.
///
/// Of a batch, each unit's new files are written where nobody looks and the unit is added to the log; then the log is
/// made durable, once for all; then every file is moved to its name. What can fail, for want of room or of permission,
/// fails before a unit is in the log. The files are made durable much later, all at once, and only then is the log begun
/// anew.
final class UnitWriter {
  let tree: Tree
  let log: RedoLog
  let placer: Placer
  let gate: PlacementGate
  let settings: FilesSettings
  private let limits: RecordLimits
  private let device: dev_t
  /// For tests: between the log and the first file.
  private let willPlace: () -> Void
  /// The end of the log before the batch.
  private var batchStart = RedoLog.Mark()
  /// What the units of the batch so far will leave, until they are in place.
  private var overlay: [BorrowedKey: RecordState] = [:]

  /// A unit in the log.
  private struct Accepted {
    var index: Int
    var placements: [Placement]
  }

  /// Puts what a crash left in the log in place.
  init(
    _ root: OpenRoot, _ settings: FilesSettings, _ gate: PlacementGate, willPlace: @escaping () -> Void = {}
  ) throws(FilesProblem) {
    tree = root.tree
    log = RedoLog(root, settings.durability)
    placer = Placer(root)
    self.gate = gate
    self.willPlace = willPlace
    self.settings = settings
    device = root.device
    limits = RecordLimits(
      backend: "the files backend", uriSizeBytesMax: FilesSettings.uriSizeBytesMax,
      dataSizeBytesMax: settings.recordSizeBytesMax)
    try putInPlaceFromLog()
    try checkpoint()
  }

  // MARK: A batch

  /// Applies units in order; one that fails fails no other. Conditions have been checked and everything is as durable as
  /// the settings say when this returns.
  func write(_ units: some RandomAccessCollection<some OpList>) -> [UnitOutcome] {
    loggedCount = 0
    do throws(FilesProblem) {
      if gate.isStuck { try repair() }
      if log.end.offset >= settings.logSizeBytesMax { try checkpoint() }
    } catch {
      lastProblem = error
      return Array(repeating: .failed(error.failure), count: units.count)
    }
    defer { overlay.removeAll(keepingCapacity: true) }
    batchStart = log.end
    var outcomes: [UnitOutcome] = []
    var accepted: [Accepted] = []
    outcomes.reserveCapacity(units.count)
    for (index, unit) in units.enumerated() {
      do throws(FilesProblem) {
        outcomes.append(try accept(unit, index, &accepted))
      } catch {
        outcomes.append(.failed(error.failure))
        if error.concernsAll { lastProblem = error }
      }
    }
    do throws(FilesProblem) {
      if !accepted.isEmpty { try log.sync() }
    } catch {
      // Nobody knows what of it is on the disk; it is overwritten by what comes next.
      log.rewind(to: batchStart)
      for unit in accepted {
        for placement in unit.placements { discard(placement) }
        outcomes[unit.index] = .failed(error.failure)
      }
      lastProblem = error
      return outcomes
    }
    loggedCount = accepted.count
    willPlace()
    put(accepted, &outcomes)
    return outcomes
  }

  /// Units of the last batch that changed something.
  private(set) var loggedCount = 0

  /// The last thing that went wrong with the disk, for whoever reports it; taken once.
  private(set) var lastProblem: FilesProblem?

  func takeProblem() -> FilesProblem? {
    defer { lastProblem = nil }
    return lastProblem
  }

  private func put(_ accepted: [Accepted], _ outcomes: inout [UnitOutcome]) {
    for (position, unit) in accepted.enumerated() {
      do throws(FilesProblem) {
        if unit.placements.count == 1, unit.placements[0].isOneStep {
          try gate.reading { () throws(FilesProblem) in try place(unit.placements[0]) }
        } else {
          try gate.changing { () throws(FilesProblem) in
            // Before anybody can look: a part may be in place.
            gate.setStuck(true)
            for placement in unit.placements { try place(placement) }
            gate.setStuck(false)
          }
        }
      } catch {
        // This unit and those after it are in the log, so they will be in place, but not now.
        gate.changing { gate.setStuck(true) }
        let failure = Failure.unavailable(
          "the write is logged, but could not be put in place yet: \(error.failure.message)", retryAfterMs: 1_000)
        for late in accepted[position...] {
          outcomes[late.index] = .failed(failure)
          for placement in late.placements { placer.discard(placement) }
        }
        lastProblem = FilesProblem(failure, path: error.path)
        return
      }
    }
  }

  func place(_ placement: Placement) throws(FilesProblem) {
    if let file = placement.file { gate.willPut(placement.path, file.content) }
    try placer.place(placement)
  }

  // MARK: A unit

  /// Checks a unit, stages its files and adds it to the log. When this throws or the outcome is not `applied`, the unit
  /// has left nothing.
  private func accept(
    _ unit: some OpList, _ index: Int, _ accepted: inout [Accepted]
  ) throws(FilesProblem) -> UnitOutcome {
    let refusal = try unit.refusal(limits) { uri throws(FilesProblem) in
      guard let path = RecordPath(uri) else { return nil }
      return try state(uri, path, [:]).current?.stamp.version
    }
    if let refusal { return refusal }
    var placements: [Placement] = []
    var after: [BorrowedKey: RecordState] = [:]
    var absentCount = 0
    var directory: [UInt8] = []
    let stamp = Stamp(timestampMs: unit.timestampMs, version: unit.version)
    do throws(FilesProblem) {
      for index in 0..<unit.count {
        let op = unit[index]
        guard let path = RecordPath(op.uri.bytes) else { throw notAURI(op) }
        let before = try state(op.uri.bytes, path, after)
        var state = RecordState.absent
        if op.isDelete {
          guard before.current != nil else {
            absentCount += 1
            continue
          }
          try checkWritable(path.directory, isToMake: false)
          placements.append(Placement(path: path, before: before, file: nil, staged: 0))
        } else {
          directory = path.directory
          try checkWritable(path.directory, isToMake: true)
          let content = Content(rawValue: op.content) ?? .bytes
          let placement = try placer.stage(path, before: before, op.data.bytes, content, stamp)
          state[content] = placement.file
          placements.append(placement)
        }
        after[BorrowedKey(op.uri.bytes)] = state
      }
      // A unit that changes nothing needs no log.
      if placements.isEmpty { return .applied(absentCount: absentCount) }
      try append(unit, isFirst: accepted.isEmpty)
    } catch {
      for placement in placements { discard(placement) }
      tree.removeEmptyDirectories(directory)
      throw error
    }
    overlay.merge(after) { _, new in new }
    accepted.append(Accepted(index: index, placements: placements))
    return .applied(absentCount: absentCount)
  }

  private func append(_ unit: some OpList, isFirst: Bool) throws(FilesProblem) {
    do throws(FilesProblem) {
      try log.append(unit)
    } catch {
      // On a full disk the log still has the room of what is in place, which is enough to delete something.
      guard isFirst, error.number == ENOSPC || error.number == EDQUOT, log.end.offset > 0 else { throw error }
      try checkpoint()
      batchStart = log.end
      try log.append(unit)
    }
  }

  private func notAURI(_ op: bp_op) -> FilesProblem {
    FilesProblem(
      .invalid(
        "\(op.uri.text.prefix(200)) is not scheme://authority/path, which is what the files backend keeps records by"),
      isOfRequest: true)
  }

  /// What is there of a record, once the units before are in place.
  private func state(
    _ uri: BorrowedBytes, _ path: RecordPath, _ earlier: [BorrowedKey: RecordState]
  ) throws(FilesProblem) -> RecordState {
    if !earlier.isEmpty, let state = earlier[BorrowedKey(uri)] { return state }
    if !overlay.isEmpty, let state = overlay[BorrowedKey(uri)] { return state }
    guard let directory = try tree.directory(path.directory) else { return .absent }
    return try tree.state(of: path, in: directory.number)
  }

  /// That a name can be made in the directory, so that a unit in the log does not wait for somebody to allow it.
  private func checkWritable(_ relative: [UInt8], isToMake: Bool) throws(FilesProblem) {
    guard let directory = isToMake ? try tree.makeDirectory(relative) : try tree.directory(relative) else { return }
    var status = stat()
    guard fstat(directory.number, &status) == 0, faccessat(directory.number, ".", W_OK | X_OK, AT_EACCESS) == 0 else {
      throw tree.problem(errno, "writing to", relative)
    }
    if status.st_dev != device { throw tree.problem(EXDEV, "writing to", relative) }
  }

  private func discard(_ placement: Placement) {
    placer.discard(placement)
    if placement.file != nil { tree.removeEmptyDirectories(placement.path.directory) }
  }
}
