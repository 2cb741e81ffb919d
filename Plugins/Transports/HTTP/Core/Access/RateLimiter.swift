import Synchronization

/// Whom a rate is counted for.
struct ClientKey: Hashable, Sendable {
  let high: UInt64
  let low: UInt64

  /// An IPv6 client has a whole /64 to send from.
  init(_ address: IPAddress) {
    high = address.high
    low = address.isV4 ? address.low : 0
  }

  /// No address begins with these bits: they are those of multicast.
  init(token index: Int) {
    high = .max
    low = UInt64(index)
  }
}

/// A rate for each client, with a burst above it: every request moves the time at which the client will have been idle
/// long enough by one interval, and a request that would move it further ahead than the burst allows is refused (the
/// generic cell rate algorithm: one number a client).
final class RateLimiter: Sendable {
  fileprivate struct Entry {
    var key: ClientKey
    /// When the client's allowance is whole again.
    var fullAtNs: UInt64
    var newer: Int32
    var older: Int32
  }

  fileprivate struct Table {
    var places: [ClientKey: Int32] = [:]
    var entries: [Entry] = []
    var newest: Int32 = -1
    var oldest: Int32 = -1
  }

  private let intervalNs: UInt64
  private let toleranceNs: UInt64
  private let clientsMax: Int
  private let table = Mutex(Table())

  /// - Parameter clientsMax: the client that has been idle longest is forgotten for the one above this.
  init(requestsPerSecond: Double, burst: Int, clientsMax: Int) {
    intervalNs = UInt64(1e9 / requestsPerSecond)
    toleranceNs = intervalNs &* UInt64(burst)
    self.clientsMax = clientsMax
  }

  /// Counts a request. Any thread; a moment.
  /// - Returns: 0 when it is allowed, else after how many seconds one will be.
  func admit(_ key: ClientKey, nowNs: UInt64) -> UInt64 {
    table.withLock { table in
      let place = table.touch(key, clientsMax: clientsMax)
      let fullAtNs = max(table.entries[place].fullAtNs, nowNs) + intervalNs
      guard fullAtNs - nowNs <= toleranceNs else {
        return max(1, (fullAtNs - nowNs - toleranceNs + 999_999_999) / 1_000_000_000)
      }
      table.entries[place].fullAtNs = fullAtNs
      return 0
    }
  }

  /// Clients that are remembered.
  var clients: Int { table.withLock { $0.entries.count } }
}

extension RateLimiter.Table {
  /// The place of a client, which becomes the newest.
  fileprivate mutating func touch(_ key: ClientKey, clientsMax: Int) -> Int {
    if let place = places[key] {
      if newest != place {
        unlink(place)
        linkNewest(place)
      }
      return Int(place)
    }
    let place: Int32
    if entries.count < clientsMax {
      place = Int32(entries.count)
      entries.append(.init(key: key, fullAtNs: 0, newer: -1, older: -1))
    } else {
      place = oldest
      unlink(place)
      places[entries[Int(place)].key] = nil
      entries[Int(place)] = .init(key: key, fullAtNs: 0, newer: -1, older: -1)
    }
    places[key] = place
    linkNewest(place)
    return Int(place)
  }

  private mutating func unlink(_ place: Int32) {
    let (newer, older) = (entries[Int(place)].newer, entries[Int(place)].older)
    if newer >= 0 { entries[Int(newer)].older = older } else { newest = older }
    if older >= 0 { entries[Int(older)].newer = newer } else { oldest = newer }
  }

  private mutating func linkNewest(_ place: Int32) {
    entries[Int(place)].newer = -1
    entries[Int(place)].older = newest
    if newest >= 0 { entries[Int(newest)].newer = place }
    newest = place
    if oldest < 0 { oldest = place }
  }
}
