import Synchronization

/// Where writes to one slot wait while its state moves to another instance (boundary.md, "Handover of state").
///
/// A write enters before it is submitted and leaves when it has been completed. While the fence is raised nobody enters:
/// what comes is parked, and what is inside ends. Then the fence is lowered, and the parked go on here; or the slot has
/// moved, and they go on at its successor. Parked writes keep their order, also against what comes while they go on.
final class Fence: Sendable {
  enum Passage {
    /// Inside: `leave` when the write has been completed.
    case passed
    /// Not inside: `park`.
    case raised
    /// Not inside: the slot's state is with the instance that the published generation has.
    case moved
  }

  enum Parking {
    case parked
    /// The fence has been lowered meanwhile: `enter` again.
    case lowered
    case moved
    /// As many are parked as may be.
    case full
  }

  private static let lowered = 0
  private static let raised = 1
  private static let moved = 2

  private let position = Atomic<Int>(Fence.lowered)
  private let inside = Atomic<Int>(0)
  private let waiting = Mutex<[@Sendable (_ isMoved: Bool) -> Void]>([])
  private let emptied = Mutex<Promise<Bool>>(Promise())
  private let lot: ParkingLot

  init(_ lot: ParkingLot) { self.lot = lot }

  @inline(__always)
  func enter() -> Passage {
    // In this order, and sequentially consistent as `raise` is: either the fence sees us inside, or we see it raised.
    inside.add(1, ordering: .sequentiallyConsistent)
    let position = position.load(ordering: .sequentiallyConsistent)
    if position == Fence.lowered { return .passed }
    leave()
    return position == Fence.moved ? .moved : .raised
  }

  @inline(__always)
  func leave() {
    let left = inside.subtract(1, ordering: .sequentiallyConsistent).newValue
    if left == 0, position.load(ordering: .sequentiallyConsistent) != Fence.lowered {
      emptied.withLock { $0.set(true) }
    }
  }

  /// Keeps `resume` until the fence is out of the way. It is called once, on a thread of the kernel's: with false when
  /// the write is inside now and goes on here, with true when it goes on at the successor.
  func park(_ resume: @escaping @Sendable (_ isMoved: Bool) -> Void) -> Parking {
    waiting.withLock { waiting in
      switch position.load(ordering: .sequentiallyConsistent) {
      case Fence.lowered: return .lowered
      case Fence.moved: return .moved
      default:
        guard lot.enter() else { return .full }
        waiting.append(resume)
        return .parked
      }
    }
  }

  /// Keeps new writes out. The reload thread only, as everything below.
  func raise() {
    emptied.withLock { $0 = Promise() }
    position.store(Fence.raised, ordering: .sequentiallyConsistent)
  }

  /// No write is inside.
  var isEmpty: Bool { inside.load(ordering: .sequentiallyConsistent) == 0 }

  /// Waits until what was inside has ended; false when it has not at `deadlineNs`.
  func waitUntilEmpty(untilNs deadlineNs: UInt64) -> Bool {
    while !isEmpty {
      // Set by whoever leaves last. One that only looked in may have set it too: then wait on, a little.
      let promise = emptied.withLock { $0 }
      if promise.get(untilNs: min(deadlineNs, Clock.monotonicNs() + 1_000_000)) == nil,
        Clock.monotonicNs() >= deadlineNs
      {
        return isEmpty
      }
      if !isEmpty { emptied.withLock { $0 = Promise() } }
    }
    return true
  }

  /// The handover did not happen: what is parked goes on here.
  func lower() { release(isMoved: false) }

  func lowerIfRaised() {
    if position.load(ordering: .sequentiallyConsistent) == Fence.raised { lower() }
  }

  /// The successor is published: what is parked, and whatever still comes, goes on there.
  func move() { release(isMoved: true) }

  private func release(isMoved: Bool) {
    while true {
      let batch = waiting.withLock { waiting -> [@Sendable (Bool) -> Void] in
        if waiting.isEmpty {
          position.store(isMoved ? Fence.moved : Fence.lowered, ordering: .sequentiallyConsistent)
        }
        defer { waiting = [] }
        return waiting
      }
      if batch.isEmpty { return }
      for resume in batch {
        lot.leave()
        if !isMoved { inside.add(1, ordering: .sequentiallyConsistent) }
        resume(isMoved)
      }
    }
  }
}

/// How many requests are parked in the whole node, and how many may be.
final class ParkingLot: Sendable {
  private let count = Atomic<Int>(0)
  /// `limits.parked_requests_max`.
  let max = Atomic<Int>(10_000)
  /// Requests that found the lot full.
  let refused = Atomic<UInt64>(0)

  var parked: Int { count.load(ordering: .relaxed) }

  /// False when the lot is full.
  func enter() -> Bool {
    guard count.add(1, ordering: .relaxed).newValue <= max.load(ordering: .relaxed) else {
      count.subtract(1, ordering: .relaxed)
      refused.add(1, ordering: .relaxed)
      return false
    }
    return true
  }

  func leave() { count.subtract(1, ordering: .relaxed) }
}
