import Synchronization

/// The published generation, and the leases on it and its predecessors.
///
/// A lease is the number of a generation. Taking one is two atomic operations on memory that is never freed: raise the
/// count of the entry that the current number names, then look whether that number is still current; if not, lower it
/// and try again. So publishing is one store, and nobody waits for anybody.
final class GenerationRing: @unchecked Sendable {
  // @unchecked: entries are written by the one reload thread while their count cannot be taken as a lease (their number
  // is not current), and read by those who hold one.
  static let capacity = 1024

  private struct Entry: ~Copyable {
    let leases = Atomic<Int>(0)
    /// 0 when the entry is free.
    let number = Atomic<UInt64>(0)
    var generation: Unmanaged<Generation>?
  }

  private let entries: UnsafeMutablePointer<Entry>
  /// The published number, with `parkedBit` while no lease is given to requests that begin.
  private let current = Atomic<UInt64>(0)
  private static let parkedBit: UInt64 = 1 << 63

  init() {
    entries = .allocate(capacity: GenerationRing.capacity)
    for index in 0..<GenerationRing.capacity { (entries + index).initialize(to: Entry()) }
  }

  deinit {
    for index in 0..<GenerationRing.capacity {
      (entries + index).pointee.generation?.release()
      (entries + index).deinitialize(count: 1)
    }
    entries.deallocate()
  }

  private static func index(_ number: UInt64) -> Int { Int(number) & (capacity - 1) }

  /// The number that is published; 0 before the first.
  var currentNumber: UInt64 { current.load(ordering: .acquiring) & ~GenerationRing.parkedBit }

  /// No lease is given to requests that begin (`Door`).
  var isParked: Bool { current.load(ordering: .acquiring) & GenerationRing.parkedBit != 0 }

  /// Takes a lease; nil before the first generation and while the ring is parked. Give it back with `release`.
  @inline(__always)
  func acquire() -> Lease? {
    while true {
      let number = current.load(ordering: .acquiring)
      guard number &- 1 < GenerationRing.parkedBit - 1 else { return nil }
      let entry = entries + GenerationRing.index(number)
      entry.pointee.leases.add(1, ordering: .sequentiallyConsistent)
      if current.load(ordering: .sequentiallyConsistent) == number {
        return Lease(number: number, generation: entry.pointee.generation!)
      }
      entry.pointee.leases.subtract(1, ordering: .releasing)
    }
  }

  /// Likewise for what is part of a request that was admitted before: never kept out.
  func acquireAdmitted() -> Lease? {
    while true {
      let word = current.load(ordering: .acquiring)
      let number = word & ~GenerationRing.parkedBit
      guard number != 0 else { return nil }
      let entry = entries + GenerationRing.index(number)
      entry.pointee.leases.add(1, ordering: .sequentiallyConsistent)
      if current.load(ordering: .sequentiallyConsistent) & ~GenerationRing.parkedBit == number {
        return Lease(number: number, generation: entry.pointee.generation!)
      }
      entry.pointee.leases.subtract(1, ordering: .releasing)
    }
  }

  /// A lease on the published generation when that is another than `lease` holds; nil, and nothing taken, when not.
  func acquire(newerThan lease: Lease) -> Lease? {
    guard let fresh = acquireAdmitted() else { return nil }
    if fresh.number != lease.number { return fresh }
    release(fresh)
    return nil
  }

  /// Gives no lease to requests that begin, until `unpark`. The reload thread only.
  func park() { current.bitwiseOr(GenerationRing.parkedBit, ordering: .sequentiallyConsistent) }

  func unpark() { current.bitwiseAnd(~GenerationRing.parkedBit, ordering: .sequentiallyConsistent) }

  /// A second lease on a generation that the caller already holds one on.
  func extend(_ lease: Lease) -> Lease {
    entries[GenerationRing.index(lease.number)].leases.add(1, ordering: .relaxed)
    return lease
  }

  @inline(__always)
  func release(_ lease: Lease) {
    (entries + GenerationRing.index(lease.number)).pointee.leases.subtract(1, ordering: .releasing)
  }

  /// The next number whose entry is free, or nil when 1,024 generations are held. The reload thread only.
  func nextNumber() -> UInt64? {
    let first = currentNumber + 1
    return (first..<first + UInt64(GenerationRing.capacity)).first {
      entries[GenerationRing.index($0)].number.load(ordering: .acquiring) == 0
    }
  }

  /// Makes `generation` the current one; a parked ring stays parked. The reload thread only.
  func publish(_ generation: Generation) {
    let entry = entries + GenerationRing.index(generation.number)
    precondition(entry.pointee.number.load(ordering: .relaxed) == 0, "a generation's entry is still held")
    entry.pointee.generation = Unmanaged.passRetained(generation)
    entry.pointee.number.store(generation.number, ordering: .releasing)
    let parked = current.load(ordering: .relaxed) & GenerationRing.parkedBit
    current.store(generation.number | parked, ordering: .sequentiallyConsistent)
  }

  /// No lease is given from now on: the node is ending. The reload thread only.
  func close() { current.store(0, ordering: .sequentiallyConsistent) }

  /// Zero for a number that is not current any more means that nobody has it or will get it: sequentially consistent,
  /// as `publish` and `acquire` are, so that whoever took a lease before it lost is seen here.
  func leases(_ number: UInt64) -> Int {
    entries[GenerationRing.index(number)].leases.load(ordering: .sequentiallyConsistent)
  }

  /// Frees the entry of a superseded generation without leases. The reload thread only.
  func retire(_ number: UInt64) {
    let entry = entries + GenerationRing.index(number)
    precondition(currentNumber != number, "the current generation does not retire")
    entry.pointee.generation?.release()
    entry.pointee.generation = nil
    entry.pointee.number.store(0, ordering: .releasing)
  }
}

/// One request's hold on the instances it may use, through a generation.
struct Lease {
  let number: UInt64
  fileprivate let reference: Unmanaged<Generation>

  fileprivate init(number: UInt64, generation: Unmanaged<Generation>) {
    self.number = number
    reference = generation
  }

  /// Valid while the lease is held.
  @inline(__always) var generation: Generation { reference._withUnsafeGuaranteedRef { $0 } }

  /// The generation without a reference count, for the length of `body`.
  @inline(__always)
  func withGeneration<R>(_ body: (Generation) -> R) -> R { reference._withUnsafeGuaranteedRef(body) }
}
