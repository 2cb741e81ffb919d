import Glibc
import PluginAPI

/// URIs in the order of their names, each once.
struct URISnapshot: Sendable {
  /// Each URI with what it sorts by before it.
  private let keys: [UInt8]
  /// Where each lies in `keys`, in order.
  private let places: [Place]

  private struct Place: Sendable {
    var start: Int
    var uri: Int
    var end: Int
  }

  init(_ uris: some Collection<String>) throws(Failure) {
    let order = try NameOrder()
    var keys: [UInt8] = []
    var places: [Place] = []
    places.reserveCapacity(uris.count)
    for uri in uris {
      let text = Array(uri.utf8)
      let start = keys.count
      try text.withUnsafeBufferPointer { bytes throws(Failure) in try order.appendKey(of: bytes, to: &keys) }
      places.append(Place(start: start, uri: keys.count - text.count, end: keys.count))
    }
    keys.withUnsafeBufferPointer { bytes in
      places.sort {
        NameOrder.isBefore(
          BorrowedBytes(rebasing: bytes[$0.start..<$0.end]), BorrowedBytes(rebasing: bytes[$1.start..<$1.end]))
      }
    }
    self.keys = keys
    self.places = places
  }

  /// Calls `body` with at most `limit` URIs that begin with `prefix` and come after `cursor`, and says whether there are
  /// more; the views are valid during the call.
  func page(
    prefix: BorrowedBytes, after cursor: BorrowedBytes, limit: Int, _ body: (_ uris: [bp_view], _ hasMore: Bool) -> Void
  ) throws(Failure) {
    var after: [UInt8] = []
    if !cursor.isEmpty { try NameOrder().appendKey(of: cursor, to: &after) }
    keys.withUnsafeBufferPointer { bytes in
      after.withUnsafeBufferPointer { after in
        var low = 0
        var high = after.isEmpty ? 0 : places.count
        while low < high {
          let middle = (low + high) / 2
          let place = places[middle]
          if NameOrder.isBefore(after, BorrowedBytes(rebasing: bytes[place.start..<place.end])) {
            high = middle
          } else {
            low = middle + 1
          }
        }
        var uris: [bp_view] = []
        var hasMore = false
        for place in places[low...] {
          let uri = BorrowedBytes(rebasing: bytes[place.uri..<place.end])
          guard uri.count >= prefix.count, memcmp(uri.baseAddress!, prefix.baseAddress!, prefix.count) == 0 else {
            continue
          }
          if uris.count == limit {
            hasMore = true
            break
          }
          uris.append(bp_view(uri))
        }
        body(uris, hasMore)
      }
    }
  }
}

/// Snapshots of scans that go on: the next page need not ask the remote for everything again.
struct SnapshotCache {
  private static let countMax = 4
  private static let keptNs: UInt64 = 30_000_000_000

  private struct Kept {
    var snapshot: URISnapshot
    /// When it was asked for.
    var sinceNs: UInt64
    var usedNs: UInt64
  }
  private var kept: [String: Kept] = [:]

  /// Of records below `directory`; nil when there is none, or none that is young enough.
  mutating func find(_ directory: String, nowNs: UInt64) -> URISnapshot? {
    kept = kept.filter { nowNs - $0.value.usedNs < Self.keptNs }
    kept[directory]?.usedNs = nowNs
    return kept[directory]?.snapshot
  }

  /// A younger one stays: a scan must not go on in a snapshot from before it began.
  mutating func keep(_ directory: String, _ snapshot: URISnapshot, sinceNs: UInt64, nowNs: UInt64) {
    if let other = kept[directory], other.sinceNs > sinceNs { return }
    if kept[directory] == nil, kept.count >= Self.countMax,
      let oldest = kept.min(by: { $0.value.usedNs < $1.value.usedNs })?.key
    {
      kept[oldest] = nil
    }
    kept[directory] = Kept(snapshot: snapshot, sinceNs: sinceNs, usedNs: nowNs)
  }
}
