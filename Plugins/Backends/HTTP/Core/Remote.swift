import AsyncHTTPClient
import NIOCore
import NIOPosix
import PluginAPI
import Synchronization

/// One request to the remote that somebody waits for.
final class Sending: Sendable {
  typealias Done = @Sendable (Result<RemoteAnswer, Failure>) -> Void

  enum State {
    case waiting
    case sent(UInt64)
    case ended
  }

  let request: RemoteRequest
  let done: Done
  let beganNs = NIODeadline.now().uptimeNanoseconds
  let state = Mutex(State.waiting)

  init(_ request: RemoteRequest, _ done: @escaping Done) {
    self.request = request
    self.done = done
  }

  var isExpired: Bool { isPast(request.deadlineNs) }
  var isForwarded: Bool { request.key?.isGiven == true }
}

/// Whether a time on CLOCK_MONOTONIC has come; 0 never does.
func isPast(_ deadlineNs: UInt64) -> Bool {
  deadlineNs != 0 && NIODeadline.now().uptimeNanoseconds >= deadlineNs
}

/// The other node: requests take turns and go over the line to the address that is good now.
final class Remote: Sendable {
  let settings: Settings
  let group: MultiThreadedEventLoopGroup
  private let exchanges = Exchanges()
  private let health: HealthReporter
  private let metrics: RemoteMetrics

  private struct State {
    var line: Line?
    /// Without new requests; shut down when their last one has ended.
    var retired: [Line] = []
    var turns: Turns
    var isClosed = false
    /// Why there is no line.
    var absence = Failure.unavailable("the HTTP backend is not started")
    var idle: EventLoopPromise<Void>?
  }
  private let state: Mutex<State>

  init(_ settings: Settings, health: HealthReporter, metrics: RemoteMetrics) {
    self.settings = settings
    self.health = health
    self.metrics = metrics
    state = Mutex(State(turns: Turns(settings)))
    group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  }

  // MARK: Lines

  func makeLine(_ address: String) throws -> Line {
    try Line(settings, address: address, group: group, exchanges: exchanges)
  }

  /// From now on requests go over `line`.
  func use(_ line: Line) {
    state.withLock { state in
      if let old = state.line { state.retired.append(old) }
      state.line = line
    }
  }

  /// A line that was made and is not to be used.
  func abandon(_ line: Line) { state.withLock { if $0.line !== line { $0.retired.append(line) } } }

  /// There is no address to send anything to.
  func setAbsence(_ failure: Failure) { state.withLock { $0.absence = failure } }

  /// Retired lines on which nothing is open any more; they are the caller's to shut down.
  func takeIdleLines() -> [Line] {
    state.withLock { state in
      let idle = state.retired.filter(\.isIdle)
      state.retired.removeAll(where: \.isIdle)
      return idle
    }
  }

  var currentLine: Line? { state.withLock { $0.line } }

  // MARK: Requests

  /// Sends a request, or lets it wait for its turn. `done` is called exactly once, on the event loop or, when nothing is
  /// sent, at once. Any thread.
  @discardableResult
  func send(_ request: RemoteRequest, _ done: @escaping Sending.Done) -> Sending {
    let sending = Sending(request, done)
    let fate = state.withLock { state -> Turns.Fate in
      state.isClosed ? .refuse(.unavailable("the HTTP backend is stopping")) : state.turns.enter(sending)
    }
    switch fate {
    case .go: run(sending)
    case .wait: break
    case .refuse(let failure): finish(sending, .failure(failure))
    }
    return sending
  }

  /// Gives a request up. Best effort.
  func cancel(_ sending: Sending) {
    switch sending.state.withLock({ $0 }) {
    case .sent(let number): exchanges.cancel(number)
    // One that waits is answered now; its turn finds it ended.
    case .waiting: finish(sending, .failure(Failure(code: BP_CANCELLED, "the call was given up", isRetryable: true)))
    case .ended: break
    }
  }

  /// With a turn, which `ended` passes on.
  private func run(_ sending: Sending, attempt: Int = 0) {
    if case .ended = sending.state.withLock({ $0 }) { return ended(sending) }
    if sending.isExpired {
      finish(sending, .failure(.expired(settings)))
      return ended(sending)
    }
    let (line, absence, isClosed) = state.withLock { ($0.line, $0.absence, $0.isClosed) }
    guard let line, !isClosed else {
      finish(sending, .failure(isClosed ? .unavailable("the HTTP backend is stopping") : absence))
      return ended(sending)
    }
    let number = line.send(sending.request) { [self] result in
      switch result {
      case .success(let answer):
        if answer.isNodes { health.answered() }
        finish(sending, .success(answer))
      case .failure(let ending):
        // A line may be retired between the choice of it and the request.
        let isRetired = ending.problem.kind == .stopping && !self.state.withLock { $0.isClosed }
        // Each attempt takes one old connection out of the pool; then a new one is made.
        if isRetired && attempt == 0 || ending.isStale && attempt <= 2 * settings.connectionsMax {
          metrics.retries.increment()
          return run(sending, attempt: attempt + 1)
        }
        health.failed(ending.problem)
        finish(sending, .failure(ending.problem.failure))
      }
      ended(sending)
    }
    // A request that has ended meanwhile stays ended.
    sending.state.withLock { state in
      switch state {
      case .ended: break
      case .waiting, .sent: state = .sent(number)
      }
    }
  }

  private func finish(_ sending: Sending, _ result: Result<RemoteAnswer, Failure>) {
    let isFirst = sending.state.withLock { state in
      if case .ended = state { return false }
      state = .ended
      return true
    }
    guard isFirst else { return }
    metrics.ended(result, seconds: Double(NIODeadline.now().uptimeNanoseconds &- sending.beganNs) / 1e9)
    sending.done(result)
  }

  /// A turn is free.
  private func ended(_ sending: Sending) {
    let (next, idle) = state.withLock { state -> (Sending?, EventLoopPromise<Void>?) in
      let next = state.turns.leave(sending)
      guard next == nil, state.turns.isIdle else { return (next, nil) }
      defer { state.idle = nil }
      return (nil, state.idle)
    }
    idle?.succeed(())
    // On the loop, so that a long queue of expired requests does not nest.
    if let next { group.next().execute { self.run(next) } }
  }

  // MARK: The end

  /// Returns when nothing is open, or at the deadline.
  func waitUntilIdle(deadlineNs: UInt64) async {
    let loop = group.next()
    let promise = loop.makePromise(of: Void.self)
    let isIdle = state.withLock { state in
      if state.turns.isIdle { return true }
      // One waiter: quiesce is called once at a time.
      state.idle = promise
      return false
    }
    if isIdle { return promise.succeed(()) }
    let end = loop.scheduleTask(deadline: .uptimeNanoseconds(min(deadlineNs, UInt64(Int64.max)))) {
      let waiting = self.state.withLock { state -> EventLoopPromise<Void>? in
        defer { state.idle = nil }
        return state.idle
      }
      waiting?.succeed(())
    }
    try? await promise.futureResult.get()
    end.cancel()
  }

  /// Gives up what has been sent.
  func cancelAll() { exchanges.cancelAll() }

  /// Fails what is open, closes every connection and joins the threads.
  func stop() async {
    let lines = state.withLock { state -> [Line] in
      state.isClosed = true
      defer {
        state.line = nil
        state.retired = []
      }
      return state.retired + (state.line.map { [$0] } ?? [])
    }
    // What waits for a turn ends as the turns come: each finds the backend closed.
    exchanges.cancelAll()
    for line in lines { await line.shutDown() }
    await waitUntilIdle(deadlineNs: NIODeadline.now().uptimeNanoseconds + 2_000_000_000)
    try? await group.shutdownGracefully()
  }
}

extension Failure {
  static func expired(_ settings: Settings) -> Failure {
    Failure(
      code: BP_DEADLINE_EXCEEDED,
      "the caller's deadline came before its request could be sent to \(settings.remote.text)", isRetryable: true)
  }
}
