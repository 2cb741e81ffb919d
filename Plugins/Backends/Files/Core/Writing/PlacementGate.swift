import Glibc
import PluginAPI
import Synchronization

/// Keeps readers from seeing half of a change that takes several steps, and tells who reads the names of a directory what
/// is put there meanwhile.
final class PlacementGate: @unchecked Sendable {
  // @unchecked: the lock is made for use from several threads; it lives as long as the object.

  /// A record that was put into a directory while its names were read.
  struct Arrival {
    var stem: [UInt8]
    var content: Content
  }

  private struct Listener {
    var number: UInt64
    var directory: [UInt8]
    var arrivals: [Arrival] = []
  }

  private struct Listeners {
    var lastNumber: UInt64 = 0
    var all: [Listener] = []
  }

  private let listeners = Mutex(Listeners())
  private let listenersCount = Atomic<Int>(0)
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

  // MARK: Reading names

  /// Calls `body`, which reads the names of a directory, and gives what was put there meanwhile. A name that replaces
  /// another, or takes the place of a record's other one, may be missed by who reads: it may come where has been read
  /// already, and the old one be gone where has not.
  func listening(to directory: [UInt8], _ body: () throws(FilesProblem) -> Void) throws(FilesProblem) -> [Arrival] {
    // Between two placements: what is put from now on is heard of.
    let number = changing {
      listenersCount.add(1, ordering: .relaxed)
      return listeners.withLock { listeners in
        listeners.lastNumber += 1
        listeners.all.append(Listener(number: listeners.lastNumber, directory: directory))
        return listeners.lastNumber
      }
    }
    var failure: FilesProblem?
    do throws(FilesProblem) { try body() } catch { failure = error }
    let arrivals = listeners.withLock { listeners in
      listeners.all.remove(at: listeners.all.firstIndex { $0.number == number }!).arrivals
    }
    listenersCount.subtract(1, ordering: .relaxed)
    if let failure { throw failure }
    return arrivals
  }

  /// A record is about to be put in place. Only in `reading` or `changing`.
  @inline(__always)
  func willPut(_ path: RecordPath, _ content: Content) {
    if listenersCount.load(ordering: .relaxed) > 0 { tell(path, content) }
  }

  private func tell(_ path: RecordPath, _ content: Content) {
    listeners.withLock { listeners in
      for index in listeners.all.indices where listeners.all[index].directory == path.directory {
        listeners.all[index].arrivals.append(Arrival(stem: path.stem, content: content))
      }
    }
  }

  // MARK: Taking turns

  /// Everything `body` looks up is of one moment, at which no unit was half in place. It must not call the host.
  func lookingUp<R>(_ body: () throws(FilesProblem) -> R) throws(FilesProblem) -> R {
    try reading { () throws(FilesProblem) in
      guard !isStuck else {
        throw FilesProblem(
          .unavailable(
            "a logged write could not be put in place, so nothing is read until it is; see the health of the backend",
            retryAfterMs: 1_000), isOfRequest: true)
      }
      return try body()
    }
  }

  /// Beside others that read.
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
