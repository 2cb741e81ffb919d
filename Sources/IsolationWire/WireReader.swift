import BackplaneABI

/// Reads what the other side has written, and believes none of it: whatever does not fit is nothing, and is remembered
/// in `isBroken`.
public struct WireReader {
  private var cursor: UnsafeRawPointer
  private let end: UnsafeRawPointer
  public private(set) var isBroken = false

  public init(_ payload: UnsafeRawBufferPointer) {
    cursor = payload.baseAddress ?? UnsafeRawPointer(bitPattern: 16)!
    end = cursor + payload.count
  }

  public var left: Int { end - cursor }
  /// Everything was read, and was there.
  public var isWhole: Bool { !isBroken && cursor == end }

  @inline(__always)
  mutating func u32() -> UInt32 {
    guard end - cursor >= 4 else { return fail() }
    defer { cursor += 4 }
    return cursor.loadUnaligned(as: UInt32.self)
  }

  @inline(__always)
  mutating func u64() -> UInt64 {
    guard end - cursor >= 8 else { return fail() }
    defer { cursor += 8 }
    return cursor.loadUnaligned(as: UInt64.self)
  }

  /// Points into the payload.
  @inline(__always)
  mutating func view() -> bp_view {
    let count = Int(u32())
    guard count <= end - cursor else {
      let _: UInt32 = fail()
      return bp_view()
    }
    guard count > 0 else { return bp_view() }
    defer { cursor += count }
    return bp_view(data: cursor.assumingMemoryBound(to: UInt8.self), size: UInt64(count))
  }

  mutating func text() -> String {
    let view = view()
    return String(decoding: UnsafeBufferPointer(start: view.data, count: Int(view.size)), as: UTF8.self)
  }

  /// How many things follow, when each takes at least `bytesEach`: never more than the payload can hold, so that a
  /// number made up by the other side allocates nothing.
  @inline(__always)
  mutating func count(bytesEach: Int) -> Int {
    let count = Int(u32())
    guard count <= (end - cursor) / bytesEach else { return Int(fail() as UInt32) }
    return count
  }

  @inline(__always)
  mutating func call() -> bp_call {
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    call.flags = u32()
    call.deadline_ns = u64()
    call.trace_id_high = u64()
    call.trace_id_low = u64()
    call.span_id = u64()
    call.idempotency_key_high = u64()
    call.idempotency_key_low = u64()
    call.parent = u64()
    call.generation = u64()
    call.peer = view()
    return call
  }

  @inline(__always)
  mutating func result<Whole>(of whole: Whole.Type) -> bp_result {
    var result = bp_result()
    result.size = UInt32(MemoryLayout<Whole>.size)
    result.code = u32()
    result.flags = u32()
    result.retry_after_ms = u32()
    result.message = view()
    result.detail = view()
    return result
  }

  @inline(__always)
  mutating func op() -> bp_op {
    var op = bp_op()
    op.size = UInt32(MemoryLayout<bp_op>.size)
    op.verb = u32()
    op.condition = u32()
    op.content = u32()
    op.flags = u32()
    op.if_version = u64()
    op.uri = view()
    op.data = view()
    return op
  }

  /// What an op takes at least.
  static let opBytesMin = 32

  @inline(never)
  private mutating func fail<Number: FixedWidthInteger>() -> Number {
    isBroken = true
    cursor = end
    return 0
  }
}
