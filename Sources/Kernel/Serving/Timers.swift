import BackplaneABI
import Synchronization

/// What waits for a time on behalf of plugins (backplane.timer/1). The thread of the deadlines looks; what is due is
/// completed on the kernel's workers, because it is plugins' code.
final class Timers: Sendable {
  /// Of one instance.
  static let instanceTimersMax = 1024
  /// The highest bits of a token of ours, which no request's and no subscription's has.
  private static let mark: bp_token = 1 << 62
  static func isOurs(_ token: bp_token) -> Bool { token >> 62 == 1 }

  private struct Timer: @unchecked Sendable {
    // @unchecked: the function and its context are the caller's, to be called from any thread (core.h).
    let caller: Instance
    let completion: bp_completion
  }
  private struct Due: Comparable {
    let dueNs: UInt64
    let token: bp_token
    static func < (left: Due, right: Due) -> Bool { (left.dueNs, left.token) < (right.dueNs, right.token) }
  }
  private struct State {
    var open: [bp_token: Timer] = [:]
    /// What is open, by when it is due; and what has been cancelled since, until it comes up.
    var heap = MinimumHeap<Due>()
    var next: bp_token = 1
  }
  private let state = Mutex(State())
  /// Of the first; `.max` when there is none.
  private let earliestNs = Atomic<UInt64>(.max)
  /// That were not given because the instance had as many as it may.
  let refused = Atomic<UInt64>(0)

  var count: Int { state.withLock { $0.open.count } }

  /// The token, or 0 when it was completed at once.
  func after(_ caller: Instance, dueNs: UInt64, _ completion: bp_completion) -> bp_token {
    guard caller.timers.add(1, ordering: .relaxed).newValue <= Timers.instanceTimersMax else {
      caller.timers.subtract(1, ordering: .relaxed)
      refused.add(1, ordering: .relaxed)
      Answers.complete(
        completion, BP_RESOURCE_EXHAUSTED, "this instance waits for 1,024 timers already", as: bp_result.self)
      return 0
    }
    // `stop` waits for it as for any call of the instance's.
    caller.outgoing.add(1, ordering: .relaxed)
    return state.withLock { state in
      let token = Timers.mark | state.next
      state.next += 1
      state.open[token] = Timer(caller: caller, completion: completion)
      state.heap.insert(Due(dueNs: dueNs, token: token))
      note(state)
      return token
    }
  }

  /// Ends it, unless it has ended or is another's.
  func cancel(_ handle: bp_instance, _ token: bp_token) {
    let timer = state.withLock { state -> Timer? in
      guard state.open[token]?.caller.handle == handle else { return nil }
      let timer = state.open.removeValue(forKey: token)
      // Those that were cancelled do not outnumber the rest for long.
      if state.heap.count > 2 * state.open.count + 64 {
        state.heap = MinimumHeap(state.heap.elements.filter { state.open[$0.token] != nil })
        note(state)
      }
      return timer
    }
    if let timer { end(timer, BP_CANCELLED) }
  }

  /// Ends all of one instance: it is being stopped.
  func cancelAll(of handle: bp_instance) {
    let tokens = state.withLock { $0.open.filter { $1.caller.handle == handle }.map(\.key) }
    for token in tokens { cancel(handle, token) }
  }

  /// Completes what is due; on the thread of the deadlines, every 10 ms.
  func tick(nowNs: UInt64) {
    guard earliestNs.load(ordering: .relaxed) <= nowNs else { return }
    let due = state.withLock { state -> [Timer] in
      var due: [Timer] = []
      while let first = state.heap.first, first.dueNs <= nowNs {
        state.heap.removeFirst()
        if let timer = state.open.removeValue(forKey: first.token) { due.append(timer) }
      }
      note(state)
      return due
    }
    for timer in due {
      let isSubmitted = timer.caller.kernel.workers.submit { [self] in end(timer, BP_OK) }
      if !isSubmitted { end(timer, BP_OK) }
    }
  }

  private func note(_ state: State) { earliestNs.store(state.heap.first?.dueNs ?? .max, ordering: .relaxed) }

  private func end(_ timer: Timer, _ code: bp_code) {
    // Before the answer, which may ask for another.
    timer.caller.timers.subtract(1, ordering: .relaxed)
    Answers.with(code, as: bp_result.self) { timer.completion.answer(timer.caller.handle, $0) }
    timer.caller.outgoing.subtract(1, ordering: .releasing)
  }
}

/// A binary heap whose first element is the least.
struct MinimumHeap<Element: Comparable> {
  private(set) var elements: [Element] = []

  init() {}

  init(_ elements: [Element]) {
    // What is in order is a heap.
    self.elements = elements.sorted()
  }

  var count: Int { elements.count }
  var first: Element? { elements.first }

  mutating func insert(_ element: Element) {
    elements.append(element)
    var index = elements.count - 1
    while index > 0, elements[index] < elements[(index - 1) / 2] {
      elements.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }

  mutating func removeFirst() {
    elements.swapAt(0, elements.count - 1)
    elements.removeLast()
    var index = 0
    while true {
      let left = 2 * index + 1
      guard left < elements.count else { return }
      let right = left + 1
      let least = right < elements.count && elements[right] < elements[left] ? right : left
      guard elements[least] < elements[index] else { return }
      elements.swapAt(index, least)
      index = least
    }
  }
}
