import PluginAPI
import PluginTestHost
import Synchronization

/// A node in memory that counts what it is asked.
final class CountingNode: TestNode {
  private let node = InMemoryNode()
  private let count = Atomic<Int>(0)

  var calls: Int { count.load(ordering: .relaxed) }

  func receive(_ uri: String, _ data: [UInt8], _ content: Content, _ call: NodeCall) throws -> WriteOutcome {
    count.add(1, ordering: .relaxed)
    return try node.receive(uri, data, content, call)
  }

  func read(_ uri: String, _ call: NodeCall) throws -> Record? {
    count.add(1, ordering: .relaxed)
    return try node.read(uri, call)
  }

  func list(_ request: ListRequest, _ call: NodeCall) -> ListPage {
    count.add(1, ordering: .relaxed)
    return node.list(request, call)
  }

  func remove(_ uri: String, _ call: NodeCall) throws -> WriteOutcome? {
    count.add(1, ordering: .relaxed)
    return try node.remove(uri, call)
  }

  func programs() -> [String] { node.programs() }
  func normalise(_ uri: String) -> String? { node.normalise(uri) }
}
