import Glibc

/// Being woken at a time (backplane.timer/1). Does not block a thread, and is part of the host's life: when the instance is
/// stopped, every sleep ends.
public struct TimerAccess: Sendable {
  let host: HostHandle

  /// The host's table, or nil where there are no timers.
  public var table: UnsafePointer<bp_timer>? { host.extensionTable("backplane.timer/1", as: bp_timer.self) }

  /// Now, as `sleep(untilNs:)` counts: CLOCK_MONOTONIC, nanoseconds.
  public static var nowNs: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// Returns at `dueNs` (CLOCK_MONOTONIC) or up to some 10 ms later.
  ///
  /// Throws `CancellationError` when the task is cancelled and when the instance is being stopped, and a `Failure` when the
  /// host gives no timer: an instance has at most 1,024 at a time.
  public func sleep(untilNs dueNs: UInt64) async throws {
    guard let table else { throw Failure.unavailable("this host has no timers") }
    try Task.checkCancellation()
    let pending = PendingAnswer(host)
    try await withTaskCancellationHandler {
      try await withUnsafeThrowingContinuation { (continuation: UnsafeContinuation<Void, any Error>) in
        let completion = pending.completion { result in
          switch result.pointee.code {
          case BP_OK: continuation.resume()
          case BP_CANCELLED, BP_CLOSED: continuation.resume(throwing: CancellationError())
          default: continuation.resume(throwing: result.pointee.failure!)
          }
        }
        pending.isNamed(table.pointee.after(host.instance, dueNs, completion))
      }
    } onCancel: {
      pending.cancel()
    }
  }

  /// Likewise, after `duration`.
  public func sleep(for duration: Duration) async throws {
    let (seconds, attoseconds) = duration.components
    let nanoseconds = seconds < 0 ? 0 : UInt64(seconds) * 1_000_000_000 + UInt64(max(0, attoseconds)) / 1_000_000_000
    try await sleep(untilNs: TimerAccess.nowNs + nanoseconds)
  }
}

extension Context {
  /// Being woken at a time.
  public var timer: TimerAccess { TimerAccess(host: host) }
}
