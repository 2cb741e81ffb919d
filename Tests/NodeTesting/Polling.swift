import Foundation

/// Waits for what cannot be awaited: a state of another process.
public enum Polling {
  /// True as soon as `condition` holds; false when it does not within `seconds`.
  public static func until(seconds: Double = 20, everyMs: UInt32 = 10, _ condition: () throws -> Bool) rethrows -> Bool
  {
    let deadline = Date().addingTimeInterval(seconds)
    while true {
      if try condition() { return true }
      guard Date() < deadline else { return false }
      usleep(everyMs * 1000)
    }
  }
}

/// Counts and lists that several threads of a test write to.
public final class Shared<Value>: @unchecked Sendable {
  // @unchecked: `value` is only touched under the lock.
  private let lock = NSLock()
  private var value: Value

  public init(_ value: Value) { self.value = value }

  @discardableResult
  public func with<R>(_ body: (inout Value) throws -> R) rethrows -> R {
    lock.lock()
    defer { lock.unlock() }
    return try body(&value)
  }
}

/// Threads of a test's own, joined.
public final class TestThreads: @unchecked Sendable {
  // @unchecked: `group` is thread-safe.
  private let group = DispatchGroup()

  public init() {}

  public func start(_ body: @escaping @Sendable () -> Void) {
    group.enter()
    let thread = Thread { [group] in
      body()
      group.leave()
    }
    thread.start()
  }

  /// False when one of them is still running after `seconds`.
  public func join(seconds: Double = 120) -> Bool { group.wait(timeout: .now() + seconds) == .success }
}
