import BackplaneABI
import Glibc
import IsolationWire
import Synchronization

/// The calls that the plugin has open in the node: the frame's id is a place and a sequence number.
final class NodeCalls: @unchecked Sendable {
  // @unchecked: an entry is written by the thread that opens it and read by the one that ends it, each of which owns it
  // by the entry's atomic word.
  private struct Entry {
    var completion: bp_completion
    var shape: ResultShape
    var isTimer: Bool
  }
  /// The kernel's bound, kept here too, because a timer beyond it is refused at once.
  private static let timersMax = 1024
  private let timers = Atomic<Int>(0)

  private static let places = 1 << 16
  private let words: UnsafeMutablePointer<Atomic<UInt64>>
  private let entries: UnsafeMutablePointer<Entry>
  private struct Free {
    var places: [UInt32] = []
    /// Places from here on have never been used.
    var unused: UInt32 = 0
    var sequence: UInt64 = 0
  }
  private let free = Mutex(Free())

  init() {
    words = calloc(NodeCalls.places, MemoryLayout<UInt64>.stride).assumingMemoryBound(to: Atomic<UInt64>.self)
    entries = calloc(NodeCalls.places, MemoryLayout<Entry>.stride).assumingMemoryBound(to: Entry.self)
  }

  private func place(_ id: UInt64) -> Int { Int(truncatingIfNeeded: id) & (NodeCalls.places - 1) }

  /// Begins a call: `send` puts it on the wire under an id. Answers the id, or 0 when it has been completed already,
  /// because it could not be sent.
  func begin(
    _ completion: bp_completion, _ shape: ResultShape, isTimer: Bool = false, _ send: (UInt64) -> Connection.Outcome
  ) -> bp_token {
    let id = free.withLock { free -> UInt64 in
      let place: UInt32
      if let last = free.places.popLast() {
        place = last
      } else if free.unused < UInt32(NodeCalls.places) {
        place = free.unused
        free.unused += 1
      } else {
        return 0
      }
      free.sequence += 1
      return free.sequence << 16 | UInt64(place)
    }
    guard id != 0 else {
      if isTimer { timers.subtract(1, ordering: .relaxed) }
      NodeCalls.fail(completion, shape, BP_RESOURCE_EXHAUSTED, "this plugin has 65,536 calls open in the node")
      return 0
    }
    (entries + place(id)).initialize(to: Entry(completion: completion, shape: shape, isTimer: isTimer))
    words[place(id)].store(id, ordering: .releasing)
    guard send(id) == .sent else {
      if take(id) != nil { NodeCalls.fail(completion, shape, BP_UNAVAILABLE, "the node is gone") }
      return 0
    }
    return id
  }

  /// Likewise, of a timer.
  func beginTimer(_ completion: bp_completion, _ send: (UInt64) -> Connection.Outcome) -> bp_token {
    guard timers.add(1, ordering: .relaxed).newValue <= NodeCalls.timersMax else {
      timers.subtract(1, ordering: .relaxed)
      NodeCalls.fail(completion, .plain, BP_RESOURCE_EXHAUSTED, "this instance waits for 1,024 timers already")
      return 0
    }
    return begin(completion, .plain, isTimer: true, send)
  }

  private func take(_ id: UInt64) -> Entry? {
    let place = place(id)
    guard id != 0, words[place].load(ordering: .acquiring) == id else { return nil }
    let entry = (entries + place).pointee
    guard words[place].compareExchange(expected: id, desired: 0, ordering: .acquiringAndReleasing).exchanged else {
      return nil
    }
    free.withLock { $0.places.append(UInt32(place)) }
    if entry.isTimer { timers.subtract(1, ordering: .relaxed) }
    return entry
  }

  /// The node has completed it.
  func completed(_ id: UInt64, _ payload: UnsafeRawBufferPointer) -> Bool {
    guard let entry = take(id) else { return true }
    return ReceivedResult.with(payload, expected: entry.shape, message: nil) {
      entry.completion.complete(entry.completion.context, $0)
    }
  }

  func item(_ id: UInt64, _ payload: UnsafeRawBufferPointer) -> Bool {
    guard isOpen(id) else { return true }
    let completion = (entries + place(id)).pointee.completion
    return ReceivedNodeCall.item(payload) { item in
      completion.chunk?(completion.context, UnsafeRawPointer(item).assumingMemoryBound(to: bp_chunk.self))
    }
  }

  /// One item of a subscription.
  func feedItem(_ id: UInt64, _ payload: UnsafeRawBufferPointer) -> Bool {
    guard isOpen(id) else { return true }
    let completion = (entries + place(id)).pointee.completion
    return ReceivedNodeCall.feedItem(payload) { item in
      completion.chunk?(completion.context, UnsafeRawPointer(item).assumingMemoryBound(to: bp_chunk.self))
    }
  }

  /// The plugin has such a call open.
  func isOpen(_ id: UInt64) -> Bool { id != 0 && words[place(id)].load(ordering: .acquiring) == id }

  static func fail(_ completion: bp_completion, _ shape: ResultShape, _ code: bp_code, _ message: StaticString) {
    BareResult.with(shape, code, message, isRetryable: true) { completion.complete(completion.context, $0) }
  }
}

/// Results that the host itself gives, of the size that the call's kind has.
enum BareResult {
  static func with(
    _ shape: ResultShape, _ code: bp_code, _ message: StaticString, isRetryable: Bool,
    _ body: (UnsafePointer<bp_result>) -> Void
  ) {
    let size =
      switch shape {
      case .plain: MemoryLayout<bp_result>.size
      case .write: MemoryLayout<bp_write_result>.size
      case .read: MemoryLayout<bp_read_result>.size
      case .scan: MemoryLayout<bp_scan_result>.size
      case .query: MemoryLayout<bp_query_result>.size
      case .verdict: MemoryLayout<bp_verdict>.size
      case .list: MemoryLayout<bp_list_result>.size
      case .proposal: MemoryLayout<bp_proposal_result>.size
      }
    withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { raw in
      raw.initializeMemory(as: UInt8.self, repeating: 0)
      let result = raw.baseAddress!.assumingMemoryBound(to: bp_result.self)
      result.pointee.size = UInt32(size)
      result.pointee.code = code
      result.pointee.flags = isRetryable ? BP_RETRYABLE : 0
      result.pointee.message = bp_view(data: message.utf8Start, size: UInt64(message.utf8CodeUnitCount))
      body(result)
    }
  }
}
