import Foundation
import NodeTesting
import Testing

extension NodeProcess {
  /// A memory node with keys of the transport's own, such as `header_timeout_ms: 300`.
  static func memory(http keys: [String], more: String = "") throws -> NodeProcess {
    let lines = keys.map { "    \($0)\n" }.joined()
    return try NodeProcess(
      configuration: "slots:\n  memory:\n    kind: backend\n    url: \"memory://\"\n  http:\n\(lines)\(more)")
  }

  /// Whether a new client is served now.
  func isServing() throws -> Bool {
    try HTTPConnection(port: port, timeoutSeconds: 10).get("/health/live").status == 200
  }
}

/// Runs `body` on `count` threads of their own, at once; throws the first error.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws {
  let failures = Failures()
  let group = DispatchGroup()
  for index in 0..<count {
    group.enter()
    let thread = Thread {
      do { try body(index) } catch { failures.add(error) }
      group.leave()
    }
    thread.start()
  }
  group.wait()
  if let first = failures.first { throw first }
}

private final class Failures: @unchecked Sendable {
  // @unchecked: guarded by `lock`.
  private let lock = NSLock()
  private var errors: [any Error] = []

  func add(_ error: any Error) { lock.withLock { errors.append(error) } }
  var first: (any Error)? { lock.withLock { errors.first } }
}

/// Seconds that `body` takes.
func seconds(_ body: () throws -> Void) rethrows -> Double {
  let start = ContinuousClock.now
  try body()
  let time = (ContinuousClock.now - start).components
  return Double(time.seconds) + Double(time.attoseconds) / 1e18
}

/// Whether `condition` becomes true within 20 seconds; looked at 50 times a second.
func waits(_ condition: () -> Bool) -> Bool {
  let deadline = ContinuousClock.now + .seconds(20)
  while !condition() {
    guard ContinuousClock.now < deadline else { return false }
    usleep(20_000)
  }
  return true
}
