import BackplaneABI
import Synchronization

/// A read that did not end at once: it keeps the request's memory and its lease until every backend it asked has
/// completed, though its client may have had an answer long before.
final class ReadRequest: PendingRequest, @unchecked Sendable {
  // @unchecked: one step runs at a time, each after the completion of the one before; the rest is atomic.
  let caller: Instance
  private let call: OwnedCall
  private let uri: UnsafeMutableBufferPointer<UInt8>
  private let uriCount: Int
  private var lease: Lease
  private let completion: bp_completion
  private let answered: RequestEnd?
  private var backends: [Instance]
  private var upToDate: Int
  private var index: Int
  private var missed: Bool
  private var failure: CallFailure?
  private let isAnswered = Atomic<Bool>(false)
  private let requestToken = Atomic<UInt64>(0)
  /// The lease's number, for whoever looks from outside.
  private let generation: Atomic<UInt64>
  /// The call that is open, for `giveUp`, which comes on a thread of its own.
  private let open = Mutex<(backend: Instance, token: bp_token)?>(nil)
  /// No backend has it; peers are asked.
  private let pull = Mutex<Pull?>(nil)

  /// - Parameter from: the place of the first backend to be asked; beyond the last: none but peers.
  init(
    _ caller: Instance, _ call: bp_call, _ uri: UnsafeBufferPointer<UInt8>, _ lease: Lease,
    _ completion: bp_completion, from index: Int, missed: Bool, failure: CallFailure?,
    answered: RequestEnd?
  ) {
    self.caller = caller
    self.lease = caller.kernel.ring.extend(lease)
    generation = Atomic(lease.number)
    self.completion = completion
    self.answered = answered
    self.index = index
    self.missed = missed
    self.failure = failure
    self.uri = .allocate(capacity: max(1, uri.count))
    _ = self.uri.initialize(from: uri)
    uriCount = uri.count
    self.call = OwnedCall(
      call, generation: lease.number,
      timeoutNsMax: caller.kernel.requestTimeoutNs.load(ordering: .relaxed))
    (backends, upToDate) = lease.generation.readable()
  }

  deinit {
    uri.deallocate()
    caller.kernel.ring.release(lease)
  }

  var deadlineNs: UInt64 { call.deadlineNs }

  var holding: RequestHolding? {
    let open = open.withLock { $0 }
    let waitsFor = pull.withLock { $0?.openCalls } ?? open.map { [($0.backend, .read)] } ?? []
    return call.holding(.read, generation.load(ordering: .relaxed), waitsFor: waitsFor)
  }

  /// Begins; the token is for `cancel`.
  func start() -> bp_token {
    let token = caller.kernel.requests.add(self)
    requestToken.store(token, ordering: .releasing)
    step()
    return token
  }

  private func step() {
    while index < backends.count {
      // A miss of an up-to-date backend is an answer; those that are behind are asked only when the others failed.
      if missed && index >= upToDate { break }
      if isAnswered.load(ordering: .acquiring) { return }
      let backend = backends[index]
      if backend.isClosed, moveOn() { continue }
      index += 1
      if submit(backend) { return }
      failure = Admission.failure(backend)
    }
    if missed {
      if asksPeers() { return }
      Answers.with(BP_NOT_FOUND, as: bp_read_result.self, answer)
    } else {
      Answers.with(failure ?? .noBackend, as: bp_read_result.self, answer)
    }
  }

  /// True when peers are asked: their answer is the answer then.
  private func asksPeers() -> Bool {
    guard Pull.isWanted(call.header.pointee.flags, lease.generation) else { return false }
    let uri = bp_view(data: UnsafePointer(uri.baseAddress), size: UInt64(uriCount))
    // It holds this request until it has ended.
    let made = Pull(caller, call, lease, [uri]) { _, result in
      self.answer(result)
    } ended: {
      Answers.with(BP_NOT_FOUND, as: bp_read_result.self, self.answer)
    }
    pull.withLock { $0 = made }
    if isAnswered.load(ordering: .acquiring) { pull.withLock { $0 = nil } } else { made.start() }
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
    index = 0
    missed = false
    return true
  }

  /// True when the backend has the call; its completion goes on.
  private func submit(_ backend: Instance) -> Bool {
    guard backend.admits else { return false }
    let context = Unmanaged.passRetained(self)
    let token = CallSlab.shared.open(
      backend, .read, context: context.toOpaque(),
      handler: { context, result in
        Unmanaged<ReadRequest>.fromOpaque(context!).takeRetainedValue().completed(result!)
      }, startNs: Clock.monotonicNs())
    guard token != 0 else {
      context.release()
      return false
    }
    open.withLock { $0 = (backend, token) }
    Dispatcher.run(backend, .read, token) { [self] in
      var request = bp_read(
        size: UInt32(MemoryLayout<bp_read>.size), flags: 0, token: token, call: call.header,
        uri: bp_view(data: UnsafePointer(uri.baseAddress), size: UInt64(uriCount)))
      ThreadMark.own.during(
        .read, backend.handle, generation: lease.number, startNs: Clock.monotonicNs(), header: call.header
      ) { backend.backend!.pointee.read(backend.pointer, &request, 1) }
    }
    return true
  }

  private func completed(_ result: UnsafePointer<bp_result>) {
    switch result.pointee.code {
    case BP_OK: answer(result)
    case BP_NOT_FOUND:
      missed = true
      step()
    default:
      failure = CallFailure(result)
      step()
    }
  }

  private func answer(_ result: UnsafePointer<bp_result>) {
    guard !isAnswered.exchange(true, ordering: .acquiringAndReleasing) else { return }
    completion.answer(caller.handle, result)
    answered?(result.pointee.code, call.sinceNs)
    // It and this hold each other.
    let done = pull.withLock { pull in
      defer { pull = nil }
      return pull
    }
    done?.giveUp(BP_CANCELLED)
    caller.kernel.requests.remove(requestToken.load(ordering: .acquiring))
  }

  func giveUp(_ code: bp_code, _ message: StaticString) {
    Answers.with(code, message, retryable: true, as: bp_read_result.self, answer)
    if let (backend, token) = open.withLock({ $0 }) { backend.giveUp(token, code) }
  }
}
