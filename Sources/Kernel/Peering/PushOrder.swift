/// Which of the units that were taken from a queue may go out: those before which no other one of the same records is on
/// its way or waits.
struct PushOrder {
  private var lines: [[UInt8]: [Int64]] = [:]

  /// Units come in their order.
  mutating func enter(_ sequence: Int64, _ uris: Set<[UInt8]>) {
    for uri in uris {
      // One that was given back may come again while later ones are on their way no more: it keeps its place.
      var line = lines[uri] ?? []
      let place = line.firstIndex { $0 > sequence } ?? line.count
      line.insert(sequence, at: place)
      lines[uri] = line
    }
  }

  func isFirst(_ sequence: Int64, _ uris: Set<[UInt8]>) -> Bool {
    uris.allSatisfy { lines[$0]?.first == sequence }
  }

  mutating func leave(_ sequence: Int64, _ uris: Set<[UInt8]>) {
    for uri in uris {
      guard var line = lines[uri] else { continue }
      line.removeAll { $0 == sequence }
      lines[uri] = line.isEmpty ? nil : line
    }
  }

  var isEmpty: Bool { lines.isEmpty }
}

/// How often a peer is tried: as fast as it goes while it takes units, and one unit at a time with growing pauses while it
/// does not.
struct PushPace {
  static let pauseNsMin: UInt64 = 100_000_000
  static let pauseNsMax: UInt64 = 5_000_000_000
  /// A peer may ask for longer ones.
  private static let askedNsMax: UInt64 = 60_000_000_000

  /// 0: it takes units.
  private(set) var pauseNs: UInt64 = 0
  /// When to try again.
  private(set) var resumeNs: UInt64 = 0
  private var failedNs: UInt64 = 0

  var isUp: Bool { pauseNs == 0 }

  /// A call that began at `startNs` has failed. True when that is news: the peer was taken to be there until now.
  mutating func failed(nowNs: UInt64, startNs: UInt64, retryAfterMs: UInt32) -> Bool {
    let wasUp = isUp
    // Those that were on their way when it went say nothing new.
    guard wasUp || startNs >= failedNs else { return false }
    pauseNs = wasUp ? PushPace.pauseNsMin : min(pauseNs * 2, PushPace.pauseNsMax)
    failedNs = nowNs
    resumeNs = nowNs + max(pauseNs, min(UInt64(retryAfterMs) * 1_000_000, PushPace.askedNsMax))
    return wasUp
  }

  /// True when it had been away.
  mutating func succeeded() -> Bool {
    defer { (pauseNs, resumeNs) = (0, 0) }
    return !isUp
  }
}
