import Glibc
import Synchronization

/// One queue for all hints. A hint sets a flag and is never lost: one that comes while a reload runs makes another.
final class ReloadQueue: @unchecked Sendable {
  // @unchecked: the mutable state is under the lock; `thread` in init and shutDown only.
  struct Asked {
    var triggers: [String] = []
    var now: Set<String> = []
    var losesState = false
    var waiting: [Promise<Receipt>] = []
  }

  private struct State {
    var asked: Asked?
    /// The hint that is to come by itself, and when (CLOCK_MONOTONIC).
    var later: (trigger: String, atNs: UInt64)?
    var isClosed = false
  }

  private let state = Mutex<State>(State())
  private let wake = Mutex<Promise<Bool>>(Promise())
  private var thread: pthread_t?

  /// `reload` runs on the queue's own thread, one at a time.
  init(_ reload: @escaping @Sendable (Asked) -> Receipt) {
    thread = Thread.start(name: "bp-reload") { [self] in
      while let asked = next() {
        let receipt = reload(asked)
        for promise in asked.waiting { promise.set(receipt) }
      }
    }
  }

  /// Something may have changed. Returns at once; any thread.
  func hint(_ trigger: String) { ask(Asked(triggers: [trigger])) }

  /// Something will have to be looked at again in so many milliseconds; the earliest of several such times counts. Any
  /// thread.
  func hint(_ trigger: String, afterMs: Int) {
    let atNs = Clock.monotonicNs() + UInt64(max(0, afterMs)) * 1_000_000
    state.withLock { state in
      if state.later.map({ atNs < $0.atNs }) ?? true { state.later = (trigger, atNs) }
    }
    wake.withLock { $0.set(true) }
  }

  /// Reloads and waits for the receipt of a reload that began after this call; nil when the node is ending.
  func reload(_ trigger: String, now: Set<String> = [], losesState: Bool = false) -> Receipt? {
    let promise = Promise<Receipt>()
    guard ask(Asked(triggers: [trigger], now: now, losesState: losesState, waiting: [promise])) else { return nil }
    while true {
      if let receipt = promise.get(untilNs: Clock.monotonicNs() + 100_000_000) { return receipt }
      if state.withLock({ $0.isClosed }) { return promise.get(untilNs: Clock.monotonicNs()) }
    }
  }

  @discardableResult
  private func ask(_ new: Asked) -> Bool {
    let accepted = state.withLock { state -> Bool in
      guard !state.isClosed else { return false }
      var asked = state.asked ?? Asked()
      for trigger in new.triggers where !asked.triggers.contains(trigger) { asked.triggers.append(trigger) }
      asked.now.formUnion(new.now)
      asked.losesState = asked.losesState || new.losesState
      asked.waiting += new.waiting
      state.asked = asked
      return true
    }
    wake.withLock { $0.set(true) }
    return accepted
  }

  private func next() -> Asked? {
    while true {
      let (asked, atNs, isClosed) = state.withLock { state in
        if state.asked == nil, let later = state.later, later.atNs <= Clock.monotonicNs() {
          state.asked = Asked(triggers: [later.trigger])
        }
        // Whatever runs now looks at everything, and asks again for what is still to be waited for.
        if state.asked != nil { state.later = nil }
        defer { state.asked = nil }
        return (state.asked, state.later?.atNs, state.isClosed)
      }
      if isClosed { return nil }
      if let asked { return asked }
      let promise = wake.withLock { $0 }
      if let atNs { _ = promise.get(untilNs: atNs) } else { _ = promise.get() }
      wake.withLock { $0 = Promise() }
    }
  }

  /// Waits for a reload that runs; nothing that is asked for later runs.
  func shutDown() {
    state.withLock { $0.isClosed = true }
    wake.withLock { $0.set(true) }
    if let thread { pthread_join(thread, nil) }
    thread = nil
  }
}
