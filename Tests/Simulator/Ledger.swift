#if SIMULATION

/// What clients have been told, against which every answer is held.
///
/// A write takes effect at some moment between its beginning and its acknowledgement; one that failed may take effect at
/// any moment after its beginning, or never. So a value must not be read any more when another is known to have been
/// written after it: when that write began after this one was acknowledged, and was acknowledged or read itself.
final class Ledger {
  struct Write {
    let uri: Int
    let begunAt: Int
    var acknowledgedAt = Int.max
    /// How often each slot has applied it.
    var applied: [String: Int] = [:]
  }

  private(set) var writes: [Write] = []
  /// For each URI when the newest write began that is known to be there.
  private var floors: [Int: Int] = [:]
  /// Counts what clients begin and end.
  private(set) var moment = 0
  /// Counts legitimate losses.
  private(set) var epoch = 0

  /// The number of a new write.
  func begin(uri: Int) -> Int {
    moment += 1
    writes.append(Write(uri: uri, begunAt: moment))
    return writes.count - 1
  }

  func acknowledged(_ number: Int, epoch begunIn: Int) {
    moment += 1
    writes[number].acknowledgedAt = moment
    if begunIn == epoch { raise(writes[number]) }
  }

  private func raise(_ write: Write) { floors[write.uri] = max(floors[write.uri] ?? 0, write.begunAt) }

  func applied(_ number: Int, in slot: String) {
    writes[number].applied[slot, default: 0] += 1
    Report.require(writes[number].applied[slot]! == 1, "write w\(number) was applied twice in slot '\(slot)'")
  }

  /// A slot began without its predecessor's records, and may.
  func forget() {
    Report.trace("records are lost, legitimately")
    epoch += 1
    floors = [:]
  }

  struct Expectation {
    let epoch: Int
    let floor: Int
  }

  func beginRead(uri: Int) -> Expectation {
    moment += 1
    return Expectation(epoch: epoch, floor: floors[uri] ?? 0)
  }

  /// - Parameter number: what was read; nil when nothing was there.
  func endRead(uri: Int, _ number: Int?, _ expectation: Expectation, isLinear: Bool, _ what: String) {
    moment += 1
    guard let number else {
      let isMissing = isLinear && expectation.epoch == epoch && expectation.floor != 0
      return Report.require(
        !isMissing, "\(what): nothing is at k\(uri), though a write was acknowledged or read before")
    }
    Report.require(number < writes.count && writes[number].uri == uri, "\(what): w\(number) was read at k\(uri)")
    guard isLinear, expectation.epoch == epoch else { return }
    Report.require(
      writes[number].acknowledgedAt >= expectation.floor,
      "\(what): w\(number) was read at k\(uri), though a later write was acknowledged or read before")
    raise(writes[number])
  }
}
#endif
