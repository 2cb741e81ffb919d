import Glibc
import Synchronization
import SystemShims

/// Where a payload lies in shared memory: as it goes over the socket.
struct SharedBlock {
  var chunk: UInt32
  var sequence: UInt32
  var count: UInt32
}

/// Memory that two processes map, for payloads that are large: one half for each direction.
///
/// The sender keeps the books in memory of its own and copies payloads in; the receiver says that it is done with one by
/// writing the payload's sequence number into a word of the shared part. So freeing wakes nobody, and whatever the other
/// side writes there, the worst is that a payload to itself is overwritten too early. The receiver in the kernel copies a
/// payload out before it looks at it, because the sender could change it meanwhile.
///
/// The size is sealed, so that mapping it cannot become a trap.
public final class SharedMemory: @unchecked Sendable {
  // @unchecked: the mapping is fixed from init to deinit; the books are under a lock; the words are atomic.
  static let chunkBytes = 16 << 10

  /// For the other process; close-on-exec.
  public let descriptor: Int32
  private let base: UnsafeMutableRawPointer
  private let mappedBytes: Int
  private let chunks: Int
  /// This side sends in the first half.
  private let sendsFirst: Bool

  private struct Outstanding {
    let chunk: Int
    let count: Int
    let sequence: UInt32
  }
  private struct Books {
    var used: [UInt64]
    var outstanding: [Outstanding] = []
    var sequence: UInt32 = 0
  }
  private let books: Mutex<Books>

  private static func layout(_ chunks: Int) -> (wordsBytes: Int, total: Int) {
    let words = (chunks * 4 + 4095) & ~4095
    return (words, 2 * words + 2 * chunks * chunkBytes)
  }

  /// New memory: `sizeBytes` for each direction, rounded to chunks. Nil when the system gives none.
  public static func make(sizeBytes: Int) -> SharedMemory? {
    let chunks = max(1, sizeBytes / chunkBytes)
    let descriptor = bp_shim_sealed_memory("backplane-isolation", UInt64(layout(chunks).total))
    guard descriptor >= 0 else { return nil }
    return SharedMemory(descriptor, chunks: chunks, sendsFirst: true)
  }

  /// The other side's, given by descriptor, which it owns from now on. Nil when it is not of `sizeBytes`.
  public static func adopt(_ descriptor: Int32, sizeBytes: Int) -> SharedMemory? {
    let chunks = max(1, sizeBytes / chunkBytes)
    var facts = stat()
    guard fstat(descriptor, &facts) == 0, Int(facts.st_size) == layout(chunks).total else { return nil }
    return SharedMemory(descriptor, chunks: chunks, sendsFirst: false)
  }

  private init?(_ descriptor: Int32, chunks: Int, sendsFirst: Bool) {
    mappedBytes = SharedMemory.layout(chunks).total
    guard let base = mmap(nil, mappedBytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), base != MAP_FAILED
    else {
      close(descriptor)
      return nil
    }
    self.descriptor = descriptor
    self.base = base
    self.chunks = chunks
    self.sendsFirst = sendsFirst
    books = Mutex(Books(used: Array(repeating: 0, count: (chunks + 63) / 64)))
  }

  deinit {
    munmap(base, mappedBytes)
    close(descriptor)
  }

  private func words(first: Bool) -> UnsafeMutablePointer<Atomic<UInt32>> {
    let offset = first ? 0 : SharedMemory.layout(chunks).wordsBytes
    return (base + offset).assumingMemoryBound(to: Atomic<UInt32>.self)
  }

  private func data(first: Bool) -> UnsafeMutableRawPointer {
    base + 2 * SharedMemory.layout(chunks).wordsBytes + (first ? 0 : chunks * SharedMemory.chunkBytes)
  }

  // MARK: Sending

  /// A place for `count` bytes, or nil when there is none: then the payload goes by the socket.
  func allocate(_ count: Int) -> (block: SharedBlock, place: UnsafeMutableRawPointer)? {
    let needed = (count + SharedMemory.chunkBytes - 1) / SharedMemory.chunkBytes
    guard needed <= chunks else { return nil }
    let words = words(first: sendsFirst)
    return books.withLock { books in
      // What is free again comes first, so that few places are used and stay in the processor's cache.
      var index = 0
      while index < books.outstanding.count {
        let sent = books.outstanding[index]
        if words[sent.chunk].load(ordering: .acquiring) == sent.sequence {
          for chunk in sent.chunk..<sent.chunk + sent.count { books.used[chunk >> 6] &= ~(1 << UInt64(chunk & 63)) }
          books.outstanding.swapAt(index, books.outstanding.count - 1)
          books.outstanding.removeLast()
        } else {
          index += 1
        }
      }
      guard let start = SharedMemory.run(of: needed, in: books.used, chunks) else { return nil }
      for chunk in start..<start + needed { books.used[chunk >> 6] |= 1 << UInt64(chunk & 63) }
      // 0 is what fresh words hold.
      books.sequence = books.sequence == .max ? 1 : books.sequence + 1
      books.outstanding.append(Outstanding(chunk: start, count: needed, sequence: books.sequence))
      return (
        SharedBlock(chunk: UInt32(start), sequence: books.sequence, count: UInt32(count)),
        data(first: sendsFirst) + start * SharedMemory.chunkBytes
      )
    }
  }

  private static func run(of needed: Int, in used: [UInt64], _ chunks: Int) -> Int? {
    var start = 0
    var length = 0
    var chunk = 0
    while chunk < chunks {
      if chunk & 63 == 0, used[chunk >> 6] == .max {
        chunk += 64
        start = chunk
        length = 0
        continue
      }
      if used[chunk >> 6] & (1 << UInt64(chunk & 63)) != 0 {
        start = chunk + 1
        length = 0
      } else {
        length += 1
        if length == needed { return start }
      }
      chunk += 1
    }
    return nil
  }

  /// The sender's own block, which was not sent after all.
  func take(back block: SharedBlock) {
    words(first: sendsFirst)[Int(block.chunk)].store(block.sequence, ordering: .releasing)
  }

  /// Blocks that the other side still has; for tests.
  public var outstandingCount: Int { books.withLock { $0.outstanding.count } }

  // MARK: Receiving

  /// Where a block of the other side's lies; nil when it lies nowhere.
  func place(of block: SharedBlock) -> UnsafeRawBufferPointer? {
    let start = Int(block.chunk) * SharedMemory.chunkBytes
    guard block.chunk < UInt32(chunks), Int(block.count) <= chunks * SharedMemory.chunkBytes - start else { return nil }
    return UnsafeRawBufferPointer(start: data(first: !sendsFirst) + start, count: Int(block.count))
  }

  /// The receiver is done with it.
  func release(_ block: SharedBlock) {
    words(first: !sendsFirst)[Int(block.chunk)].store(block.sequence, ordering: .releasing)
  }
}
