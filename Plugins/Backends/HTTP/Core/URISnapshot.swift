import Glibc
import PluginAPI

/// URIs in the order of their bytes, each once.
struct URISnapshot: Sendable {
  private let text: [UInt8]
  /// Where each lies in `text`, in order.
  private let places: [Range<Int>]

  var count: Int { places.count }

  init(_ uris: some Collection<String>) {
    var text: [UInt8] = []
    var found: [Range<Int>] = []
    found.reserveCapacity(uris.count)
    for uri in uris {
      let start = text.count
      text.append(contentsOf: uri.utf8)
      found.append(start..<text.count)
    }
    text.withUnsafeBufferPointer { bytes in
      found.sort { Self.isBefore(bytes, $0, bytes, $1) }
    }
    self.text = text
    places = found
  }

  private static func isBefore(
    _ left: UnsafeBufferPointer<UInt8>, _ leftRange: Range<Int>, _ right: UnsafeBufferPointer<UInt8>,
    _ rightRange: Range<Int>
  ) -> Bool {
    let shared = min(leftRange.count, rightRange.count)
    let order =
      shared == 0
      ? 0 : memcmp(left.baseAddress! + leftRange.lowerBound, right.baseAddress! + rightRange.lowerBound, shared)
    return order != 0 ? order < 0 : leftRange.count < rightRange.count
  }

  /// Calls `body` with at most `limit` URIs that begin with `prefix` and come after `cursor`, and says whether there are
  /// more; the views are valid during the call.
  func page(
    prefix: BorrowedBytes, after cursor: BorrowedBytes, limit: Int, _ body: (_ uris: [bp_view], _ hasMore: Bool) -> Void
  ) {
    text.withUnsafeBufferPointer { bytes in
      var low = 0
      var high = places.count
      while low < high {
        let middle = (low + high) / 2
        let isAfter =
          cursor.isEmpty
          ? !Self.isBefore(bytes, places[middle], prefix, 0..<prefix.count)
          : Self.isBefore(cursor, 0..<cursor.count, bytes, places[middle])
        if isAfter { high = middle } else { low = middle + 1 }
      }
      var uris: [bp_view] = []
      var hasMore = false
      for place in places[low...] {
        let uri = BorrowedBytes(rebasing: bytes[place])
        // What begins with the prefix lies together.
        guard uri.count >= prefix.count, memcmp(uri.baseAddress!, prefix.baseAddress!, prefix.count) == 0 else { break }
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
