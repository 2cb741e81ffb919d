import Foundation
import Synchronization
import SystemShims

/// What the runner's thread is told by others: signals, and how what it asked for has ended.
final class RunnerMailbox: Sendable {
  enum Event: Sendable {
    case signal(Int32)
    case configServerIsReady
    /// The nodes that are to run, as the manifest that was published has them.
    case published([ServicePlan])
    case failed(String, ExitStatus)
  }

  private let events = Mutex<[Event]>([])
  /// Readable when there are events. Kept for the life of the process, since the thread of the signals is.
  let bell: Int32

  init() throws {
    bell = bp_shim_eventfd()
    guard bell >= 0 else {
      throw CommandFailure(.unavailable, "no descriptor is free: \(String(cString: strerror(errno)))")
    }
  }

  /// Any thread.
  func post(_ event: Event) {
    events.withLock { $0.append(event) }
    _ = bp_shim_eventfd_signal(bell)
  }

  /// Posts what `body` ends with. Any thread.
  func post(_ body: @escaping @Sendable () async throws -> Event) {
    Task {
      do {
        post(try await body())
      } catch {
        let failure = error as? CommandFailure
        post(.failed(failure?.message ?? "\(error)", failure?.status ?? .internal))
      }
    }
  }

  func take() -> [Event] {
    var count: UInt64 = 0
    _ = read(bell, &count, MemoryLayout<UInt64>.size)
    return events.withLock { events in
      defer { events = [] }
      return events
    }
  }

  /// Receives signals for ever: for a thread of its own. They were blocked before any thread was started.
  func receiveSignals() -> Never {
    while true { post(.signal(ProcessSetup.next())) }
  }
}
