import Glibc
import Synchronization

/// Keeps readers from seeing half of a change that takes several steps.
final class PlacementGate: @unchecked Sendable {
  // @unchecked: the lock is made for use from several threads; it lives as long as the object.
  private let lock = UnsafeMutablePointer<pthread_rwlock_t>.allocate(capacity: 1)
  /// Units are in the log that are not, or only partly, in place: what is there must not be read.
  private let stuck = Atomic<Bool>(false)

  init() {
    var attributes = pthread_rwlockattr_t()
    pthread_rwlockattr_init(&attributes)
    // Readers that never end shall not keep the writer out.
    pthread_rwlockattr_setkind_np(&attributes, Int32(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP))
    pthread_rwlock_init(lock, &attributes)
    pthread_rwlockattr_destroy(&attributes)
  }

  deinit {
    pthread_rwlock_destroy(lock)
    lock.deallocate()
  }

  var isStuck: Bool { stuck.load(ordering: .acquiring) }

  /// Only in `changing`.
  func setStuck(_ isStuck: Bool) { stuck.store(isStuck, ordering: .releasing) }

  /// Everything `body` looks up is of one moment. It must not call the host.
  @inline(__always)
  func reading<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
    pthread_rwlock_rdlock(lock)
    defer { pthread_rwlock_unlock(lock) }
    return try body()
  }

  @inline(__always)
  func changing<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
    pthread_rwlock_wrlock(lock)
    defer { pthread_rwlock_unlock(lock) }
    return try body()
  }
}
