import PluginAPI
import Synchronization

/// The answers of one read-multi call, as they come in: in any order, on any threads.
final class MultiRead: Sendable {
  struct Item: Sendable {
    var code = BP_NOT_FOUND
    var message = ""
    var timestampMs: UInt64 = 0
    var isJSON = false
    var data: [UInt8] = []
    /// Left out because the answer would be too large.
    var isOmitted = false
  }

  private struct State {
    var items: [Item]
    var sizeBytes = 0
  }

  /// Released by the completion, which comes exactly once.
  let connection: Connection
  private let sizeBytesMax: Int
  private let state: Mutex<State>

  init(_ connection: Connection, count: Int, sizeBytesMax: Int) {
    self.connection = connection
    self.sizeBytesMax = sizeBytesMax
    state = Mutex(State(items: Array(repeating: Item(), count: count)))
  }

  /// Any thread.
  func take(_ item: UnsafePointer<bp_read_item>) {
    let index = Int(item.pointee.index)
    guard let read = item.pointee.read else { return }
    var taken = Item()
    taken.code = read.pointee.result.code
    taken.message = read.pointee.result.message.text
    let isFound = taken.code == BP_OK
    let size = isFound ? Int(read.pointee.record.data.size) : 0
    state.withLock { state in
      guard state.items.indices.contains(index) else { return }
      if state.sizeBytes + size > sizeBytesMax {
        taken.isOmitted = true
      } else if isFound {
        state.sizeBytes += size
        taken.timestampMs = read.pointee.record.ts_ms
        taken.isJSON = read.pointee.record.content == BP_CONTENT_JSON
        taken.data = read.pointee.record.data.array
      }
      state.items[index] = taken
    }
  }

  var items: [Item] { state.withLock { $0.items } }
}
