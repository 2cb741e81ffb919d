import BackplaneABI
import Glibc
import Synchronization

/// Sends what waits for one peer: several units at a time, those of one record one after the other, each once.
///
/// While the peer does not take units it is tried with one at a time, after growing pauses; everything else waits in the
/// queue. Runs on a thread of its own.
final class PushSender: Sendable {
  /// Units on their way at a time.
  static let inFlightMax = 32
  /// Units that are looked at: among those behind one that has to wait may be some that need not.
  private static let takenMax = 128
  private static let takenBytesMax = 16 << 20
  /// A unit that is not taken though others are, again and again, is taken for refused.
  private static let strikesMax = 20
  /// How long after the first unit the sender of an idle peer begins.
  private static let lingerUs: UInt32 = 1000
  /// How often a thread that waits looks round by itself.
  private static let idleNs: UInt64 = 1_000_000_000

  private struct Taken {
    let unit: PushQueue.Unit
    let message: MissedUnit
    let uris: Set<[UInt8]>
    var call: PushCall?
    var isInFlight: Bool { call != nil }
  }

  /// What the thread alone has.
  private struct Work {
    var order = PushOrder()
    var taken: [Int64: Taken] = [:]
    var pace = PushPace()
    /// Failures of a unit, each followed by another unit's success.
    var strikes: [Int64: Int] = [:]
    /// Has failed since another one succeeded.
    var failing: Set<Int64> = []
    /// The last one that was tried while the peer was away.
    var lastProbe: Int64 = .min

    var inFlight: Int { taken.values.count { $0.isInFlight } }
    /// What may be taken besides; 0: no unit at all.
    var roomBytes: Int {
      guard taken.count < PushSender.takenMax else { return 0 }
      return max(0, PushSender.takenBytesMax - taken.values.reduce(0) { $0 + $1.unit.size })
    }
  }

  private struct Ended {
    let sequence: Int64
    let startNs: UInt64
    let failure: CallFailure?
  }

  let queue: PushQueue
  private unowned let kernel: KernelContext
  private let ended = Mutex<[Ended]>([])
  private let refusals = RateLimit(perSecond: 5)
  /// The node ends: what waits in memory is sent until then, CLOCK_MONOTONIC; 0: it does not end.
  private let endNs = Atomic<UInt64>(0)

  init(_ queue: PushQueue, _ kernel: KernelContext) {
    self.queue = queue
    self.kernel = kernel
  }

  /// Ends the thread: at once when nothing waits in memory, at the latest then.
  func end(atNs deadlineNs: UInt64) {
    endNs.store(max(1, deadlineNs), ordering: .sequentiallyConsistent)
    queue.bell.ring()
  }

  /// Until the slot does not push any more, or the node ends. `mayEnd` is asked for the former.
  func run(mayEnd: () -> Bool) {
    var work = Work()
    while true {
      settle(&work)
      let endNs = endNs.load(ordering: .sequentiallyConsistent)
      if endNs != 0, isOver(work, endNs) {
        for taken in work.taken.values { taken.call?.giveUp(BP_CANCELLED, "the node ends") }
        return
      }
      if !queue.isConfigured {
        giveBack(&work)
        if work.taken.isEmpty, mayEnd() { return }
      }
      let now = Clock.monotonicNs()
      if work.pace.isUp {
        fill(&work)
        send(&work)
      } else if now >= work.pace.resumeNs, work.taken.isEmpty {
        probe(&work)
      }
      let wasIdle = work.taken.isEmpty
      rest(work, endNs)
      // The answer that the first one was put here before has to be written yet, perhaps on the same processor; and what
      // comes meanwhile goes along.
      if wasIdle, work.pace.isUp, endNs == 0, queue.hasWaiting { usleep(PushSender.lingerUs) }
    }
  }

  /// What goes out no more when the node ends.
  private func isOver(_ work: Work, _ endNs: UInt64) -> Bool {
    if Clock.monotonicNs() >= endNs { return true }
    guard work.inFlight == 0 else { return false }
    let report = queue.report
    // What is in files waits for the next process, what nobody takes is lost with this one.
    return report.isDurable || report.units == 0 || !work.pace.isUp
  }

  private func rest(_ work: Work, _ endNs: UInt64) {
    let now = Clock.monotonicNs()
    var untilNs = now + PushSender.idleNs
    // What is on its way rings when it comes back.
    if !work.pace.isUp, work.taken.isEmpty { untilNs = min(untilNs, max(work.pace.resumeNs, now + 1_000_000)) }
    if endNs != 0 { untilNs = min(untilNs, endNs) }
    let mayTake = work.pace.isUp && work.roomBytes > 0
    queue.bell.sleep(untilNs: untilNs) {
      !ended.withLock { $0.isEmpty } || mayTake && queue.hasWaiting
        || endNs == 0 && self.endNs.load(ordering: .sequentiallyConsistent) != 0
    }
  }

  // MARK: Taking and sending

  private func fill(_ work: inout Work) {
    let roomBytes = work.roomBytes
    guard roomBytes > 0 else { return }
    take(&work, unitsMax: PushSender.takenMax - work.taken.count, bytesMax: roomBytes)
  }

  private func take(_ work: inout Work, unitsMax: Int, bytesMax: Int) {
    for unit in queue.take(unitsMax: unitsMax, bytesMax: bytesMax) {
      do throws(JournalProblem) {
        let message = try queue.load(unit)
        let uris = Set(message.ops.map(\.uri))
        work.order.enter(unit.sequence, uris)
        work.taken[unit.sequence] = Taken(unit: unit, message: message, uris: uris)
      } catch {
        queue.done(unit, .refused)
        log(error.sentence, uri: nil)
      }
    }
  }

  private func send(_ work: inout Work) {
    guard !work.taken.isEmpty else { return }
    var free = PushSender.inFlightMax - work.inFlight
    guard free > 0 else { return }
    let ready = work.taken.values.filter { !$0.isInFlight && work.order.isFirst($0.unit.sequence, $0.uris) }
      .sorted { $0.unit.sequence < $1.unit.sequence }
    for taken in ready where free > 0 {
      guard begin(taken, &work) else { return }
      free -= 1
    }
  }

  /// One unit: whether the peer is back. Another one each time, because it may be the unit and not the peer.
  private func probe(_ work: inout Work) {
    take(&work, unitsMax: PushSender.takenMax, bytesMax: PushSender.takenBytesMax)
    let ready = work.taken.values.filter { work.order.isFirst($0.unit.sequence, $0.uris) }
      .sorted { $0.unit.sequence < $1.unit.sequence }
    if let next = ready.first(where: { $0.unit.sequence > work.lastProbe }) ?? ready.first {
      work.lastProbe = next.unit.sequence
      _ = begin(next, &work)
    }
    giveBack(&work)
  }

  /// Everything that is not on its way waits in the queue again: there it counts, and can be dropped when it is full.
  private func giveBack(_ work: inout Work) {
    let idle = work.taken.values.filter { !$0.isInFlight }
    for taken in idle { remove(taken, &work) }
    queue.giveBack(idle.map(\.unit))
  }

  private func remove(_ taken: Taken, _ work: inout Work) {
    work.taken[taken.unit.sequence] = nil
    work.order.leave(taken.unit.sequence, taken.uris)
  }

  /// False when nothing can be sent now.
  private func begin(_ taken: Taken, _ work: inout Work) -> Bool {
    let startNs = Clock.monotonicNs()
    let sequence = taken.unit.sequence
    guard let lease = kernel.ring.acquireAdmitted() ?? kernel.peers.lastLease() else {
      failed(sequence, startNs, CallFailure(code: BP_UNAVAILABLE, "the node is ending"), &work)
      return false
    }
    defer { kernel.ring.release(lease) }
    guard let instance = lease.generation.instance(slot: queue.slot), instance.slot.peer?.pushes == true,
      instance.backend != nil
    else {
      let reason = lease.generation.missing.first { $0.slot.name == queue.slot }?.reason
      failed(
        sequence, startNs, CallFailure(code: BP_UNAVAILABLE, reason ?? "the slot has nothing that serves"), &work)
      return false
    }
    let call = PushCall(instance, lease, taken.message, sequence: sequence) { [weak self] call, failure in
      guard let self else { return }
      ended.withLock { $0.append(Ended(sequence: call.sequence, startNs: call.startNs, failure: failure)) }
      queue.bell.ring()
    }
    work.taken[sequence]!.call = call
    guard let failure = call.start() else { return true }
    work.taken[sequence]!.call = nil
    failed(sequence, startNs, failure, &work)
    return failure.isRefusal
  }

  // MARK: What came of it

  private func settle(_ work: inout Work) {
    let all = ended.withLock { ended in
      defer { ended = [] }
      return ended
    }
    for one in all {
      guard let taken = work.taken[one.sequence] else { continue }
      work.taken[one.sequence]!.call = nil
      if let failure = one.failure {
        failed(one.sequence, one.startNs, failure, &work)
      } else {
        remove(taken, &work)
        succeeded(&work)
        (work.strikes[one.sequence], work.lastProbe) = (nil, .min)
        work.failing.remove(one.sequence)
        queue.done(taken.unit, .pushed)
      }
    }
  }

  /// The peer takes units.
  private func succeeded(_ work: inout Work) {
    for sequence in work.failing { work.strikes[sequence, default: 0] += 1 }
    work.failing = []
    if work.pace.succeeded() {
      kernel.log.notice("a peer takes messages again", ["slot": queue.slot, "waiting": "\(queue.report.units)"])
    }
  }

  private func failed(_ sequence: Int64, _ startNs: UInt64, _ failure: CallFailure, _ work: inout Work) {
    guard let taken = work.taken[sequence] else { return }
    if failure.isRefusal || work.strikes[sequence] ?? 0 >= PushSender.strikesMax {
      remove(taken, &work)
      work.strikes[sequence] = nil
      work.failing.remove(sequence)
      // It has answered: it is there.
      if failure.isRefusal { succeeded(&work) }
      queue.done(taken.unit, .refused)
      return log(failure.reason, uri: taken.message.ops.first?.uri)
    }
    work.failing.insert(sequence)
    queue.retried.add(1, ordering: .relaxed)
    let reason = Redaction.redact(failure.reason)
    let isNew = work.pace.failed(
      nowNs: Clock.monotonicNs(), startNs: startNs, retryAfterMs: failure.retryAfterMs)
    giveBack(&work)
    queue.waits(reason)
    if isNew {
      kernel.log.warning(
        "[peer] Best-effort push failed: \(reason)", ["slot": queue.slot, "waiting": "\(queue.report.units)"])
    }
  }

  /// A unit that the peer will never take.
  private func log(_ reason: String, uri: [UInt8]?) {
    guard case .admitted(let missed) = refusals.admit() else { return }
    var fields = ["slot": queue.slot]
    if let uri { fields["uri"] = Wording.printable(String(decoding: uri, as: UTF8.self), lengthMax: 256) }
    if missed > 0 { fields["not_logged"] = "\(missed)" }
    kernel.log.warning("[peer] Best-effort push failed: \(Redaction.redact(reason))", fields)
  }
}
