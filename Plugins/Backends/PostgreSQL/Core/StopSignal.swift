import BackendSupport
import Glibc
import PluginAPI
import Synchronization

/// Wakes every thread of an instance that waits for its server, when the instance stops. A pipe, because poll() is what
/// they wait in.
final class StopSignal: Sendable {
  /// Readable from the stop on; the threads that still work then leave it out of what they wait for.
  let descriptor: Int32
  private let other: Int32
  private let stopDeadlineNs = Atomic<UInt64>(.max)

  init() throws(Failure) {
    var ends: [Int32] = [-1, -1]
    guard pipe(&ends) == 0 else {
      throw .unavailable("no descriptor is left for a pipe (error \(errno)); raise the limit")
    }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    descriptor = ends[0]
    other = ends[1]
  }

  deinit {
    close(descriptor)
    close(other)
  }

  /// From now on nothing is begun, and what is under way gets `graceMs`.
  func stop(graceMs: Int) {
    stopDeadlineNs.store(monotonicNs() + UInt64(graceMs) * 1_000_000, ordering: .releasing)
    var byte: UInt8 = 0
    _ = write(other, &byte, 1)
  }

  var isStopping: Bool { deadlineNs != .max }
  /// When everything must have ended; `UInt64.max` before `stop`.
  var deadlineNs: UInt64 { stopDeadlineNs.load(ordering: .acquiring) }

  /// Waits until `timeNs` (CLOCK_MONOTONIC); false when the instance stops before.
  func sleep(untilNs timeNs: UInt64) -> Bool {
    while !isStopping {
      let nowNs = monotonicNs()
      if nowNs >= timeNs { return true }
      var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      poll(&item, 1, Int32(min((timeNs - nowNs) / 1_000_000 + 1, 60_000)))
    }
    return false
  }
}
