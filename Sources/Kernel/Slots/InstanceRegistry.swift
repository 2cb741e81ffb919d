import BackplaneABI
import Synchronization

/// Handles of instances: an index and a sequence number, so that a host call after destroy finds nothing instead of
/// freed memory.
final class InstanceRegistry: @unchecked Sendable {
  // @unchecked: entries are written under the lock and read through the atomic word of each.
  static let shared = InstanceRegistry(capacity: 16_384)

  private struct Entry: ~Copyable {
    /// The handle while the entry is in use, else 0.
    let handle = Atomic<UInt64>(0)
    var instance: Unmanaged<Instance>?
  }

  private let capacity: Int
  private let entries: UnsafeMutablePointer<Entry>
  private struct State {
    var sequence: UInt64 = 0
    var free: [Int]
    /// Instances whose handle is withdrawn. They are kept for a while, because another thread may be between finding
    /// one and using it.
    var withdrawn: [Instance] = []
  }
  private let state: Mutex<State>
  private static let withdrawnMax = 256

  init(capacity: Int) {
    self.capacity = capacity
    entries = .allocate(capacity: capacity)
    for index in 0..<capacity { (entries + index).initialize(to: Entry()) }
    state = Mutex(State(free: Array((0..<capacity).reversed())))
  }

  /// Gives `instance` its handle, or nil when 16,384 instances are alive.
  func register(_ make: (bp_instance) -> Instance) -> Instance? {
    state.withLock { state in
      guard let index = state.free.popLast() else { return nil }
      state.sequence += 1
      let handle = state.sequence << 16 | UInt64(index + 1)
      let instance = make(handle)
      MarkTable.shared.add(instance)
      entries[index].instance = Unmanaged.passRetained(instance)
      entries[index].handle.store(handle, ordering: .releasing)
      return instance
    }
  }

  /// The instance behind a handle, or nil when it is gone.
  @inline(__always)
  func find(_ handle: bp_instance) -> Instance? {
    let index = Int(handle & 0xffff) - 1
    guard index >= 0, index < capacity, (entries + index).pointee.handle.load(ordering: .acquiring) == handle else {
      return nil
    }
    return (entries + index).pointee.instance?.takeUnretainedValue()
  }

  /// The contents of everything that is alive, serving or not: whoever removes a staged file asks first.
  var contentHashes: Set<String> {
    state.withLock { _ in
      var hashes: Set<String> = []
      for index in 0..<capacity where (entries + index).pointee.handle.load(ordering: .relaxed) != 0 {
        if let hash = (entries + index).pointee.instance?._withUnsafeGuaranteedRef({ $0.image.contentHash }) {
          hashes.insert(hash)
        }
      }
      return hashes
    }
  }

  func withdraw(_ instance: Instance) {
    let index = Int(instance.handle & 0xffff) - 1
    state.withLock { state in
      guard (entries + index).pointee.handle.load(ordering: .relaxed) == instance.handle else { return }
      (entries + index).pointee.handle.store(0, ordering: .releasing)
      state.withdrawn.append((entries + index).pointee.instance!.takeRetainedValue())
      if state.withdrawn.count > InstanceRegistry.withdrawnMax { state.withdrawn.removeFirst() }
      state.free.insert(index, at: 0)
      MarkTable.shared.remove(instance.handle)
    }
  }
}
