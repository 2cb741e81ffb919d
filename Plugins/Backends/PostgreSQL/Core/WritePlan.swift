import BackendSupport
import PluginAPI

/// What is sent for the units of one transaction, and what their answers mean.
///
/// A unit of one op carries its condition in its statement. A unit of several ops with conditions must not write anything
/// when one of them does not hold; then the versions of all records with conditions are looked up and locked first, and
/// the conditions of the whole batch are judged here.
struct WritePlan {
  /// One statement on its way.
  struct Step {
    var unit: Int
    var op: Int
    var statement: PreparedStatement
    /// No row changed: another writer came between the check and the write.
    var mustChange = false
  }

  private(set) var steps: [Step] = []
  /// What is known without asking, by unit.
  private(set) var outcomes: [UnitOutcome?]

  /// Why a unit cannot be stored, whatever is there.
  static func problem(_ unit: UnitCall) -> Failure? {
    for index in 0..<unit.count {
      let op = unit[index]
      if let problem = op.problem { return problem }
      if op.uri.size > RecordKey.uriSizeBytesMax {
        return .invalid(
          "the URI has \(op.uri.size) bytes; the PostgreSQL backend keeps URIs of up to \(RecordKey.uriSizeBytesMax)")
      }
      if op.data.size > UInt64(dataSizeBytesMax) {
        return .invalid(
          "the data has \(op.data.size) bytes; the PostgreSQL backend keeps up to \(dataSizeBytesMax)")
      }
      if !RecordKey.isText(op.uri.bytes) {
        return .invalid("the URI is not UTF-8 or has a zero byte, which PostgreSQL does not keep")
      }
    }
    return nil
  }

  /// A field of PostgreSQL's has at most 1 GiB, and so has a whole row while it is made.
  static let dataSizeBytesMax = 256 << 20

  static func sizeBytes(_ unit: UnitCall) -> Int {
    var size = 0
    for index in 0..<unit.count { size += Int(clamping: unit[index].data.size) }
    return size
  }

  static func hasConditions(_ unit: UnitCall) -> Bool {
    for index in 0..<unit.count where unit[index].condition != BP_IF_ANY { return true }
    return false
  }

  /// Whether records must be looked up and locked before anything is written.
  static func needsLook(_ units: [UnitCall]) -> Bool { units.contains { $0.count > 1 && hasConditions($0) } }

  /// Every unit's conditions in its statements.
  init(_ units: [UnitCall], _ statements: Statements) {
    outcomes = Array(repeating: nil, count: units.count)
    steps.reserveCapacity(units.count)
    for (index, unit) in units.enumerated() {
      for op in 0..<unit.count {
        steps.append(Step(unit: index, op: op, statement: Self.statement(unit[op], statements)))
      }
    }
  }

  private static func statement(_ op: bp_op, _ statements: Statements) -> PreparedStatement {
    if op.isDelete {
      switch op.condition {
      case BP_IF_ABSENT: statements.find
      case BP_IF_VERSION: statements.deleteIfVersion
      default: statements.delete
      }
    } else {
      switch op.condition {
      case BP_IF_ABSENT: statements.putIfAbsent
      case BP_IF_PRESENT: statements.putIfPresent
      case BP_IF_VERSION: statements.putIfVersion
      default: statements.put
      }
    }
  }

  /// Conditions judged here. `versions`: of every record with a condition that is there, by key; they are locked.
  init(_ units: [UnitCall], _ statements: Statements, versions: [[UInt8]: UInt64]) {
    outcomes = Array(repeating: nil, count: units.count)
    // What earlier units of the batch will have left.
    var latest: [[UInt8]: UInt64?] = [:]
    for (index, unit) in units.enumerated() {
      var mine: [[UInt8]: UInt64?] = [:]
      var unitSteps: [Step] = []
      for op in 0..<unit.count {
        let raw = unit[op]
        let key = RecordKey.copy(raw.uri.bytes)
        var mustChange = false
        if raw.condition != BP_IF_ANY {
          let before: UInt64? =
            if let own = mine[key] { own } else if let earlier = latest[key] { earlier } else { versions[key] }
          guard raw.holds(for: before) else {
            outcomes[index] = .preconditionFailed(op: op)
            break
          }
          // A record that is absent cannot be locked.
          mustChange = !raw.isDelete && before == nil
        }
        mine[key] = .some(raw.isDelete ? nil : unit.version)
        let statement = raw.isDelete ? statements.delete : mustChange ? statements.putIfAbsent : statements.put
        unitSteps.append(Step(unit: index, op: op, statement: statement, mustChange: mustChange))
      }
      if outcomes[index] != nil { continue }
      latest.merge(mine) { $1 }
      steps += unitSteps
    }
  }

  /// Keys of all records with conditions.
  static func keys(_ units: [UnitCall]) -> [[UInt8]] {
    var keys = Set<[UInt8]>()
    for unit in units {
      for op in 0..<unit.count where unit[op].condition != BP_IF_ANY {
        keys.insert(RecordKey.copy(unit[op].uri.bytes))
      }
    }
    return Array(keys)
  }

  /// `affected`: rows, by step. Throws nothing: nil when another writer came between.
  func outcomes(_ units: [UnitCall], affected: [Int], isJudged: Bool) -> [UnitOutcome]? {
    var result = outcomes
    for (step, count) in zip(steps, affected) {
      if step.mustChange, count == 0 { return nil }
      let op = units[step.unit][step.op]
      var absentCount = 0
      if case .applied(let earlier) = result[step.unit] { absentCount = earlier }
      if isJudged || op.condition == BP_IF_ANY {
        if op.isDelete, count == 0 { absentCount += 1 }
      } else if op.isDelete, op.condition == BP_IF_ABSENT {
        if count > 0 {
          result[step.unit] = .preconditionFailed(op: step.op)
          continue
        }
        absentCount += 1
      } else if count == 0 {
        result[step.unit] = .preconditionFailed(op: step.op)
        continue
      }
      result[step.unit] = .applied(absentCount: absentCount)
    }
    return result.map { $0 ?? .applied(absentCount: 0) }
  }
}
