import Foundation
import Kernel
import Synchronization

/// Runs a node until it is told to end: SIGHUP reloads, SIGUSR1 logs the status, SIGTERM and SIGINT drain and end, a
/// second one ends at once. In a process whose place another has taken all of them are for that one.
enum NodeRun {
  static func run(
    _ configuration: LoadedConfiguration, reread: @escaping @Sendable ([Proposal]) throws -> LoadedConfiguration
  ) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      // A thread of its own: neither the start nor the wait for the end may hold a thread of Swift's pool.
      Foundation.Thread.detachNewThread { continuation.resume(with: Result { try serve(configuration, reread) }) }
    }
  }

  private static func serve(
    _ configuration: LoadedConfiguration, _ reread: @escaping @Sendable ([Proposal]) throws -> LoadedConfiguration
  ) throws {
    let signals = NodeSignals()
    Foundation.Thread.detachNewThread { signals.receive() }
    let kernel: Kernel
    do {
      kernel = try Kernel(configuration, reread: reread, arrival: Arrival.ofThisProcess)
    } catch let failure as Kernel.StartFailure {
      throw Self.failure(failure.receipt)
    } catch let refusal as Refusal {
      throw CommandFailure(.unavailable, refusal.sentence)
    }
    signals.serves(kernel)
    kernel.onDeparture.withLock { $0 = { signals.wake() } }
    if kernel.isDeparted { signals.wake() }
    kernel.whenAbandoned { kill(getpid(), SIGTERM) }
    signals.waitForEnd()
    guard !kernel.isDeparted else { return kernel.finishDeparture() }
    kernel.shutDown(timeoutMs: configuration.node.reload.drainSoftMs)
  }

  private static func failure(_ receipt: Receipt) -> CommandFailure {
    let lines = receipt.refusals.map(\.message).joined(separator: "\n  ")
    let isConfiguration = receipt.refusals.contains { refusal in
      ["configuration", "plugin.configuration-refused", "slot.plugin-missing", "slot.kind-differs"].contains(
        refusal.code)
    }
    return CommandFailure(isConfiguration ? .configuration : .unavailable, "the node cannot start:\n  \(lines)")
  }
}

/// What the signals of a node ask for. They are received from the first moment to the last, so that a second SIGTERM ends
/// a node that hangs while it starts as well as one that hangs while it ends.
final class NodeSignals: Sendable {
  private struct State: Sendable {
    var kernel: Kernel?
    /// SIGHUP or SIGUSR1 came before there was a kernel.
    var isReloadWanted = false
    var isStatusWanted = false
    var isEndWanted = false
  }

  private let state = Mutex(State())
  private let end = DispatchSemaphore(value: 0)

  /// Receives signals for ever: for a thread of its own.
  func receive() -> Never {
    while true {
      let signal = ProcessSetup.next()
      if let kernel = state.withLock({ $0.kernel }), kernel.isDeparted {
        kernel.forward(signal: signal)
        continue
      }
      switch signal {
      case SIGHUP:
        let kernel = state.withLock { state in
          if state.kernel == nil { state.isReloadWanted = true }
          return state.isEndWanted ? nil : state.kernel
        }
        kernel?.hint("SIGHUP")
      case SIGUSR1:
        let kernel = state.withLock { state in
          if state.kernel == nil { state.isStatusWanted = true }
          return state.kernel
        }
        kernel?.logStatus()
      default:
        let isSecond = state.withLock { state in
          defer { state.isEndWanted = true }
          return state.isEndWanted
        }
        if isSecond { _exit(128 + signal) }
        end.signal()
      }
    }
  }

  /// Signals go to `kernel` from now on; what has come before is made good.
  func serves(_ kernel: Kernel) {
    let wanted = state.withLock { state in
      state.kernel = kernel
      return state
    }
    if wanted.isStatusWanted { kernel.logStatus() }
    if wanted.isReloadWanted && !wanted.isEndWanted { kernel.hint("SIGHUP") }
  }

  func waitForEnd() { end.wait() }

  /// Another process has taken the node over.
  func wake() { end.signal() }
}
