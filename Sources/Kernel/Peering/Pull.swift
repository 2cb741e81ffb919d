import BackplaneABI
import Synchronization

/// Records that no backend of the node has, asked of its peers: one peer after the other, each for what those before it did
/// not have, and each with a time limit of its own. What a peer answers is passed on and not stored.
final class Pull: @unchecked Sendable {
  // @unchecked: what `uris` point to is in the arena and not written after init; the rest is constant or under a lock.

  /// A record, by its place in `uris`. The result is valid during the call.
  typealias Deliver = @Sendable (_ index: Int, _ result: UnsafePointer<bp_result>) -> Void

  let caller: Instance
  fileprivate let call: OwnedCall
  fileprivate let uris: [bp_view]
  private let arena = Arena()
  private let lease: Lease
  private let peers: [Instance]
  private let deliver: Deliver
  private let ended: @Sendable () -> Void

  private struct State {
    var next = 0
    var claimed: [Bool]
    var round: PullRound?
    var isOver = false
    /// Records that are being passed on just now: the end waits for them.
    var delivering = 0
    var endsAfterDelivery = false
    var successorLeases: [Lease] = []
  }
  private let state: Mutex<State>

  /// - Parameters:
  ///   - lease: the request's; this extends it.
  ///   - uris: in normal form; copied.
  ///   - deliver: called at most once for each record that a peer has, from any thread.
  ///   - ended: called once, after the last `deliver`: what was not delivered is nowhere.
  init(
    _ caller: Instance, _ call: OwnedCall, _ lease: Lease, _ uris: [bp_view], _ deliver: @escaping Deliver,
    ended: @escaping @Sendable () -> Void
  ) {
    self.caller = caller
    self.call = call
    self.lease = caller.kernel.ring.extend(lease)
    self.uris = uris.map(arena.copy)
    peers = lease.generation.pullPeers
    self.deliver = deliver
    self.ended = ended
    state = Mutex(State(claimed: Array(repeating: false, count: uris.count)))
  }

  deinit {
    for lease in state.withLock({ $0.successorLeases }) { caller.kernel.ring.release(lease) }
    caller.kernel.ring.release(lease)
  }

  /// Whether a miss of this call is asked of peers.
  static func isWanted(_ flags: UInt32, _ generation: Generation) -> Bool {
    !generation.pullPeers.isEmpty && flags & BP_CALL_FORWARDED == 0
  }

  /// The peers' calls that are open.
  var openCalls: [(instance: Instance, call: MarkedCall)] {
    state.withLock { $0.round }.map { [($0.peer, .read)] } ?? []
  }

  func start() { goOn() }

  /// Nobody waits any more.
  func giveUp(_ code: bp_code) {
    let round = state.withLock { state -> PullRound? in
      state.isOver = true
      return state.round
    }
    round?.abandon(code)
  }

  /// Turns to the next peer that can be asked, or ends.
  fileprivate func goOn() {
    while true {
      let next = state.withLock { state -> (peer: Instance, missing: [Int])? in
        state.round = nil
        let missing = state.claimed.indices.filter { !state.claimed[$0] }
        guard !state.isOver, state.next < peers.count, !missing.isEmpty else { return nil }
        defer { state.next += 1 }
        return (peers[state.next], missing)
      }
      let nowNs = Clock.monotonicNs()
      guard let (configured, missing) = next, nowNs < call.deadlineNs else { return end() }
      guard let peer = current(configured), let record = peer.pulls, let settings = peer.slot.peer else { continue }
      guard peer.health.state != BP_HEALTH_UNHEALTHY, record.mayAsk(nowNs: nowNs) else {
        record.skipped.add(UInt64(missing.count), ordering: .relaxed)
        continue
      }
      let round = PullRound(
        self, peer, record, missing,
        deadlineNs: min(call.deadlineNs, nowNs + UInt64(settings.pull.timeoutMs) * 1_000_000), lease.number)
      let isOver = state.withLock { state in
        if !state.isOver { state.round = round }
        return state.isOver
      }
      if isOver { return record.ended(nil, nowNs: nowNs) }
      return round.start()
    }
  }

  /// The instance that serves the peer's slot now.
  private func current(_ peer: Instance) -> Instance? {
    guard peer.isClosed else { return peer }
    guard let (fresh, successor) = Admission.successor(of: peer) else { return nil }
    state.withLock { $0.successorLeases.append(fresh) }
    return successor.slot.peer?.pulls == true ? successor : nil
  }

  /// A peer has the record. False: another one was first, or nobody waits any more.
  fileprivate func found(_ index: Int, _ result: UnsafePointer<bp_result>) -> Bool {
    let isMine = state.withLock { state in
      guard !state.isOver, !state.claimed[index] else { return false }
      state.claimed[index] = true
      state.delivering += 1
      return true
    }
    guard isMine else { return false }
    deliver(index, result)
    let isLast = state.withLock { state in
      state.delivering -= 1
      return state.delivering == 0 && state.endsAfterDelivery
    }
    if isLast { ended() }
    return true
  }

  private func end() {
    let isNow = state.withLock { state in
      guard !state.isOver else { return false }
      state.isOver = true
      state.endsAfterDelivery = state.delivering > 0
      return !state.endsAfterDelivery
    }
    if isNow { ended() }
  }
}

/// One peer's turn: all records that are missing, asked for together.
final class PullRound: PendingRequest, @unchecked Sendable {
  // @unchecked: the call's header is written in init; the rest is constant, atomic or under a lock.
  let peer: Instance
  let deadlineNs: UInt64
  private let pull: Pull
  private let record: PullRecord
  private let missing: [Int]
  private let header: UnsafeMutablePointer<bp_call>
  private let generation: UInt64
  /// Calls that are open, and one for whoever makes them.
  private let left = Atomic<Int>(1)
  private let isOver = Atomic<Bool>(false)
  private let hits = Atomic<Int>(0)
  private let misses = Atomic<Int>(0)
  private let requestToken = Atomic<UInt64>(0)
  private let tokens = Mutex<[bp_token]>([])

  init(
    _ pull: Pull, _ peer: Instance, _ record: PullRecord, _ missing: [Int], deadlineNs: UInt64, _ generation: UInt64
  ) {
    self.pull = pull
    self.peer = peer
    self.record = record
    self.missing = missing
    self.deadlineNs = deadlineNs
    self.generation = generation
    header = .allocate(capacity: 1)
    header.initialize(to: pull.call.header.pointee)
    header.pointee.flags |= BP_CALL_FORWARDED
    header.pointee.deadline_ns = deadlineNs
  }

  deinit { header.deallocate() }

  var caller: Instance { pull.caller }

  private final class Context: @unchecked Sendable {
    // @unchecked: immutable.
    let round: PullRound
    let index: Int
    init(_ round: PullRound, _ index: Int) {
      self.round = round
      self.index = index
    }
  }

  private struct UncheckedReads: @unchecked Sendable {
    // @unchecked: what they point to belongs to the round, which every open call holds.
    let reads: [bp_read]
  }

  func start() {
    requestToken.store(caller.kernel.requests.add(self), ordering: .releasing)
    var reads: [bp_read] = []
    for index in missing where peer.admits {
      let context = Unmanaged.passRetained(Context(self, index))
      left.add(1, ordering: .relaxed)
      let token = CallSlab.shared.open(
        peer, .read, context: context.toOpaque(),
        handler: { context, result in
          let context = Unmanaged<Context>.fromOpaque(context!).takeRetainedValue()
          context.round.completed(context.index, result!)
        }, startNs: Clock.monotonicNs())
      guard token != 0 else {
        left.subtract(1, ordering: .relaxed)
        context.release()
        break
      }
      tokens.withLock { $0.append(token) }
      reads.append(
        bp_read(
          size: UInt32(MemoryLayout<bp_read>.size), flags: 0, token: token, call: header, uri: pull.uris[index]))
    }
    if !reads.isEmpty { submit(UncheckedReads(reads: reads)) }
    callEnded()
    // It may have ended before the table's name for it was known there.
    if isOver.load(ordering: .sequentiallyConsistent) { leaveTable() }
  }

  private func submit(_ lent: UncheckedReads) {
    let isDirect = peer.directness.mode(.read) == BP_MODE_DIRECT
    let body: @Sendable () -> Void = { [self] in
      lent.reads.withUnsafeBufferPointer { reads in
        ThreadMark.own.during(
          .read, peer.handle, generation: generation, startNs: Clock.monotonicNs(), header: header
        ) { peer.backend!.pointee.read(peer.pointer, reads.baseAddress, UInt32(reads.count)) }
      }
      guard isDirect else { return }
      for read in lent.reads where CallSlab.shared.operation(peer.handle, read.token) != nil {
        BrokenPromise.revoke(peer, .read, read.token)
      }
    }
    switch peer.directness.mode(.read) {
    case BP_MODE_ASYNC: body()
    case BP_MODE_DIRECT:
      if !caller.kernel.workers.submit(body) { lent.reads.forEach { Dispatcher.refuse($0.token) } }
    default:
      if !peer.workers(.read).submit(body) { lent.reads.forEach { Dispatcher.refuse($0.token) } }
    }
  }

  private func completed(_ index: Int, _ result: UnsafePointer<bp_result>) {
    switch result.pointee.code {
    case BP_OK:
      hits.add(1, ordering: .relaxed)
      if pull.found(index, result) { record.hits.add(1, ordering: .relaxed) }
    case BP_NOT_FOUND: misses.add(1, ordering: .relaxed)
    default: break
    }
    callEnded()
  }

  private func callEnded() {
    guard left.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 else { return }
    let (found, missed) = (hits.load(ordering: .acquiring), misses.load(ordering: .acquiring))
    over(found + missed > 0) {
      record.misses.add(UInt64(missed), ordering: .relaxed)
      record.failures.add(UInt64(missing.count - found - missed), ordering: .relaxed)
    }
  }

  /// Ends the peer's turn; what it answers after that is taken as long as nobody else has answered.
  private func over(_ hasAnswered: Bool?, _ count: () -> Void) {
    guard !isOver.exchange(true, ordering: .sequentiallyConsistent) else { return }
    count()
    record.ended(hasAnswered, nowNs: Clock.monotonicNs())
    leaveTable()
    pull.goOn()
  }

  private func leaveTable() { caller.kernel.requests.remove(requestToken.load(ordering: .acquiring)) }

  /// Nobody waits any more.
  func abandon(_ code: bp_code) {
    over(nil) {}
    cancel(code)
  }

  /// Its time is over.
  func giveUp(_ code: bp_code, _ message: StaticString) {
    // What comes next calls plugins, and this is the thread that all deadlines wait for.
    let next: @Sendable () -> Void = { [self] in
      timedOut(code)
      cancel(code)
    }
    if !caller.kernel.workers.submit(next) { next() }
  }

  private func timedOut(_ code: bp_code) {
    let isTimeout = code == BP_DEADLINE_EXCEEDED
    over(isTimeout ? false : nil) {
      guard isTimeout else { return }
      let answered = hits.load(ordering: .acquiring) + misses.load(ordering: .acquiring)
      record.timeouts.add(UInt64(max(1, missing.count - answered)), ordering: .relaxed)
    }
  }

  private func cancel(_ code: bp_code) {
    for token in tokens.withLock({ $0 }) where CallSlab.shared.operation(peer.handle, token) != nil {
      peer.giveUp(token, code)
    }
  }
}
