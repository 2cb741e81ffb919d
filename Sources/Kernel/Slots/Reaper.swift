import Glibc
import Synchronization

/// Retires superseded generations when their last lease has gone, and instances when their last generation has.
/// Looks every 10 ms while there is something to wait for; sleeps otherwise.
final class Reaper: @unchecked Sendable {
  // @unchecked: `held` is only touched under the lock; `thread` in init and shutDown only.
  private struct Held {
    let generation: Generation
    let sinceNs: UInt64
    var isReported = false
    var isCancelled = false
  }

  struct Limits {
    var drainSoftMs: Int
    var drainHardMs: Int
    var stopMs: Int
  }

  private let kernel: KernelContext
  private let state = Mutex<(held: [Held], limits: Limits)>(
    ([], Limits(drainSoftMs: 30_000, drainHardMs: 300_000, stopMs: 10_000)))
  /// Retirements that are under way, each on a thread of its own.
  private let retiring = Atomic<Int>(0)
  private let stopped = Promise<Bool>()
  private let wake = Mutex<Promise<Bool>>(Promise())
  private var thread: pthread_t?

  init(_ kernel: KernelContext) {
    self.kernel = kernel
    thread = Thread.start(name: "bp-reaper") { [self] in run() }
  }

  func apply(_ limits: Limits) { state.withLock { $0.limits = limits } }

  /// `generation` has been superseded; `leaving` are its instances that its successor does not have.
  func supersede(_ generation: Generation, leaving: [Instance]) {
    // A transport stops accepting now; it is stopped when its generation has drained.
    for instance in leaving where instance.transport != nil { quiesce(instance) }
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

  /// Superseded generations that requests still hold.
  var heldGenerations: [Generation] { state.withLock { $0.held.map(\.generation) } }

  /// An instance that was started and never published.
  func discard(_ instance: Instance) { retire(instance) }

  /// Superseded generations that are still held, with their age and leases.
  func held() -> [(number: UInt64, ageMs: Int, leases: Int)] {
    return state.withLock { state in
      // Read under the lock: a generation that is superseded meanwhile would be younger than now.
      let now = Clock.monotonicNs()
      return state.held.map { held in
        (
          held.generation.number, Int((now - held.sinceNs) / 1_000_000), kernel.ring.leases(held.generation.number)
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

  /// Quiesces transports while everything behind them still serves, and waits for it: the node is ending.
  func quiesceTransports(of generation: Generation) {
    let transports = generation.slots.filter { $0.transport != nil }
    for instance in transports { quiesce(instance) }
    for instance in transports { _ = instance.quiesced.get() }
  }

  private func run() {
    while stopped.get(untilNs: 0) == nil {
      let isIdle = state.withLock { $0.held.isEmpty }
      if isIdle {
        let promise = wake.withLock { $0 }
        _ = promise.get(untilNs: Clock.monotonicNs() + 3_600_000_000_000)
        wake.withLock { $0 = Promise() }
      } else {
        usleep(10_000)
      }
      look()
    }
  }

  private func look() {
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
    let counts = state.withLock { state -> Int in
      // Read under the lock: a generation that is superseded meanwhile would be younger than now.
      let now = Clock.monotonicNs()
      for index in state.held.indices {
        let ageMs = Int((now - state.held[index].sinceNs) / 1_000_000)
        if ageMs > limits.drainSoftMs, !state.held[index].isReported {
          state.held[index].isReported = true
          kernel.log.warning(
            "a superseded generation is still held",
            [
              "generation": "\(state.held[index].generation.number)", "age_ms": "\(ageMs)",
              "leases": "\(kernel.ring.leases(state.held[index].generation.number))",
            ])
        }
        if ageMs > limits.drainHardMs, !state.held[index].isCancelled {
          state.held[index].isCancelled = true
          cancel(state.held[index].generation)
        }
      }
      return state.held.count
    }
    kernel.reloadCounts.withLock { $0.heldGenerations = counts }
  }

  /// The hard limit: every call that is open in the generation's own instances is cancelled.
  private func cancel(_ generation: Generation) {
    kernel.log.warning("the calls of a superseded generation are cancelled", ["generation": "\(generation.number)"])
    for instance in generation.slots where instance.generations.load(ordering: .acquiring) == 1 {
      for token in CallSlab.shared.openTokens(of: instance) { instance.cancel(token) }
    }
  }

  private func retire(_ instance: Instance) {
    // What failed in a transaction is discarded at once, and again when the whole transaction fails.
    guard !instance.isRetiring.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let limits = state.withLock { $0.limits }
    retiring.add(1, ordering: .relaxed)
    let thread = Thread.start(name: "bp-retire") { [self] in
      defer { retiring.subtract(1, ordering: .relaxed) }
      if instance.hasBegunQuiescing.load(ordering: .acquiring) { _ = instance.quiesced.get() }
      _ = LifeCycle.retire(instance, quiesceMs: limits.drainSoftMs, stopMs: limits.stopMs)
    }
    if let thread { pthread_detach(thread) } else { retiring.subtract(1, ordering: .relaxed) }
  }

  /// Waits until everything superseded has been retired, at most until `deadlineNs`. True when it has.
  func drain(untilNs deadlineNs: UInt64) -> Bool {
    while Clock.monotonicNs() < deadlineNs {
      if state.withLock({ $0.held.isEmpty }), retiring.load(ordering: .acquiring) == 0 { return true }
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
