import BackplaneABI
import Synchronization

/// Where requests wait that begin while a slot is stopped and started anew (`stop-then-start`). Requests that were
/// admitted before, and everything that is part of them, are not kept out.
final class Door: Sendable {
  private struct State {
    var isShut = false
    var waiting: [ParkedRequest] = []
  }
  private let state = Mutex(State())
  private let lot: ParkingLot

  init(_ lot: ParkingLot) { self.lot = lot }

  enum Parking {
    case parked
    /// The door is open: begin now.
    case open
    case full
  }

  func park(_ request: ParkedRequest) -> Parking {
    state.withLock { state in
      guard state.isShut else { return .open }
      guard lot.enter() else { return .full }
      state.waiting.append(request)
      return .parked
    }
  }

  /// From now on no request begins. The reload thread only, as `open`.
  func shut(_ ring: GenerationRing) {
    state.withLock { $0.isShut = true }
    ring.park()
  }

  /// Lets in what waits, in the order in which it came, on a thread of `workers`.
  func open(_ ring: GenerationRing, _ workers: WorkerPool) {
    ring.unpark()
    let waiting = state.withLock { state in
      defer { state = State() }
      return state.waiting
    }
    guard !waiting.isEmpty else { return }
    let begin: @Sendable () -> Void = { [self] in letIn(waiting) }
    if !workers.submit(begin) { begin() }
  }

  /// The door may be shut again meanwhile: then the rest waits on, before those that have come since.
  private func letIn(_ requests: [ParkedRequest]) {
    var next = 0
    while next < requests.count {
      if requests[next].begin() {
        lot.leave()
        next += 1
        continue
      }
      let isShut = state.withLock { state in
        if state.isShut { state.waiting.insert(contentsOf: requests[next...], at: 0) }
        return state.isShut
      }
      if isShut { return }
    }
  }
}

/// A request that waits at the door: a copy of what the caller gave, and where the answer goes.
final class ParkedRequest: PendingRequest, @unchecked Sendable {
  // @unchecked: the constants are only read; what changes is under the lock.
  typealias Begin = (_ call: bp_call, _ lease: Lease, _ completion: bp_completion) -> bp_token

  private enum State {
    case waiting(Begin)
    /// Under way; its token.
    case begun(bp_token)
    case ended
  }

  let caller: Instance
  private let call: OwnedCall
  private let completion: bp_completion
  private let refuse: (CallFailure) -> Void
  private let parkedUntilNs: UInt64
  private let state: Mutex<UncheckedState>
  private struct UncheckedState: @unchecked Sendable {
    // @unchecked: only touched under the lock.
    var value: State
  }
  private let token = Atomic<UInt64>(0)

  /// How long a client is asked to wait before it tries again.
  static let retryAfterMs: UInt32 = 1000

  /// - Parameters:
  ///   - begin: begins the request with the lease, which stays ours; answers its token, or 0.
  ///   - refuse: answers the caller and gives back what the request owns.
  init(
    _ caller: Instance, _ call: bp_call, _ completion: bp_completion, begin: @escaping Begin,
    refuse: @escaping (CallFailure) -> Void
  ) {
    self.caller = caller
    self.call = OwnedCall(
      call, generation: 0, timeoutNsMax: caller.kernel.requestTimeoutNs.load(ordering: .relaxed))
    self.completion = completion
    self.refuse = refuse
    parkedUntilNs = Clock.monotonicNs() + caller.kernel.parkTimeoutNs.load(ordering: .relaxed)
    state = Mutex(UncheckedState(value: .waiting(begin)))
  }

  /// The end of its waiting; of the request itself the path it takes knows.
  var deadlineNs: UInt64 {
    state.withLock { if case .waiting = $0.value { min(call.deadlineNs, parkedUntilNs) } else { 0 } }
  }

  /// Parks it, or begins or refuses it at once. Answers a token for `cancel`, or 0 when it has been answered.
  func park() -> bp_token {
    let kernel = caller.kernel
    caller.outgoing.add(1, ordering: .relaxed)
    token.store(kernel.requests.add(self), ordering: .releasing)
    waiting: while true {
      switch kernel.door.park(self) {
      case .parked: break waiting
      case .open: if begin() { break waiting }
      case .full:
        end(CallFailure.parkingFull)
        break waiting
      }
    }
    return state.withLock { if case .ended = $0.value { 0 } else { token.load(ordering: .acquiring) } }
  }

  /// False when the door is shut again: then it still waits.
  fileprivate func begin() -> Bool {
    let ring = caller.kernel.ring
    // Not as one that was admitted: what is being stopped now must not get another lease.
    let lease = ring.acquire()
    if lease == nil, ring.currentNumber != 0 { return false }
    defer { if let lease { ring.release(lease) } }
    let begin = state.withLock { state -> Begin? in
      guard case .waiting(let begin) = state.value else { return nil }
      state.value = .begun(0)
      return begin
    }
    guard let begin else { return true }
    guard let lease else {
      fail(CallFailure(code: BP_UNAVAILABLE, "the node is not up", isRetryable: true))
      return true
    }
    let inner = bp_completion(
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        let request = Unmanaged<ParkedRequest>.fromOpaque(context!).takeRetainedValue()
        request.completion.complete(request.completion.context, result)
        request.ended()
      },
      chunk: { context, chunk in
        let request = Unmanaged<ParkedRequest>.fromOpaque(context!).takeUnretainedValue()
        request.completion.chunk?(request.completion.context, chunk)
      })
    let token = begin(call.header.pointee, lease, inner)
    state.withLock { if case .begun = $0.value { $0.value = .begun(token) } }
    return true
  }

  private func fail(_ failure: CallFailure) {
    refuse(failure)
    ended()
  }

  /// Ends it while it waits. False when it does not wait any more.
  @discardableResult
  private func end(_ failure: CallFailure) -> Bool {
    let isWaiting = state.withLock { state -> Bool in
      guard case .waiting = state.value else { return false }
      state.value = .ended
      return true
    }
    if isWaiting { fail(failure) }
    return isWaiting
  }

  private func ended() {
    state.withLock { $0.value = .ended }
    caller.outgoing.subtract(1, ordering: .releasing)
    caller.kernel.requests.remove(token.load(ordering: .acquiring))
  }

  func giveUp(_ code: bp_code, _ message: StaticString) {
    var failure = CallFailure(code: code, "\(message)", isRetryable: true)
    if code == BP_DEADLINE_EXCEEDED { failure = .parkedTooLong }
    if end(failure) { return }
    let inner = state.withLock { if case .begun(let token) = $0.value { token } else { bp_token(0) } }
    if inner != 0 { caller.kernel.requests.cancel(caller, inner) }
  }
}

extension CallFailure {
  static let parkingFull: CallFailure = {
    var failure = CallFailure(
      code: BP_UNAVAILABLE,
      "a slot is being handed over, and as many requests wait for it as may (limits.parked_requests_max)",
      isRetryable: true)
    failure.retryAfterMs = ParkedRequest.retryAfterMs
    return failure
  }()
  static let parkedTooLong: CallFailure = {
    var failure = CallFailure(
      code: BP_UNAVAILABLE, "a slot is being handed over, and that takes longer than the request may wait",
      isRetryable: true)
    failure.retryAfterMs = ParkedRequest.retryAfterMs
    return failure
  }()
}
