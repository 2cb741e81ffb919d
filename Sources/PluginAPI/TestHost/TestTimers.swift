import PluginAPI
import Synchronization

/// What answers backplane.timer/1 of a test host: time as it passes, or a clock that stands until the test moves it.
///
/// On a clock that stands, a timer is due when the test has advanced by as much as lay between the moment it was set and
/// its time: a service that sleeps for a minute is woken by `advance(by: .seconds(60))`, at once.
public final class TestTimers: Sendable {
  /// Of one instance.
  public static let instanceTimersMax = 1024
  /// Beside the mark of subscriptions.
  private static let mark: bp_token = 1 << 63

  private struct Timer {
    let core: HostCore
    let dueNs: UInt64
    let completion: Completion
    var sleep: Task<Void, Never>?
  }
  private struct Waiter {
    let count: Int
    let continuation: CheckedContinuation<Void, Never>
  }
  private struct State {
    var open: [bp_token: Timer] = [:]
    var next: bp_token = 1
    /// How far the test has come.
    var nowNs: UInt64 = 0
    var waiters: [Waiter] = []
  }
  private let state = Mutex(State())
  private let isManual: Bool

  /// - Parameter isManual: the clock stands until `advance(by:)`.
  public init(isManual: Bool = false) { self.isManual = isManual }

  /// Timers that are waited for.
  public var pendingCount: Int { state.withLock { $0.open.count } }

  /// Moves a clock that stands, and wakes what is due by then, in order. What is set meanwhile counts from the new time.
  public func advance(by duration: Duration) {
    precondition(isManual, "only a manual clock is moved; make it with TestTimers(isManual: true)")
    let due = state.withLock { state in
      state.nowNs += duration.nanoseconds
      let due = state.open.filter { $0.value.dueNs <= state.nowNs }
      for token in due.keys { state.open[token] = nil }
      return due.sorted { ($0.value.dueNs, $0.key) < ($1.value.dueNs, $1.key) }.map(\.value)
    }
    for timer in due { TestTimers.end(timer, nil) }
  }

  /// Returns as soon as at least `count` timers are waited for.
  public func waitUntilPending(_ count: Int = 1) async {
    await withCheckedContinuation { continuation in
      let isThere = state.withLock { state in
        if state.open.count >= count { return true }
        state.waiters.append(Waiter(count: count, continuation: continuation))
        return false
      }
      if isThere { continuation.resume() }
    }
  }

  // MARK: From the plugin

  func after(_ core: HostCore, _ dueNs: UInt64, _ completion: Completion) -> bp_token {
    let now = monotonicNow()
    let remainingNs = dueNs > now ? dueNs - now : 0
    let (token, woken) = state.withLock { state -> (bp_token?, [Waiter]) in
      guard state.open.values.count(where: { $0.core === core }) < TestTimers.instanceTimersMax else {
        return (nil, [])
      }
      let token = TestTimers.mark | state.next
      state.next += 1
      var timer = Timer(core: core, dueNs: state.nowNs + remainingNs, completion: completion)
      if !isManual {
        // Made under the lock, so that it cannot end before it is remembered.
        timer.sleep = Task {
          try? await Task.sleep(for: .nanoseconds(Int64(clamping: remainingNs)))
          self.end(token, nil)
        }
      }
      state.open[token] = timer
      let woken = state.waiters.filter { $0.count <= state.open.count }
      state.waiters.removeAll { $0.count <= state.open.count }
      return (token, woken)
    }
    for waiter in woken { waiter.continuation.resume() }
    guard let token else {
      completion.fail(
        Failure(code: BP_RESOURCE_EXHAUSTED, "this instance waits for 1,024 timers already"), as: bp_result.self)
      return 0
    }
    return token
  }

  /// Says whether the token was a timer's of this instance.
  func cancel(_ core: HostCore, _ token: bp_token) -> Bool {
    guard token & TestTimers.mark != 0 else { return false }
    guard state.withLock({ $0.open[token]?.core === core }) else { return true }
    end(token, Failure(code: BP_CANCELLED, "the caller gave the timer up"))
    return true
  }

  /// The instance is being stopped.
  func endAll(of core: HostCore) {
    for token in state.withLock({ $0.open.filter { $0.value.core === core }.map(\.key) }) {
      end(token, Failure(code: BP_CANCELLED, "the instance is being stopped"))
    }
  }

  private func end(_ token: bp_token, _ failure: Failure?) {
    guard let timer = state.withLock({ $0.open.removeValue(forKey: token) }) else { return }
    timer.sleep?.cancel()
    TestTimers.end(timer, failure)
  }

  private static func end(_ timer: Timer, _ failure: Failure?) {
    if let failure { return timer.completion.fail(failure, as: bp_result.self) }
    var result = bp_result.ok(bp_result.self)
    timer.completion.complete(&result)
  }
}

/// backplane.timer/1.
enum TimerTable {
  // nonisolated(unsafe): written once by its initialiser, read only, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_timer> = {
    let table = UnsafeMutablePointer<bp_timer>.allocate(capacity: 1)
    table.initialize(
      to: bp_timer(
        size: .size(of: bp_timer.self), reserved: 0,
        after: { instance, dueNs, completion in
          let completion = Completion(completion)
          guard let core = HostRegistry.find(instance, "timer.after") else {
            completion.fail(Failure(code: BP_CLOSED, "the instance is destroyed"), as: bp_result.self)
            return 0
          }
          guard !core.isProbe, core.life >= .starting else {
            completion.fail(
              .unavailable("there are no timers here: \(core.isProbe ? "a probe" : "not started")"), as: bp_result.self)
            return 0
          }
          guard core.life < .stopped else {
            completion.fail(Failure(code: BP_CLOSED, "the instance is stopped"), as: bp_result.self)
            return 0
          }
          return core.timers.after(core, dueNs, completion)
        }))
    return UnsafePointer(table)
  }()
}
