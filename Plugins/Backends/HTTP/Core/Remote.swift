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

/// The other node: at most `connections_max` requests at once, the others wait in order.
///
/// What another node sent on has as many turns of its own and never waits: nodes that are each other's backends would
/// wait for one another.
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
    var running = 0
    var runningForwarded = 0
    var waiting: [Sending] = []
    /// Where `waiting` begins: what is before has been sent.
    var first = 0
    var isClosed = false
    /// Why there is no line.
    var absence = Failure.unavailable("the HTTP backend is not started")
    var idle: EventLoopPromise<Void>?

    var waitingCount: Int { waiting.count - first }
    var isIdle: Bool { running == 0 && runningForwarded == 0 && waitingCount == 0 }

    mutating func popWaiting() -> Sending? {
      guard first < waiting.count else { return nil }
      defer {
        first += 1
        if first == waiting.count {
          waiting.removeAll(keepingCapacity: waiting.count < 1_024)
          first = 0
        } else if first >= 1_024, first * 2 > waiting.count {
          waiting.removeFirst(first)
          first = 0
        }
      }
      return waiting[first]
    }
  }
  private let state = Mutex(State())

  init(_ settings: Settings, health: HealthReporter, metrics: RemoteMetrics) {
    self.settings = settings
    self.health = health
    self.metrics = metrics
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
    enum Fate { case go, wait, refuse(Failure) }
    let fate = state.withLock { state -> Fate in
      if state.isClosed { return .refuse(.unavailable("the HTTP backend is stopping")) }
      if sending.isForwarded {
        guard state.runningForwarded < settings.connectionsMax else {
          return .refuse(
            .exhausted(
              "\(settings.connectionsMax) requests of other nodes are on their way to \(settings.remote.text), which is "
                + "connections_max; ask more slowly or raise it", retryAfterMs: 100))
        }
        state.runningForwarded += 1
        return .go
      }
      if state.running < settings.connectionsMax {
        state.running += 1
        return .go
      }
      guard state.waitingCount < settings.queueUnitsMax else {
        return .refuse(
          .exhausted(
            "\(settings.queueUnitsMax) requests wait for \(settings.remote.text), which is queue_units_max; ask more "
              + "slowly, or raise it or connections_max", retryAfterMs: 100))
      }
      state.waiting.append(sending)
      return .wait
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
        health.answered()
        finish(sending, .success(answer))
      case .failure(let ending):
        if ending.isStale, attempt == 0 {
          metrics.retries.increment()
          return run(sending, attempt: 1)
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
      if sending.isForwarded {
        state.runningForwarded -= 1
      } else {
        if let next = state.popWaiting() { return (next, nil) }
        state.running -= 1
      }
      guard state.isIdle else { return (nil, nil) }
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
      if state.isIdle { return true }
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
