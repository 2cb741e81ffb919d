import Dispatch
import Foundation
import PluginAPI
import PluginTestHost
import Synchronization

/// Threads of the suite's own, because what runs on them may block.
enum OwnThreads {
  /// Runs `body` on so many threads at once, waits for all, and throws the first error.
  static func run(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for thread in 0..<count {
        group.addTask {
          try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            Thread.detachNewThread { continuation.resume(with: Result { try body(thread) }) }
          }
        }
      }
      try await group.waitForAll()
    }
  }
}

/// Numbers from 1 on, for any thread.
final class Counter: Sendable {
  private let value = Atomic<UInt64>(0)
  var count: UInt64 { value.load(ordering: .relaxed) }
  func next() -> UInt64 { value.add(1, ordering: .relaxed).newValue }
}

/// Calls that a thread of our own waits for.
enum Waiting {
  private final class Box<Value: Sendable>: Sendable {
    private let value = Mutex<Value?>(nil)
    private let semaphore = DispatchSemaphore(value: 0)

    func set(_ answer: Value) {
      value.withLock { $0 = answer }
      semaphore.signal()
    }

    func wait() -> Value {
      semaphore.wait()
      return value.withLock { $0! }
    }
  }

  /// `completed` is called on the plugin's thread.
  static func apply(
    _ driver: BackendDriver, _ ops: [Op], _ stamp: UInt64,
    completed: @escaping @Sendable (BackendDriver.WriteAnswer) -> Void = { _ in }
  ) throws -> BackendDriver.WriteAnswer {
    let box = Box<BackendDriver.WriteAnswer>()
    _ = try driver.beginApply(ops, stamp: stamp) { answer in
      completed(answer)
      box.set(answer)
    }
    return box.wait()
  }

  static func read(_ driver: BackendDriver, _ uri: String) throws -> BackendDriver.ReadAnswer {
    let box = Box<BackendDriver.ReadAnswer>()
    _ = try driver.beginRead(uri) { box.set($0) }
    return box.wait()
  }
}
