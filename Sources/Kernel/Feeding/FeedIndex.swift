import Glibc

/// Subscriptions by their prefix. A message is looked up once for each border between segments of its URI, however many
/// subscriptions there are.
struct FeedIndex<Member: FeedIndexed> {
  private final class Bucket {
    let prefix: [UInt8]
    var members: [Member] = []
    init(_ prefix: [UInt8]) { self.prefix = prefix }
  }

  /// By the hash of the prefix, which is seeded: nobody can choose prefixes that collide.
  private var buckets: [Int: [Bucket]] = [:]
  private(set) var count = 0
  /// No prefix is longer; it does not shrink before the index is empty.
  private var prefixSizeMax = 0

  mutating func add(_ member: Member) {
    let hash = FeedIndex.hash(member.prefix)
    let bucket =
      buckets[hash]?.first { $0.prefix == member.prefix }
      ?? {
        let made = Bucket(member.prefix)
        buckets[hash, default: []].append(made)
        return made
      }()
    member.slot = bucket.members.count
    bucket.members.append(member)
    count += 1
    prefixSizeMax = max(prefixSizeMax, member.prefix.count)
  }

  mutating func remove(_ member: Member) {
    let hash = FeedIndex.hash(member.prefix)
    guard let bucket = buckets[hash]?.first(where: { $0.prefix == member.prefix }),
      bucket.members.indices.contains(member.slot), bucket.members[member.slot] === member
    else { return }
    let last = bucket.members.removeLast()
    if last !== member {
      bucket.members[member.slot] = last
      last.slot = member.slot
    }
    if bucket.members.isEmpty {
      buckets[hash]!.removeAll { $0 === bucket }
      if buckets[hash]!.isEmpty { buckets[hash] = nil }
    }
    count -= 1
    if count == 0 { prefixSizeMax = 0 }
  }

  /// Every member.
  var all: [Member] { buckets.values.flatMap { $0.flatMap(\.members) } }

  /// Whoever wants a record of this URI.
  func matching(_ uri: UnsafeBufferPointer<UInt8>) -> [[Member]] {
    guard count > 0 else { return [] }
    var found: [[Member]] = []
    FeedIndex.forEachBorder(uri) { border, hash in
      guard border <= prefixSizeMax else { return false }
      for bucket in buckets[hash] ?? []
      where bucket.prefix.count == border && FeedPrefix.matches(bucket.prefix, uri) {
        found.append(bucket.members)
      }
      return true
    }
    return found
  }

  private static func hash(_ prefix: [UInt8]) -> Int {
    var last = 0
    prefix.withUnsafeBufferPointer { bytes in
      forEachBorder(bytes) { border, hash in
        last = hash
        return border < bytes.count
      }
    }
    return last
  }

  /// Calls `body` with the length and hash of every prefix of `uri` that ends at a border: the empty one,
  /// `mutable://open`, `mutable://open/a`, and the URI itself. Until it answers false.
  private static func forEachBorder(
    _ uri: UnsafeBufferPointer<UInt8>, _ body: (_ border: Int, _ hash: Int) -> Bool
  ) {
    var hasher = Hasher()
    guard body(0, hasher.finalize()) else { return }
    // finalize ends a hasher; the running one is copied for it.
    hasher = Hasher()
    var done = 0
    for border in FeedPrefix.borders(uri) {
      hasher.combine(bytes: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(uri)[done..<border]))
      done = border
      let copy = hasher
      guard body(border, copy.finalize()) else { return }
    }
  }
}

/// What an index holds.
protocol FeedIndexed: AnyObject {
  /// In normal form, without a slash at its end; empty: everything.
  var prefix: [UInt8] { get }
  /// The index's own.
  var slot: Int { get set }
}

enum FeedPrefix {
  /// Where segments of a URI in normal form end: after `scheme://authority` and after each segment of the path.
  static func borders(_ uri: UnsafeBufferPointer<UInt8>) -> Borders { Borders(uri: uri) }

  struct Borders: Sequence, IteratorProtocol {
    let uri: UnsafeBufferPointer<UInt8>
    private var start: Int

    fileprivate init(uri: UnsafeBufferPointer<UInt8>) {
      self.uri = uri
      // Behind `://`.
      start = (uri.firstIndex(of: UInt8(ascii: ":")) ?? -1) + 3
    }

    mutating func next() -> Int? {
      guard start <= uri.count else { return nil }
      var index = start
      while index < uri.count, uri[index] != UInt8(ascii: "/") { index += 1 }
      start = index + 1
      return index
    }
  }

  /// Whether a record is the one at `prefix` or below it.
  static func matches(_ prefix: [UInt8], _ uri: UnsafeBufferPointer<UInt8>) -> Bool {
    guard prefix.count <= uri.count else { return false }
    guard prefix.isEmpty || prefix.count == uri.count || uri[prefix.count] == UInt8(ascii: "/") else { return false }
    return prefix.isEmpty || memcmp(prefix, uri.baseAddress!, prefix.count) == 0
  }
}
