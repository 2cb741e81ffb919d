import Synchronization

/// Sentences from several threads.
final class Failures: Sendable {
  private let list = Mutex<[String]>([])
  func add(_ text: String) { list.withLock { $0.append(text) } }
  var all: [String] { list.withLock { $0 } }
}
