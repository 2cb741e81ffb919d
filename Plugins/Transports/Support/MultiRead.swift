import PluginAPI
import Synchronization

/// One answer of a read-multi call.
public struct MultiReadItem: Sendable {
  public var code = BP_NOT_FOUND
  public var message = ""
  public var timestampMs: UInt64 = 0
  public var isJSON = false
  public var data: [UInt8] = []
  /// Left out because the answer would be too large.
  public var isOmitted = false
}

/// The answers of one read-multi call, as they come in: in any order, on any threads.
public final class MultiRead<Owner: AnyObject & Sendable>: Sendable {
  private struct State {
    var items: [MultiReadItem]
    var sizeBytes = 0
  }

  /// Released by the completion, which comes exactly once.
  public let owner: Owner
  private let sizeBytesMax: Int
  private let state: Mutex<State>

  public init(_ owner: Owner, count: Int, sizeBytesMax: Int) {
    self.owner = owner
    self.sizeBytesMax = sizeBytesMax
    state = Mutex(State(items: Array(repeating: MultiReadItem(), count: count)))
  }

  /// Any thread.
  public func take(_ item: UnsafePointer<bp_read_item>) {
    let index = Int(item.pointee.index)
    guard let read = item.pointee.read else { return }
    var taken = MultiReadItem()
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

  public var items: [MultiReadItem] { state.withLock { $0.items } }
}
