import BackendSupport
import CMongoC
import Glibc
import PluginAPI

/// Units of any kind in one transaction: looks at the records that conditions are about, decides each unit in order,
/// writes what is left of each record at the end, and commits.
final class TransactionWriter {
  private let client: Client
  private let timeoutMs: Int
  private var session: Session?
  /// URIs that are asked for at once.
  private static let lookMax = 1_000
  /// Pause before a transaction that met another one is tried again, at most; grows from a millisecond.
  private static let pauseMsMax: UInt32 = 64

  init(_ client: Client, timeoutMs: Int) {
    self.client = client
    self.timeoutMs = timeoutMs
  }

  /// The outcome of each unit. When this throws nothing was changed, unless the problem says that it is not known.
  func write(_ units: [PreparedUnit]) throws(MongoProblem) -> [UnitOutcome] {
    let endNs = monotonicNs() + UInt64(timeoutMs) * 1_000_000
    var pauseMs: UInt32 = 1
    while true {
      do throws(MongoProblem) {
        return try attempt(units, endNs: endNs)
      } catch {
        session?.abort()
        // A session that met a broken connection is not used again.
        session = nil
        let isToRepeat = (error.isPassing || error.isDuplicateKey) && !error.isOutcomeUnknown
        guard isToRepeat, monotonicNs() < endNs else { throw error }
        usleep(.random(in: 1...pauseMs) * 1_000)
        pauseMs = min(pauseMs * 2, Self.pauseMsMax)
      }
    }
  }

  private func attempt(_ units: [PreparedUnit], endNs: UInt64) throws(MongoProblem) -> [UnitOutcome] {
    let session: Session
    if let open = self.session { session = open } else { session = try Session(client, commitTimeoutMs: timeoutMs) }
    self.session = session
    try session.begin()
    var plan = WritePlan(try look(units, session))
    let outcomes = units.map { plan.decide($0) }
    try write(plan, session)
    while true {
      switch session.commit() {
      case .done: return outcomes
      case .toRepeat(let problem), .failed(let problem): throw problem
      case .unknown(let problem):
        guard monotonicNs() < endNs else { throw problem }
        usleep(10_000)
      }
    }
  }

  /// The versions of the records that some condition or delete is about.
  private func look(_ units: [PreparedUnit], _ session: Session) throws(MongoProblem) -> [BorrowedKey: UInt64?] {
    var known: [BorrowedKey: UInt64?] = [:]
    for unit in units {
      for index in 0..<unit.call.count {
        let op = unit.call[index]
        if op.isDelete || op.condition != BP_IF_ANY { known[BorrowedKey(op.uri.bytes)] = .some(nil) }
      }
    }
    let uris = Array(known.keys)
    for start in stride(from: 0, to: uris.count, by: Self.lookMax) {
      let some = uris[start..<min(start + Self.lookMax, uris.count)]
      try client.find(Filters.anyOf(some.map(\.bytes)), options: Filters.withoutLargeFields(), session: session) {
        document in
        if let found = RecordDecoder.read(document) {
          // The key that lives as long as the units, not the document's.
          if let place = known.index(forKey: BorrowedKey(found.uri)) { known.values[place] = found.version }
        }
        return true
      }
    }
    return known
  }

  private func write(_ plan: WritePlan, _ session: Session) throws(MongoProblem) {
    if plan.isEmpty { return }
    let bulk = try Bulk(client, isOrdered: true, session: session)
    // Puts first and then deletes: libmongoc makes one command of neighbours of a kind.
    for (uri, put) in plan.puts { try bulk.put(uri.bytes, put.unit.update(of: put.op)) }
    for uri in plan.deletes { try bulk.delete(uri.bytes) }
    do throws(MongoProblem) {
      if let problem = try bulk.execute().problems.first?.value { throw problem }
    } catch {
      // Nothing is done before the commit.
      var error = error
      error.isOutcomeUnknown = false
      throw error
    }
  }
}

/// What units come to, one after the other, on what is known of the records.
struct WritePlan {
  struct Put {
    var unit: PreparedUnit
    var op: Int
  }
  private enum Change {
    case put(Put)
    case delete
  }

  /// By URI, the version of the record or nil for none; a URI that is not here was not asked about.
  private var versions: [BorrowedKey: UInt64?]
  private var changes: [BorrowedKey: Change] = [:]

  init(_ versions: [BorrowedKey: UInt64?]) { self.versions = versions }

  var isEmpty: Bool { changes.isEmpty }
  var puts: [(BorrowedKey, Put)] {
    changes.compactMap { uri, change in
      if case .put(let put) = change { return (uri, put) }
      return nil
    }
  }
  var deletes: [BorrowedKey] {
    changes.compactMap { uri, change in
      if case .delete = change { return uri }
      return nil
    }
  }

  /// Takes the unit into the plan, or nothing of it.
  mutating func decide(_ unit: PreparedUnit) -> UnitOutcome {
    // What earlier ops of the unit will have left at each URI.
    var local: [BorrowedKey: UInt64?] = [:]
    var localChanges: [BorrowedKey: Change] = [:]
    var absentCount = 0
    for index in 0..<unit.call.count {
      let op = unit.call[index]
      let key = BorrowedKey(op.uri.bytes)
      let before: UInt64? =
        if let earlier = local[key] { earlier } else if let stored = versions[key] { stored } else { nil }
      guard op.holds(for: before) else { return .preconditionFailed(op: index) }
      if op.isDelete {
        if before == nil { absentCount += 1 } else { localChanges[key] = .delete }
        local[key] = .some(nil)
      } else {
        local[key] = .some(unit.call.version)
        localChanges[key] = .put(Put(unit: unit, op: index))
      }
    }
    versions.merge(local) { $1 }
    changes.merge(localChanges) { $1 }
    return .applied(absentCount: absentCount)
  }
}
