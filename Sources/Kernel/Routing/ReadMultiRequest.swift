import BackplaneABI
import Synchronization

/// Several reads, each answered as a chunk. Every backend in its turn is asked at once for all records that those before
/// it did not have; what holds for one record is what holds for a single read (`ReadRequest`).
///
/// Direct backends are read on the caller's thread, one record after the other and not too many. The others get a batch,
/// a wave of calls: the last completion of a wave goes on. From the first wave on the request is pending: it has a
/// deadline and can be cancelled.
final class ReadMultiRequest: PendingRequest, @unchecked Sendable {
  // @unchecked: one step runs at a time, on whatever thread; a read belongs to the completion of its call while that is
  // open, and to the step otherwise, and `left` orders the two. What anybody may touch is atomic or under a lock.

  /// Calls of one wave, at most: a read-multi leaves room for others in the slot.
  static let waveReadsMax = 256
  /// Records read on the caller's thread, at most; it may be an event loop with other clients.
  static let directReadsMax = 256

  let caller: Instance
  private let call: OwnedCall
  /// The message whose judgement asks; its earlier ops are seen.
  private let parent: WriteRequest?
  private var lease: Lease
  /// The lease's number, for whoever looks from outside.
  private let generation: Atomic<UInt64>
  private let uris: [[UInt8]]
  private let memory = Arena()
  private let reads: UnsafeMutablePointer<Read>
  private let chunks: ChunkHandover
  private var backends: [Instance]
  private var upToDate: Int
  private var index = -1
  /// The reads that the backend at `index` is still to be asked for, from `next` on.
  private var waiting: [Int] = []
  private var next = 0
  private var isOnWorker = false
  /// Calls of the wave that are open, and one for the step while it submits them.
  private let left = Atomic<Int>(0)
  private let requestToken = Atomic<UInt64>(0)
  /// The calls of the wave, for `giveUp`, which comes on a thread of its own.
  private let open = Mutex<(backend: Instance, tokens: [bp_token])?>(nil)
  /// Peers are asked for what no backend has.
  private let pull = Mutex<Pull?>(nil)

  /// One record to read. Its address is the context of its calls.
  private struct Read {
    /// Retained for each open call.
    let request: Unmanaged<ReadMultiRequest>
    let index: Int
    /// In normal form.
    var uri = bp_view.empty
    var isDone = false
    /// An up-to-date backend does not have it.
    var isMissed = false
    var failure: CallFailure?
  }

  init(
    _ caller: Instance, _ call: bp_call, parent: WriteRequest?, _ uris: [[UInt8]], _ lease: Lease,
    _ completion: bp_completion,
    answered: @escaping RequestEnd
  ) {
    self.caller = caller
    self.lease = caller.kernel.ring.extend(lease)
    generation = Atomic(lease.number)
    self.call = OwnedCall(
      call, generation: lease.number, timeoutNsMax: caller.kernel.requestTimeoutNs.load(ordering: .relaxed))
    self.parent = parent
    self.uris = uris
    let sinceNs = self.call.sinceNs
    chunks = ChunkHandover(caller, completion) { answered($0, sinceNs) }
    reads = .allocate(capacity: max(1, uris.count))
    (backends, upToDate) = lease.generation.readable()
    for index in uris.indices {
      (reads + index).initialize(to: Read(request: .passUnretained(self), index: index))
    }
  }

  deinit {
    reads.deinitialize(count: uris.count)
    reads.deallocate()
    caller.kernel.ring.release(lease)
  }

  var deadlineNs: UInt64 { call.deadlineNs }

  var holding: RequestHolding? {
    let open = open.withLock { $0 }
    let waitsFor = pull.withLock { $0?.openCalls } ?? open.map { [($0.backend, .read)] } ?? []
    return call.holding(.readMulti, generation.load(ordering: .relaxed), waitsFor: waitsFor)
  }

  /// Begins; the token is for `cancel`, 0 when it has been answered.
  func start() -> bp_token {
    for index in uris.indices { prepare(reads + index) }
    run()
    return chunks.isAnswered ? 0 : requestToken.load(ordering: .acquiring)
  }

  /// Normalises, and answers what needs no backend.
  private func prepare(_ read: UnsafeMutablePointer<Read>) {
    uris[read.pointee.index].withUnsafeBufferPointer { uri in
      NormalForm.with(bp_view(uri), lease.generation) { normal in
        guard let normal else { return settle(read, BP_NOT_FOUND) }
        guard let record = parent?.overlay(normal.bytes) else {
          read.pointee.uri = memory.copy(bp_view(normal.bytes))
          return
        }
        let inner = bp_completion(
          context: read,
          complete: { context, result in
            let read = context!.assumingMemoryBound(to: Read.self)
            read.pointee.request._withUnsafeGuaranteedRef { $0.settle(read, result!) }
          }, chunk: nil)
        NodeTable.answer(record, inner)
      } unavailable: {
        Answers.with(.noCanonicalForm, as: bp_read_result.self) { settle(read, $0) }
      }
    }
  }

  private func settle(_ read: UnsafeMutablePointer<Read>, _ code: bp_code) {
    Answers.with(code, as: bp_read_result.self) { settle(read, $0) }
  }

  /// The read has its answer.
  private func settle(_ read: UnsafeMutablePointer<Read>, _ result: UnsafePointer<bp_result>) {
    read.pointee.isDone = true
    chunks.hand(over: result, index: read.pointee.index)
  }

  // MARK: Steps

  /// Goes on until a wave is under way on another thread or the request is answered.
  private func run() {
    while !chunks.isAnswered {
      guard next < waiting.count else {
        guard nextBackend() else { return conclude() }
        continue
      }
      let backend = backends[index]
      if backend.isClosed, moveOn() { continue }
      if backend.directness.mode(.read) == BP_MODE_DIRECT {
        let isTooDeep = ThreadMark.own.pointee.nesting >= ReadPath.nestingMax
        if isTooDeep || (next >= ReadMultiRequest.directReadsMax && !isOnWorker) {
          if goesToWorker() { return }
          if isTooDeep {
            failWaiting(.tooManyCalls)
            continue
          }
        }
        guard readDirectly(backend) else { return }
      } else {
        register()
        guard submitWave(to: backend) else { return }
      }
    }
  }

  /// Turns to the next backend with all that is not answered. A miss of an up-to-date backend is an answer; those that
  /// are behind are asked only for what the others failed to say.
  private func nextBackend() -> Bool {
    index += 1
    guard index < backends.count else { return false }
    next = 0
    waiting = uris.indices.filter { !reads[$0].isDone && !(reads[$0].isMissed && index >= upToDate) }
    return true
  }

  /// Begins anew in the published generation, because a backend of ours has been replaced. False when there is none.
  private func moveOn() -> Bool {
    let ring = caller.kernel.ring
    guard let fresh = ring.acquire(newerThan: lease) else { return false }
    ring.release(lease)
    lease = fresh
    generation.store(fresh.number, ordering: .relaxed)
    (backends, upToDate) = fresh.generation.readable()
    for index in uris.indices { reads[index].isMissed = false }
    index = -1
    next = 0
    waiting = []
    return true
  }

  /// From here on the request can outlive the call that began it: it can be cancelled, and has a deadline.
  private func register() {
    guard requestToken.load(ordering: .relaxed) == 0 else { return }
    requestToken.store(caller.kernel.requests.add(self), ordering: .releasing)
  }

  /// True when the rest is read on a thread of the kernel's.
  private func goesToWorker() -> Bool {
    isOnWorker = true
    register()
    return caller.kernel.workers.submit { self.run() }
  }

  /// Opens the call of the read that is next; 0 when the backend does not admit it.
  private func openNext(_ backend: Instance, _ startNs: UInt64) -> bp_token {
    guard backend.admits else { return 0 }
    let read = reads + waiting[next]
    _ = Unmanaged.passRetained(self)
    let token = CallSlab.shared.open(
      backend, .read, context: read,
      handler: { context, result in
        let read = context!.assumingMemoryBound(to: Read.self)
        read.pointee.request.takeRetainedValue().completed(read, result!)
      }, startNs: startNs)
    if token == 0 { Unmanaged.passUnretained(self).release() } else { next += 1 }
    return token
  }

  private func request(_ read: Int, _ token: bp_token) -> bp_read {
    bp_read(
      size: UInt32(MemoryLayout<bp_read>.size), flags: 0, token: token, call: call.header, uri: reads[read].uri)
  }

  /// What is still waiting finds no room in the backend: it is not asked.
  private func refuseWaiting(_ backend: Instance) { failWaiting(Admission.failure(backend)) }

  private func failWaiting(_ failure: CallFailure) {
    for read in waiting[next...] { reads[read].failure = failure }
    next = waiting.count
  }

  /// One record after the other. False when a completion goes on instead.
  private func readDirectly(_ backend: Instance) -> Bool {
    let mark = ThreadMark.own
    let end = isOnWorker ? waiting.count : min(waiting.count, ReadMultiRequest.directReadsMax)
    while next < end {
      if chunks.isAnswered { return true }
      left.store(2, ordering: .relaxed)
      let startNs = Clock.monotonicNs()
      let token = openNext(backend, startNs)
      guard token != 0 else {
        if !backend.isClosed || !moveOn() { refuseWaiting(backend) }
        return true
      }
      var read = request(waiting[next - 1], token)
      mark.nested {
        mark.during(.read, backend.handle, generation: lease.number, startNs: startNs, header: call.header) {
          backend.backend!.pointee.read(backend.pointer, &read, 1)
        }
      }
      if left.subtract(1, ordering: .acquiringAndReleasing).newValue > 0 {
        // It promised to complete before returning; whoever takes the call back goes on.
        BrokenPromise.revoke(backend, .read, token)
        return false
      }
    }
    return true
  }

  /// Submits as many reads at once as the backend admits. True when the wave is over and the loop may go on.
  private func submitWave(to backend: Instance) -> Bool {
    left.store(1, ordering: .relaxed)
    let wave = Wave()
    let startNs = Clock.monotonicNs()
    while next < waiting.count, wave.reads.count < ReadMultiRequest.waveReadsMax {
      let token = openNext(backend, startNs)
      guard token != 0 else { break }
      left.add(1, ordering: .relaxed)
      wave.reads.append(request(waiting[next - 1], token))
    }
    guard !wave.reads.isEmpty else {
      if !backend.isClosed || !moveOn() { refuseWaiting(backend) }
      return true
    }
    let tokens = wave.reads.map(\.token)
    open.withLock { $0 = (backend, tokens) }
    Dispatcher.run(backend, .read, tokens) { [self] in
      ThreadMark.own.during(
        .read, backend.handle, generation: generation.load(ordering: .relaxed), startNs: Clock.monotonicNs(),
        header: call.header
      ) {
        wave.reads.withUnsafeBufferPointer {
          backend.backend!.pointee.read(backend.pointer, $0.baseAddress, UInt32($0.count))
        }
      }
    }
    guard left.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 else { return false }
    open.withLock { $0 = nil }
    return true
  }

  /// The structs of one call to `read`: they stay until the plugin returns from it, whatever becomes of the request.
  private final class Wave: @unchecked Sendable {
    // @unchecked: filled before it is handed on, and not changed afterwards.
    var reads: [bp_read] = []
  }

  private func completed(_ read: UnsafeMutablePointer<Read>, _ result: UnsafePointer<bp_result>) {
    switch result.pointee.code {
    case BP_OK: settle(read, result)
    case BP_NOT_FOUND: read.pointee.isMissed = true
    default: read.pointee.failure = CallFailure(result)
    }
    guard left.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 else { return }
    open.withLock { $0 = nil }
    run()
  }

  /// No backend is left to ask.
  private func conclude() {
    let asksPeers = Pull.isWanted(call.header.pointee.flags, lease.generation)
    var missed: [Int] = []
    for index in uris.indices where !reads[index].isDone {
      if reads[index].isMissed {
        if asksPeers { missed.append(index) } else { settle(reads + index, BP_NOT_FOUND) }
      } else {
        Answers.with(reads[index].failure ?? .noBackend, as: bp_read_result.self) { settle(reads + index, $0) }
      }
    }
    if missed.isEmpty { answer(BP_OK, "") } else { askPeers(missed) }
  }

  private func askPeers(_ missed: [Int]) {
    register()
    // It holds this request until it has ended.
    let made = Pull(caller, call, lease, missed.map { reads[$0].uri }) { index, result in
      self.settle(self.reads + missed[index], result)
    } ended: {
      for index in missed where !self.reads[index].isDone { self.settle(self.reads + index, BP_NOT_FOUND) }
      self.answer(BP_OK, "")
    }
    pull.withLock { $0 = made }
    if chunks.isAnswered { pull.withLock { $0 = nil } } else { made.start() }
  }

  private func answer(_ code: bp_code, _ message: StaticString) {
    guard chunks.answer(code, message) else { return }
    // It and this hold each other.
    let done = pull.withLock { pull in
      defer { pull = nil }
      return pull
    }
    done?.giveUp(BP_CANCELLED)
    caller.kernel.requests.remove(requestToken.load(ordering: .acquiring))
  }

  func giveUp(_ code: bp_code, _ message: StaticString) {
    answer(code, message)
    guard let (backend, tokens) = open.withLock({ $0 }) else { return }
    for token in tokens where CallSlab.shared.operation(backend.handle, token) != nil { backend.giveUp(token, code) }
  }
}

extension Dispatcher {
  /// Likewise for several calls that go to the plugin together; not for direct ones.
  static func run(
    _ instance: Instance, _ operation: Operation, _ tokens: [bp_token], _ call: @escaping @Sendable () -> Void
  ) {
    if instance.directness.mode(operation) == BP_MODE_ASYNC { return call() }
    if !instance.workers(operation).submit(call) { tokens.forEach(refuse) }
  }
}
