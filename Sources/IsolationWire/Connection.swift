import Glibc
import Synchronization
import SystemShims

/// The sending half of a stream of frames. A thread that finds nobody writing writes itself; whoever comes meanwhile
/// leaves its frame behind for that thread, so under load one system call carries many frames. Nobody spins.
public final class Connection: @unchecked Sendable {
  // @unchecked: buffers and flags are under the lock; what `isWriting` names belongs to the one thread that set it.

  public enum Outcome: Sendable {
    case sent
    /// More bytes wait already than are allowed; nothing was taken.
    case full
    case closed
  }

  /// What a thread does that would have to wait for the other side.
  public enum Patience: Sendable {
    /// It waits: a child may, it has nothing else to do.
    case waits
    /// It leaves the rest to a thread of the connection's own: the kernel's callers must not block.
    case handsOver
  }

  private struct Buffer {
    var start: UnsafeMutableRawPointer
    var capacity: Int
    var count = 0

    init(capacity: Int) {
      start = .allocate(byteCount: capacity, alignment: 16)
      self.capacity = capacity
    }

    mutating func reserve(_ more: Int) -> UnsafeMutableRawPointer {
      if count + more > capacity {
        var larger = Buffer(capacity: max(capacity * 2, count + more))
        larger.start.copyMemory(from: start, byteCount: count)
        larger.count = count
        start.deallocate()
        self = larger
      }
      defer { count += more }
      return start + count
    }
  }

  private struct Outgoing {
    var collecting = Buffer(capacity: Connection.bufferBytes)
    var writing = Buffer(capacity: Connection.bufferBytes)
    /// What of `writing` has gone.
    var written = 0
    var isWriting = false
    var isClosed = false
  }

  static let bufferBytes = 256 << 10
  /// A buffer that one burst made larger than this is given back.
  private static let bufferBytesMax = 4 << 20
  /// A thread that collects while it handles a batch writes at the latest when so much has come together.
  private static let collectBytesMax = 128 << 10

  public let descriptor: Int32
  public let memory: SharedMemory?
  private let patience: Patience
  /// Most bytes that may wait.
  private let waitingBytesMax: Int
  private let outgoing = Mutex(Outgoing())
  /// The thread that handles a batch and will write at its end; 0: none.
  private let collector = Atomic<UInt>(0)
  private let lateWriter = Mutex<LateWriter?>(nil)

  /// Owns `descriptor` from now on.
  public init(_ descriptor: Int32, memory: SharedMemory?, patience: Patience, waitingBytesMax: Int) {
    self.descriptor = descriptor
    self.memory = memory
    self.patience = patience
    self.waitingBytesMax = waitingBytesMax
    var bytes = Int32(1 << 20)
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &bytes, socklen_t(MemoryLayout<Int32>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, socklen_t(MemoryLayout<Int32>.size))
  }

  deinit {
    outgoing.withLock { outgoing in
      outgoing.collecting.start.deallocate()
      outgoing.writing.start.deallocate()
    }
    Glibc.close(descriptor)
  }

  /// Ends the stream in both directions: readers see its end, senders are told `closed`. Any thread.
  public func shutDown() {
    outgoing.withLock { $0.isClosed = true }
    shutdown(descriptor, Int32(SHUT_RDWR))
  }

  /// After `shutDown`: joins the thread that writes late. Not on a thread that sends.
  public func finish() {
    let writer = lateWriter.withLock { writer in
      defer { writer = nil }
      return writer
    }
    writer?.finish()
  }

  /// Bytes that wait to be written.
  public var waitingBytes: Int {
    outgoing.withLock { $0.collecting.count + $0.writing.count - $0.written }
  }

  public var isFull: Bool { waitingBytes > waitingBytesMax }

  // MARK: Sending

  /// Sends one frame. Large payloads go by shared memory when there is room. `isUrgent` is for what must not be refused:
  /// answers, cancellations, the life cycle.
  @inline(__always)
  func send<Payload: WirePayload>(
    _ kind: FrameKind, _ id: UInt64, _ payload: Payload, isUrgent: Bool
  ) -> Outcome {
    let size = payload.wireSize
    guard size <= Wire.payloadSizeBytesMax else { return .full }
    if size >= Wire.sharedFromBytes, let memory, let (block, place) = memory.allocate(size) {
      var writer = WireWriter(place, count: size)
      payload.put(into: &writer)
      let outcome = append(kind, id, flags: Wire.isShared, isUrgent: isUrgent, size: MemoryLayout<SharedBlock>.size) {
        $0.storeBytes(of: block, as: SharedBlock.self)
      }
      // Nobody will get it; the books must not keep it.
      if outcome != .sent { memory.take(back: block) }
      return outcome
    }
    return append(kind, id, flags: 0, isUrgent: isUrgent, size: size) { place in
      var writer = WireWriter(place, count: size)
      payload.put(into: &writer)
    }
  }

  @inline(__always)
  private func append(
    _ kind: FrameKind, _ id: UInt64, flags: UInt16, isUrgent: Bool, size: Int,
    _ fill: (UnsafeMutableRawPointer) -> Void
  ) -> Outcome {
    let isCollecting = collector.load(ordering: .relaxed) == UInt(pthread_self())
    let (outcome, writes) = outgoing.withLock { outgoing -> (Outcome, Bool) in
      guard !outgoing.isClosed else { return (.closed, false) }
      let waiting = outgoing.collecting.count + outgoing.writing.count - outgoing.written
      guard isUrgent || waiting <= waitingBytesMax else { return (.full, false) }
      let place = outgoing.collecting.reserve(Wire.headerBytes + size)
      place.storeBytes(of: UInt32(size), as: UInt32.self)
      place.storeBytes(of: kind.rawValue, toByteOffset: 4, as: UInt16.self)
      place.storeBytes(of: flags, toByteOffset: 6, as: UInt16.self)
      place.storeBytes(of: id, toByteOffset: 8, as: UInt64.self)
      fill(place + Wire.headerBytes)
      if outgoing.isWriting || (isCollecting && outgoing.collecting.count < Connection.collectBytesMax) {
        return (.sent, false)
      }
      outgoing.isWriting = true
      return (.sent, true)
    }
    if writes { write() }
    return outcome
  }

  /// From here to `endBatch` what this thread sends is collected.
  public func beginBatch() { collector.store(UInt(pthread_self()), ordering: .relaxed) }

  public func endBatch() {
    collector.store(0, ordering: .relaxed)
    let writes = outgoing.withLock { outgoing in
      guard !outgoing.isWriting, outgoing.collecting.count > 0 else { return false }
      outgoing.isWriting = true
      return true
    }
    if writes { write() }
  }

  // MARK: Writing

  /// Writes until nothing waits. The caller has set `isWriting`.
  private func write() {
    while true {
      let next = outgoing.withLock { outgoing -> UnsafeRawBufferPointer? in
        if outgoing.written == outgoing.writing.count {
          outgoing.writing.count = 0
          outgoing.written = 0
          if outgoing.writing.capacity > Connection.bufferBytesMax {
            outgoing.writing.start.deallocate()
            outgoing.writing = Buffer(capacity: Connection.bufferBytes)
          }
          swap(&outgoing.writing, &outgoing.collecting)
        }
        guard outgoing.writing.count > 0, !outgoing.isClosed else {
          outgoing.isWriting = false
          return nil
        }
        return UnsafeRawBufferPointer(
          start: outgoing.writing.start + outgoing.written, count: outgoing.writing.count - outgoing.written)
      }
      guard let next else { return }
      let sent = bp_shim_send(descriptor, next.baseAddress, next.count, patience == .waits)
      if sent >= 0 {
        outgoing.withLock { $0.written += sent }
      } else if errno == EAGAIN || errno == EWOULDBLOCK {
        return handOver()
      } else {
        // The reader sees the end of the stream and says what it means.
        outgoing.withLock { outgoing in
          outgoing.isClosed = true
          outgoing.isWriting = false
        }
        return
      }
    }
  }

  /// The other side does not read: a thread of its own waits for it. `isWriting` stays set.
  private func handOver() {
    let hasThread = lateWriter.withLock { writer in
      if writer == nil { writer = LateWriter(self) }
      return writer?.wake() ?? false
    }
    // Without a thread nothing would ever be written again.
    if !hasThread { shutDown() }
  }

  /// Waits until the other side reads, and goes on writing.
  private final class LateWriter: @unchecked Sendable {
    // @unchecked: `thread` is written in init and read in `finish` only; the rest is a semaphore and an atomic.
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    private let isFinished = Atomic<Bool>(false)
    private var thread: pthread_t?

    init?(_ connection: Connection) {
      sem_init(semaphore, 0, 0)
      let semaphore = UncheckedSemaphore(pointer: semaphore)
      thread = WireThread.start(name: "bp-late-writer") { [unowned connection, unowned self] in
        while true {
          while sem_wait(semaphore.pointer) != 0 {}
          if isFinished.load(ordering: .acquiring) { return }
          var polled = pollfd(fd: connection.descriptor, events: Int16(POLLOUT), revents: 0)
          while poll(&polled, 1, -1) < 0, errno == EINTR {}
          connection.write()
        }
      }
      if thread == nil { return nil }
    }

    deinit {
      sem_destroy(semaphore)
      semaphore.deallocate()
    }

    func wake() -> Bool { sem_post(semaphore) == 0 }

    func finish() {
      isFinished.store(true, ordering: .releasing)
      sem_post(semaphore)
      if let thread { pthread_join(thread, nil) }
    }
  }

  private struct UncheckedSemaphore: @unchecked Sendable {
    // @unchecked: a semaphore is made to be shared.
    let pointer: UnsafeMutablePointer<sem_t>
  }
}

/// A thread with a name.
public enum WireThread {
  private final class Body {
    let name: String
    let run: () -> Void
    init(_ name: String, _ run: @escaping () -> Void) {
      self.name = name
      self.run = run
    }
  }

  /// Nil when the system has none to give. The caller joins or detaches it.
  public static func start(name: String, _ run: @escaping @Sendable () -> Void) -> pthread_t? {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(Body(name, run)).toOpaque()
    let error = pthread_create(
      &thread, nil,
      { context in
        let body = Unmanaged<Body>.fromOpaque(context!).takeRetainedValue()
        bp_shim_name_thread(body.name)
        body.run()
        return nil
      }, context)
    guard error == 0 else {
      Unmanaged<Body>.fromOpaque(context).release()
      return nil
    }
    return thread
  }
}
