import Foundation
import Kernel

/// Runs a node until it is told to end: SIGHUP reloads, SIGTERM and SIGINT drain and end, a second one ends at once.
enum NodeRun {
  static func run(
    _ configuration: LoadedConfiguration, reread: @escaping @Sendable () throws -> LoadedConfiguration
  ) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      // A thread of its own: neither the start nor the wait for signals may hold a thread of Swift's pool.
      Foundation.Thread.detachNewThread { continuation.resume(with: Result { try serve(configuration, reread) }) }
    }
  }

  private static func serve(
    _ configuration: LoadedConfiguration, _ reread: @escaping @Sendable () throws -> LoadedConfiguration
  ) throws {
    let kernel: Kernel
    do {
      kernel = try Kernel(configuration, reread: reread)
    } catch let failure as Kernel.StartFailure {
      throw Self.failure(failure.receipt)
    } catch let refusal as Refusal {
      throw CommandFailure(.unavailable, refusal.sentence)
    }
    while true {
      let signal = ProcessSetup.next()
      guard signal != SIGHUP else {
        kernel.hint("SIGHUP")
        continue
      }
      Foundation.Thread.detachNewThread {
        while ProcessSetup.next() == SIGHUP {}
        _exit(128 + signal)
      }
      kernel.shutDown(timeoutMs: configuration.node.reload.drainSoftMs)
      return
    }
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
