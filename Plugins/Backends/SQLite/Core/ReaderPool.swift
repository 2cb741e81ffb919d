import Glibc
import PluginAPI
import Synchronization

/// Connections for reading, each under a lock. A thread tries the one that it used last first; when all are in use it
/// waits for that one, which takes as long as one read, because no reader is held while the host is called.
final class ReaderPool: @unchecked Sendable {
  // @unchecked: the slots are made in init and freed in deinit; each is a lock.
  private struct Slot: ~Copyable {
    let reader: Mutex<Reader>
  }

  private let slots: UnsafeMutablePointer<Slot>
  private let count: Int

  init(_ settings: SQLiteSettings, count: Int) throws(SQLiteProblem) {
    var readers: [Reader] = []
    for _ in 0..<count { readers.append(try Reader(settings)) }
    slots = .allocate(capacity: count)
    self.count = count
    for (index, reader) in readers.enumerated() { (slots + index).initialize(to: Slot(reader: Mutex(reader))) }
  }

  deinit {
    slots.deinitialize(count: count)
    slots.deallocate()
  }

  @inline(__always)
  func with<R>(_ body: (Reader) throws(SQLiteProblem) -> sending R) throws(SQLiteProblem) -> sending R {
    // Threads differ in the address of their control block, which is page-aligned.
    let home = Int(truncatingIfNeeded: UInt(pthread_self()) >> 12) & 0xffff
    for step in 0..<count {
      let slot = slots + (home + step) % count
      if let result = try slot.pointee.reader.withLockIfAvailable({ reader throws(SQLiteProblem) in try body(reader) })
      {
        return result
      }
    }
    return try slots[home % count].reader.withLock { reader throws(SQLiteProblem) in try body(reader) }
  }
}
