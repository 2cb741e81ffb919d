import BackplaneABI
import Glibc
import Synchronization

/// A request to the node that did not complete at once.
protocol PendingRequest: AnyObject, Sendable {
  /// CLOCK_MONOTONIC; 0: none.
  var deadlineNs: UInt64 { get }
  /// Who asked.
  var caller: Instance { get }
  /// What it holds; nil when that is nothing. Any thread.
  var holding: RequestHolding? { get }
  /// Answers the client at once; what is still running ends in its own time.
  func giveUp(_ code: bp_code, _ message: StaticString)
}

/// The requests that are under way, so that they can be cancelled and their deadlines enforced. A thread of the kernel's
/// own looks every 10 ms; nobody else's thread is trusted with a deadline.
final class RequestTable: @unchecked Sendable {
  // @unchecked: `thread` is written in init and read in shutDown only.
  private struct State {
    var requests: [bp_token: any PendingRequest] = [:]
    var next: bp_token = 1
    /// Requests that have been given up: answered, and still there until every plugin that has them has completed.
    var lingering: [bp_token: Lingering] = [:]
  }
  private struct Lingering {
    weak var request: (any PendingRequest)?
    let sinceNs: UInt64
  }
  /// Marks a token of ours, so that it is never taken for a call's.
  private static let mark: bp_token = 1 << 63
  private static let tickNs: UInt64 = 10_000_000

  private let state = Mutex(State())
  private let stopped = Promise<Bool>()
  private let ended = Promise<Bool>()
  private var thread: pthread_t?
  /// Looked at as often.
  private let timers: Timers

  init(_ timers: Timers = Timers()) {
    self.timers = timers
    thread = Thread.start(name: "bp-deadlines") { [self] in
      watch()
      ended.set(true)
    }
  }

  func add(_ request: any PendingRequest) -> bp_token {
    state.withLock { state in
      let token = RequestTable.mark | state.next
      state.next += 1
      state.requests[token] = request
      return token
    }
  }

  /// 0 is nobody's.
  func remove(_ token: bp_token) {
    guard token != 0 else { return }
    // The request may go with this, and its deinit must not run under the lock.
    let removed = state.withLock { $0.requests.removeValue(forKey: token) }
    _ = removed
  }

  /// Cancels a request of `caller`'s; a token that is finished or another's does nothing.
  func cancel(_ caller: Instance, _ token: bp_token) {
    guard let request = state.withLock({ $0.requests[token] }), request.caller === caller else { return }
    giveUp(token, request, BP_CANCELLED, "the caller gave the request up")
  }

  /// Gives up every request of one caller: it is being stopped.
  func cancelAll(of caller: Instance) {
    for (token, request) in state.withLock({ $0.requests }) where request.caller === caller {
      giveUp(token, request, BP_CANCELLED, "the caller is being stopped")
    }
  }

  /// Gives up every request that holds one of these generations: it is to go. Those that wait for one of `leaving`, or
  /// for nobody.
  func giveUpAll(holding generations: Set<UInt64>, leaving: [Instance]) {
    for (token, request) in state.withLock({ $0.requests }) {
      guard let holding = request.holding, generations.contains(holding.generation) else { continue }
      let isLeaving = holding.waitsFor.contains { call in leaving.contains { $0 === call.instance } }
      guard isLeaving || holding.waitsFor.isEmpty else { continue }
      giveUp(token, request, BP_UNAVAILABLE, "the slot was replaced, and the call did not come back in time")
    }
  }

  var count: Int { state.withLock { $0.requests.count } }

  /// What is under way, and what was given up and is still there.
  func holdings() -> [(holding: RequestHolding, givenUpNs: UInt64?)] {
    let (requests, lingering) = state.withLock { state in
      (Array(state.requests.values), state.lingering.values.map { ($0.request, $0.sinceNs) })
    }
    return requests.compactMap { request in request.holding.map { ($0, nil) } }
      + lingering.compactMap { request, sinceNs in request?.holding.map { ($0, sinceNs) } }
  }

  /// Counts the rounds of the deadline thread, for whoever watches whether it is alive.
  let rounds = Atomic<UInt64>(0)

  /// How often what has gone is taken off the list of what lingers.
  private static let sweepNs: UInt64 = 100_000_000

  private func watch() {
    var next = Clock.monotonicNs() + RequestTable.tickNs
    var sweepNs = next
    while stopped.get(untilNs: next) == nil {
      rounds.add(1, ordering: .relaxed)
      let now = Clock.monotonicNs()
      if now >= sweepNs {
        sweepNs = now + RequestTable.sweepNs
        state.withLock { state in
          if !state.lingering.isEmpty { state.lingering = state.lingering.filter { $1.request != nil } }
        }
      }
      next = now + RequestTable.tickNs
      let late = state.withLock { state in
        state.requests.isEmpty ? [:] : state.requests.filter { $1.deadlineNs != 0 && $1.deadlineNs <= now }
      }
      for (token, request) in late {
        giveUp(token, request, BP_DEADLINE_EXCEEDED, "the request's deadline has passed")
      }
      timers.tick(nowNs: now)
    }
  }

  /// Takes it out by the key: the request itself may not have been told its token yet, and would stay here with its
  /// lease for ever.
  private func giveUp(
    _ token: bp_token, _ request: any PendingRequest, _ code: bp_code, _ message: StaticString
  ) {
    // Before the answer, so that there is no moment in which it is nowhere.
    state.withLock { state in
      guard state.requests[token] != nil else { return }
      state.lingering[token] = Lingering(request: request, sinceNs: Clock.monotonicNs())
    }
    request.giveUp(code, message)
    remove(token)
  }

  func shutDown() { shutDown(untilNs: .max) }

  /// Ends its thread; one that a plugin's code holds at `deadlineNs` is left behind.
  func shutDown(untilNs deadlineNs: UInt64) {
    stopped.set(true)
    guard let thread else { return }
    if ended.get(untilNs: deadlineNs) != nil { pthread_join(thread, nil) } else { pthread_detach(thread) }
    self.thread = nil
  }
}
