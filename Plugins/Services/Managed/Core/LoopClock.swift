import Glibc
import NIOCore
import Synchronization

/// The time of this machine; sleeps on an event loop.
struct LoopClock: ManagedClock {
  let loop: any EventLoop

  var monotonicNs: UInt64 { NIODeadline.now().uptimeNanoseconds }

  var wallMs: Double {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Double(now.tv_sec) * 1_000 + Double(now.tv_nsec / 1_000_000)
  }

  func sleep(untilNs: UInt64) async {
    let promise = loop.makePromise(of: Void.self)
    let timer = loop.scheduleTask(deadline: .uptimeNanoseconds(min(untilNs, UInt64(Int64.max)))) { promise.succeed(()) }
    await withTaskCancellationHandler {
      try? await promise.futureResult.get()
    } onCancel: {
      timer.cancel()
      // Only once counts: the timer may have been first.
      loop.execute { promise.succeed(()) }
    }
  }
}
