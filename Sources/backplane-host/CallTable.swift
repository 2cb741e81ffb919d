import BackplaneABI
import Glibc
import IsolationWire
import Synchronization

/// The calls that are open in the plugin, by the kernel's tokens. A token's low bits are its place; two open calls share
/// one only when the kernel took a token back that the plugin still holds, and then the newer lies in `displaced`.
final class CallTable: @unchecked Sendable {
  // @unchecked: a record is written by the thread that opens its place and read by the one that closes it, each of which
  // owns it by the place's atomic word.
  struct Call {
    var received: ReceivedCall
    var shape: ResultShape
    /// What a verdict may point into.
    var message: UnsafePointer<bp_message>?
  }

  private static let places = 1 << 16
  /// A word whose call is being completed.
  private static let closing: UInt64 = 1 << 63
  /// Credits of a call that nobody waits for any more.
  private static let cancelled: Int = .min

  // Zeroed by the system page by page, when it is first used: a child must be there in milliseconds.
  private let words: UnsafeMutablePointer<Atomic<UInt64>>
  private let credits: UnsafeMutablePointer<Atomic<Int>>
  private let records: UnsafeMutablePointer<Call>
  private let displaced = Mutex<[bp_token: UncheckedCall]>([:])

  private struct UncheckedCall: @unchecked Sendable {
    // @unchecked: moved under the lock from one owner to the next.
    let call: Call
  }

  init() {
    func zeroed<T: ~Copyable>(_ type: T.Type) -> UnsafeMutablePointer<T> {
      calloc(CallTable.places, MemoryLayout<T>.stride).assumingMemoryBound(to: type)
    }
    words = zeroed(Atomic<UInt64>.self)
    credits = zeroed(Atomic<Int>.self)
    records = calloc(CallTable.places, MemoryLayout<Call>.stride).assumingMemoryBound(to: Call.self)
  }

  @inline(__always)
  private func place(_ token: bp_token) -> Int { Int(truncatingIfNeeded: token) & (CallTable.places - 1) }

  /// The reader alone opens.
  func open(_ token: bp_token, _ call: Call, credits granted: UInt32 = 0) {
    let place = place(token)
    guard words[place].load(ordering: .acquiring) == 0 else {
      let call = UncheckedCall(call: call)
      return displaced.withLock { $0[token] = call }
    }
    (records + place).initialize(to: call)
    credits[place].store(Int(granted), ordering: .relaxed)
    words[place].store(token, ordering: .releasing)
  }

  /// The call, which the caller owns from now on and ends with `closed`; nil for a token that is not open.
  func close(_ token: bp_token) -> Call? {
    let place = place(token)
    if token & CallTable.closing == 0, token != 0,
      words[place].compareExchange(
        expected: token, desired: token | CallTable.closing, ordering: .acquiringAndReleasing
      ).exchanged
    {
      return (records + place).pointee
    }
    return displaced.withLock { $0.removeValue(forKey: token) }?.call
  }

  func closed(_ token: bp_token) {
    let place = place(token)
    _ = words[place].compareExchange(
      expected: token | CallTable.closing, desired: 0, ordering: .acquiringAndReleasing)
  }

  func isOpen(_ token: bp_token) -> Bool {
    words[place(token)].load(ordering: .acquiring) == token || displaced.withLock { $0[token] != nil }
  }

  // MARK: Streams

  func grant(_ token: bp_token, _ more: UInt32) {
    let place = place(token)
    guard words[place].load(ordering: .acquiring) == token else { return }
    var seen = credits[place].load(ordering: .relaxed)
    while seen != CallTable.cancelled {
      let (exchanged, now) = credits[place].compareExchange(
        expected: seen, desired: seen + Int(more), ordering: .relaxed)
      if exchanged { return }
      seen = now
    }
  }

  func cancel(_ token: bp_token) {
    let place = place(token)
    guard words[place].load(ordering: .acquiring) == token else { return }
    credits[place].store(CallTable.cancelled, ordering: .relaxed)
  }

  /// Takes `count` credits of a stream; BP_OK when they were there.
  func spend(_ token: bp_token, _ count: UInt32) -> bp_code {
    let place = place(token)
    guard words[place].load(ordering: .acquiring) == token else { return BP_CLOSED }
    var seen = credits[place].load(ordering: .relaxed)
    while true {
      if seen == CallTable.cancelled { return BP_CANCELLED }
      guard seen >= Int(count) else { return BP_RESOURCE_EXHAUSTED }
      let (exchanged, now) = credits[place].compareExchange(
        expected: seen, desired: seen - Int(count), ordering: .relaxed)
      if exchanged { return BP_OK }
      seen = now
    }
  }
}
