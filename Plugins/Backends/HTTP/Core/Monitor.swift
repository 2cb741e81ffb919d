import Glibc
import NIOCore
import PluginAPI

/// Looks the remote's name up, chooses among its addresses, and asks for its health: on a thread of its own, because a
/// look-up blocks.
final class Monitor: @unchecked Sendable {
  // @unchecked: `isClosed`, `isWoken`, `isEnded` and `thread` are touched under the mutex, or before the thread is there and after
  // it has been joined; `look` runs in `start` before the thread is made, then on the thread alone.

  private let settings: Settings
  private let remote: Remote
  private let health: HealthReporter
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private var isClosed = false
  private var isWoken = false
  private var isEnded = false
  private var thread: pthread_t?

  init(_ settings: Settings, _ remote: Remote, _ health: HealthReporter) {
    self.settings = settings
    self.remote = remote
    self.health = health
    pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(wake, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_mutex_destroy(mutex)
    pthread_cond_destroy(wake)
    mutex.deallocate()
    wake.deallocate()
  }

  /// Looks once, and then from time to time. Blocks for as long as the first look takes. Throws what only the operator
  /// can mend; a remote that is down is no reason not to start: it will be up.
  func start() throws(Failure) {
    if case .misconfigured(let message) = look() { throw Failure(code: BP_UNAVAILABLE, message) }
    var made = pthread_t()
    let context = Unmanaged.passRetained(self).toOpaque()
    let error = pthread_create(
      &made, nil,
      { context in
        Unmanaged<Monitor>.fromOpaque(context!).takeRetainedValue().run()
        return nil
      }, context)
    guard error == 0 else {
      Unmanaged<Monitor>.fromOpaque(context).release()
      throw .unavailable("no thread could be made for watching the other node (error \(error)); check the limits")
    }
    thread = made
  }

  /// Looks soon. Any thread.
  func nudge() {
    pthread_mutex_lock(mutex)
    isWoken = true
    pthread_mutex_unlock(mutex)
    pthread_cond_signal(wake)
  }

  /// Ends the thread and joins it, a look-up that is under way included. `hurry` is called until it has ended: it gives
  /// up the requests that are open. Not on the event loop.
  func stop(_ hurry: () -> Void) {
    pthread_mutex_lock(mutex)
    isClosed = true
    pthread_mutex_unlock(mutex)
    pthread_cond_signal(wake)
    guard let thread else { return }
    self.thread = nil
    while !waitForEnd(ms: 20) { hurry() }
    pthread_join(thread, nil)
  }

  /// Whether the thread is about to end.
  private func waitForEnd(ms: UInt64) -> Bool {
    var end = Self.time(inMs: ms)
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    while !isEnded {
      if pthread_cond_timedwait(wake, mutex, &end) == ETIMEDOUT { break }
    }
    return isEnded
  }

  private static func time(inMs ms: UInt64) -> timespec {
    let ns = NIODeadline.now().uptimeNanoseconds + ms * 1_000_000
    return timespec(tv_sec: Int(ns / 1_000_000_000), tv_nsec: Int(ns % 1_000_000_000))
  }

  private func run() {
    while waitForTurn() {
      _ = look()
      retire()
    }
    pthread_mutex_lock(mutex)
    isEnded = true
    pthread_mutex_unlock(mutex)
    pthread_cond_signal(wake)
  }

  /// False when it is time to end.
  private func waitForTurn() -> Bool {
    var end = Self.time(inMs: UInt64(settings.healthIntervalMs))
    pthread_mutex_lock(mutex)
    defer {
      isWoken = false
      pthread_mutex_unlock(mutex)
    }
    while !isClosed, !isWoken {
      if pthread_cond_timedwait(wake, mutex, &end) == ETIMEDOUT { break }
    }
    return !isClosed
  }

  private var isEnding: Bool {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return isClosed
  }

  private enum Finding {
    case fine
    case away
    case misconfigured(String)
  }

  /// Asks each address for its health until one answers; that one is used from then on.
  private func look() -> Finding {
    let addresses: [String]
    do throws(Resolver.Problem) { addresses = try Resolver.addresses(of: settings.remote.host) } catch {
      // What is known goes on being used: a name service that is down need not stop anything.
      if let line = remote.currentLine { return ask([{ line }]) }
      remote.setAbsence(.unavailable(error.message))
      health.say(.unhealthy, error.message)
      return error.isPermanent ? .misconfigured(error.message) : .away
    }
    let current = remote.currentLine
    var candidates: [() -> Line?] = []
    if let current, addresses.contains(current.address) { candidates.append({ current }) }
    for address in addresses where address != current?.address {
      candidates.append { [self] in try? remote.makeLine(address) }
    }
    return ask(candidates)
  }

  private func ask(_ candidates: [() -> Line?]) -> Finding {
    var problem: RemoteProblem?
    for candidate in candidates where !isEnding {
      guard let line = candidate() else { continue }
      // Requests need not wait for the first answer.
      if remote.currentLine == nil { remote.use(line) }
      switch Monitor.wait(line, healthRequest) {
      case .success(let answer):
        if remote.currentLine !== line { remote.use(line) }
        return report(HealthCheck.verdict(answer, settings))
      case .failure(let ending): problem = problem ?? ending.problem
      }
      if remote.currentLine !== line { remote.abandon(line) }
    }
    guard let problem, problem.kind != .stopping, problem.kind != .cancelled else { return .away }
    health.say(.unhealthy, problem.failure.message)
    return problem.kind == .misconfigured ? .misconfigured(problem.failure.message) : .away
  }

  private func report(_ verdict: HealthCheck.Verdict) -> Finding {
    switch verdict {
    case .healthy:
      health.say(.healthy, "")
      return .fine
    case .unwell(let message):
      health.say(.degraded, message)
      return .fine
    case .misconfigured(let message):
      health.say(.unhealthy, message)
      return .misconfigured(message)
    }
  }

  private var healthRequest: RemoteRequest {
    RemoteRequest(
      method: .get, target: "\(settings.remote.base)/api/v1/health",
      deadlineNs: NIODeadline.now().uptimeNanoseconds
        + UInt64(settings.connectTimeoutMs + min(settings.timeoutMs, 5_000)) * 1_000_000)
  }

  private static func wait(_ line: Line, _ request: RemoteRequest) -> Result<RemoteAnswer, Line.Ending> {
    let answer = Awaited<Result<RemoteAnswer, Line.Ending>>()
    line.send(request) { answer.put($0) }
    return answer.take()
  }

  private func retire() {
    for line in remote.takeIdleLines() { line.shutDownAndWait() }
  }
}
