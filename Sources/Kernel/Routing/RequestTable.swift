import BackplaneABI
import Glibc
import Synchronization

/// A request to the node that did not complete at once.
protocol PendingRequest: AnyObject, Sendable {
  /// CLOCK_MONOTONIC; 0: none.
  var deadlineNs: UInt64 { get }
  /// Who asked.
  var caller: Instance { get }
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
  }
  /// Marks a token of ours, so that it is never taken for a call's.
  private static let mark: bp_token = 1 << 63
  private static let tickNs: UInt64 = 10_000_000

  private let state = Mutex(State())
  private let stopped = Promise<Bool>()
  private var thread: pthread_t?

  init() {
    thread = Thread.start(name: "bp-deadlines") { [self] in watch() }
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

  var count: Int { state.withLock { $0.requests.count } }

  private func watch() {
    var next = Clock.monotonicNs() + RequestTable.tickNs
    while stopped.get(untilNs: next) == nil {
      let now = Clock.monotonicNs()
      next = now + RequestTable.tickNs
      let late = state.withLock { state in
        state.requests.isEmpty ? [:] : state.requests.filter { $1.deadlineNs != 0 && $1.deadlineNs <= now }
      }
      for (token, request) in late {
        giveUp(token, request, BP_DEADLINE_EXCEEDED, "the request's deadline has passed")
      }
    }
  }

  /// Takes it out by the key: the request itself may not have been told its token yet, and would stay here with its
  /// lease for ever.
  private func giveUp(
    _ token: bp_token, _ request: any PendingRequest, _ code: bp_code, _ message: StaticString
  ) {
    request.giveUp(code, message)
    remove(token)
  }

  func shutDown() {
    stopped.set(true)
    if let thread { pthread_join(thread, nil) }
    thread = nil
  }
}
