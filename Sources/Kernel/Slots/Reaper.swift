import Glibc
import Synchronization

/// Retires superseded generations when their last lease has gone, and instances when their last generation has.
///
/// A drain is bounded: after the soft limit the log says who holds the generation; after the hard limit what is left is
/// answered and cancelled; and what has not come back after a grace makes its instance wedged, while the generation's
/// other instances retire as if it had. Looks every 10 ms while there is something to wait for.
final class Reaper: @unchecked Sendable {
  // @unchecked: what changes is under the locks; `thread` in init and shutDown only.
  private struct Held {
    let generation: Generation
    let sinceNs: UInt64
    var isReported = false
    /// When the hard limit came; 0 before.
    var cancelledNs: UInt64 = 0
    /// The grace after the hard limit is over too: nobody waits for its leases any more.
    var isOverdue = false
  }

  struct Limits {
    var drainSoftMs: Int
    var drainHardMs: Int
    var stopMs: Int
    /// How long cancelled calls may take to come back.
    var cancelGraceMs = 5000
  }

  private let kernel: KernelContext
  private let state = Mutex<(held: [Held], limits: Limits)>(
    ([], Limits(drainSoftMs: 30_000, drainHardMs: 300_000, stopMs: 10_000)))
  /// Retirements that are under way, each on a thread of its own.
  private let retiring = Atomic<Int>(0)
  private let stopped = Promise<Bool>()
  private let wake = Mutex<Promise<Bool>>(Promise())
  /// Counts the rounds of its thread, for whoever watches whether it is alive.
  let rounds = Atomic<UInt64>(0)
  private var thread: pthread_t?

  private static let idleNs: UInt64 = 1_000_000_000
  /// How many holders the log names.
  private static let namedMax = 10

  init(_ kernel: KernelContext) {
    self.kernel = kernel
    thread = Thread.start(name: "bp-reaper") { [self] in run() }
  }

  func apply(_ limits: Limits) { state.withLock { $0.limits = limits } }

  /// `generation` has been superseded; `leaving` are its instances that its successor does not have.
  func supersede(_ generation: Generation, leaving: [Instance]) {
    // A transport stops accepting now, and a service its work; they are stopped when their generation has drained.
    for instance in leaving where instance.slot.kind.isActive { quiesce(instance) }
    state.withLock { $0.held.append(Held(generation: generation, sinceNs: Clock.monotonicNs())) }
    wake.withLock { $0.set(true) }
  }

  /// Takes one instance out of service and waits for it: it makes room for another that cannot be beside it. False when
  /// it is wedged.
  func stop(_ instance: Instance) -> Bool {
    guard !instance.isRetiring.exchange(true, ordering: .acquiringAndReleasing) else { return false }
    let limits = state.withLock { $0.limits }
    return LifeCycle.retire(instance, quiesceMs: limits.drainSoftMs, stopMs: limits.stopMs)
  }

  /// Superseded generations that requests still hold, as far as anybody waits for them.
  var heldGenerations: [Generation] { state.withLock { $0.held.filter { !$0.isOverdue }.map(\.generation) } }

  /// An instance that was started and never published.
  func discard(_ instance: Instance) { retire(instance) }

  /// Superseded generations that are still held: how long, by how many leases, and whether anybody waits for them.
  func held() -> [(number: UInt64, ageMs: Int, leases: Int, isWedged: Bool, madeNs: UInt64)] {
    return state.withLock { state in
      // Read under the lock: a generation that is superseded meanwhile would be younger than now.
      let now = Clock.monotonicNs()
      return state.held.map { held in
        (
          held.generation.number, Int((now - held.sinceNs) / 1_000_000), kernel.ring.leases(held.generation.number),
          held.isOverdue, held.generation.madeNs
        )
      }
    }
  }

  private func quiesce(_ instance: Instance) {
    guard !instance.hasBegunQuiescing.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let limits = state.withLock { $0.limits }
    retiring.add(1, ordering: .relaxed)
    let thread = Thread.start(name: "bp-quiesce") { [self] in
      LifeCycle.quiesce(instance, timeoutMs: limits.drainSoftMs)
      instance.quiesced.set(true)
      retiring.subtract(1, ordering: .relaxed)
    }
    if let thread {
      pthread_detach(thread)
    } else {
      retiring.subtract(1, ordering: .relaxed)
      instance.quiesced.set(true)
    }
  }

  /// Quiesces services while transports accept, then transports while everything behind them still serves, and waits for
  /// it: the node is ending.
  func quiesceActive(of generation: Generation) {
    for kind in [SlotConfiguration.Kind.service, .transport] {
      let instances = generation.slots.filter { $0.slot.kind == kind }
      for instance in instances { quiesce(instance) }
      for instance in instances { _ = instance.quiesced.get() }
    }
  }

  /// Returns at once.
  func beginQuiescing(_ instances: [Instance]) { for instance in instances { quiesce(instance) } }

  private func run() {
    while stopped.get(untilNs: 0) == nil {
      rounds.add(1, ordering: .relaxed)
      let (isIdle, isHopeless) = state.withLock { ($0.held.isEmpty, $0.held.allSatisfy(\.isOverdue)) }
      if isIdle {
        let promise = wake.withLock { $0 }
        if promise.get(untilNs: Clock.monotonicNs() + Reaper.idleNs) != nil { wake.withLock { $0 = Promise() } }
      } else {
        usleep(isHopeless ? 100_000 : 10_000)
      }
      look()
    }
  }

  private func look() {
    // Not over before the instances of what is taken out here are on their way.
    retiring.add(1, ordering: .relaxed)
    defer { retiring.subtract(1, ordering: .releasing) }
    let limits = state.withLock { $0.limits }
    let drained = state.withLock { state -> [Generation] in
      let drained = state.held.filter { kernel.ring.leases($0.generation.number) == 0 }.map(\.generation)
      state.held.removeAll { held in drained.contains { $0 === held.generation } }
      return drained
    }
    for generation in drained {
      kernel.ring.retire(generation.number)
      for instance in generation.slots
      where instance.generations.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 {
        retire(instance)
      }
    }
    var reported: [UInt64] = []
    var cancelled: [Held] = []
    let (counts, overdue) = state.withLock { state -> (Int, [Generation]) in
      // Read under the lock: a generation that is superseded meanwhile would be younger than now.
      let now = Clock.monotonicNs()
      for index in state.held.indices {
        let ageMs = Int((now - state.held[index].sinceNs) / 1_000_000)
        if ageMs > limits.drainSoftMs, !state.held[index].isReported {
          state.held[index].isReported = true
          reported.append(state.held[index].generation.number)
        }
        if ageMs > limits.drainHardMs, state.held[index].cancelledNs == 0 {
          state.held[index].cancelledNs = now
          cancelled.append(state.held[index])
        }
        let cancelledNs = state.held[index].cancelledNs
        if cancelledNs != 0, now - cancelledNs >= UInt64(limits.cancelGraceMs) * 1_000_000 {
          state.held[index].isOverdue = true
        }
      }
      return (state.held.count, state.held.filter(\.isOverdue).map(\.generation))
    }
    for number in reported { report(number) }
    if !cancelled.isEmpty { cancel(cancelled.map(\.generation)) }
    if !overdue.isEmpty { force(overdue) }
    kernel.reloadCounts.withLock { $0.heldGenerations = counts }
  }

  /// The soft limit: who holds it.
  private func report(_ number: UInt64) {
    let leases = GenerationsReport.leases(kernel)[number] ?? []
    var names = leases.prefix(Reaper.namedMax).map(\.text)
    if leases.count > names.count { names.append("and \(leases.count - names.count) more") }
    kernel.log.warning(
      "a superseded generation is still held",
      [
        "generation": "\(number)", "leases": "\(kernel.ring.leases(number))",
        "held_by": names.joined(separator: "; "),
      ])
  }

  /// The instances that nothing but these generations has: they go with them.
  private func leaving(with generations: [Generation]) -> [Instance] {
    var holders: [ObjectIdentifier: Int] = [:]
    var instances: [Instance] = []
    for generation in generations {
      for instance in generation.slots {
        if holders[ObjectIdentifier(instance)] == nil { instances.append(instance) }
        holders[ObjectIdentifier(instance), default: 0] += 1
      }
    }
    return instances.filter { instance in
      instance.generations.load(ordering: .acquiring) == holders[ObjectIdentifier(instance)]
    }
  }

  /// The hard limit: every call that is open in the generations' own instances is answered and cancelled.
  private func cancel(_ generations: [Generation]) {
    let past = state.withLock { $0.held.filter { $0.cancelledNs != 0 }.map(\.generation) }
    let leaving = leaving(with: past)
    // Whoever still comes with an old lease goes to the successor.
    for instance in leaving { instance.close() }
    for generation in generations {
      kernel.log.warning("the calls of a superseded generation are cancelled", ["generation": "\(generation.number)"])
    }
    let numbers = Set(past.map(\.number))
    // On a thread of its own: what is called there is plugins' code, which may not come back.
    let thread = Thread.start(name: "bp-cancel") { [kernel] in
      kernel.requests.giveUpAll(holding: numbers, leaving: leaving)
      for instance in leaving {
        for token in CallSlab.shared.openTokens(of: instance) { instance.cancel(token) }
      }
    }
    if let thread { pthread_detach(thread) }
  }

  /// The grace is over: instances with calls that have not come back are written off, the others retire without waiting
  /// for the leases that those hold.
  private func force(_ generations: [Generation]) {
    let leaving = leaving(with: generations).filter {
      $0.state != .wedged && !$0.isRetiring.load(ordering: .acquiring)
    }
    guard !leaving.isEmpty else { return }
    let threads = MarkedThread.all()
    for instance in leaving {
      instance.close()
      let calls = CallSlab.shared.openCalls(of: instance)
      let marked = threads.first { $0.handle == instance.handle && $0.generation != 0 }
      guard let call = marked?.call.name ?? calls.min(by: { $0.startNs < $1.startNs })?.operation.name else {
        retire(instance)
        continue
      }
      // A child that does not come back is killed, and what it has ends with it.
      if let proxy = instance.proxy {
        proxy.kill("it had not come back from \(call) when its generation was to go (reload.cancel_grace_ms)")
      } else {
        kernel.wedged.add(instance, in: call)
      }
    }
  }

  private func retire(_ instance: Instance) {
    // What failed in a transaction is discarded at once, and again when the whole transaction fails; and what retired
    // before its generation had drained comes here again with the generation.
    guard instance.state != .wedged, !instance.isRetiring.exchange(true, ordering: .acquiringAndReleasing) else {
      return
    }
    let limits = state.withLock { $0.limits }
    retiring.add(1, ordering: .relaxed)
    let thread = Thread.start(name: "bp-retire") { [self] in
      defer { retiring.subtract(1, ordering: .relaxed) }
      if instance.hasBegunQuiescing.load(ordering: .acquiring) { _ = instance.quiesced.get() }
      _ = LifeCycle.retire(instance, quiesceMs: limits.drainSoftMs, stopMs: limits.stopMs)
    }
    if let thread { pthread_detach(thread) } else { retiring.subtract(1, ordering: .relaxed) }
  }

  /// Waits until everything superseded has been retired or written off, at most until `deadlineNs`. True when nothing is
  /// left.
  func drain(untilNs deadlineNs: UInt64) -> Bool {
    while Clock.monotonicNs() < deadlineNs {
      // What has given its leases back is not hopeless, only not looked at yet.
      let (isDrained, isHopeless) = state.withLock { state in
        (
          state.held.isEmpty,
          state.held.allSatisfy { $0.isOverdue && kernel.ring.leases($0.generation.number) > 0 }
        )
      }
      if isHopeless, retiring.load(ordering: .acquiring) == 0 { return isDrained }
      usleep(5000)
    }
    return false
  }

  func shutDown() {
    stopped.set(true)
    wake.withLock { $0.set(true) }
    if let thread { pthread_join(thread, nil) }
    thread = nil
  }
}
