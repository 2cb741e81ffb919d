import Foundation

/// A service of the runner's: what it is to be, and what runs.
final class RunnerService {
  private static let firstDelayMs = 200
  private static let delayMsMax = 30_000
  /// One that has run so long has not crashed because of how it was started.
  private static let soundMs: UInt64 = 60_000

  var plan: ServicePlan
  var child: RunnerChild?
  /// When it is to be started; nil: it runs, or is not to run.
  var dueNs: UInt64?
  /// When it is to be killed, unless it has ended by then.
  var killNs: UInt64?
  /// It was told to end because its plan has changed.
  var isRestarting = false
  /// It was told to end because the manifest does not have it.
  var isUnwanted = false
  private var delayMs = RunnerService.firstDelayMs
  private var ranMs: UInt64 = 0

  init(_ plan: ServicePlan) { self.plan = plan }

  var isRunning: Bool { child != nil }

  func terminate(afterMs: Int) {
    guard let child else { return }
    child.signal(SIGTERM)
    killNs = RunnerChild.nowNs() + UInt64(afterMs) * 1_000_000
  }

  /// How it ended, if it has.
  func reapIfEnded() -> String? {
    guard let child else { return nil }
    var polled = pollfd(fd: child.process, events: Int16(POLLIN), revents: 0)
    guard poll(&polled, 1, 0) > 0 else { return nil }
    let ending = child.reap()
    ranMs = (RunnerChild.nowNs() - child.startedNs) / 1_000_000
    self.child = nil
    killNs = nil
    return ending
  }

  /// Sets when it is started again, later each time: in so many milliseconds.
  func backOff() -> Int {
    if ranMs >= Self.soundMs { delayMs = Self.firstDelayMs }
    let delay = delayMs
    delayMs = min(delayMs * 2, Self.delayMsMax)
    ranMs = 0
    dueNs = RunnerChild.nowNs() + UInt64(delay) * 1_000_000
    return delay
  }
}
