import BackplaneABI

/// Where a payload is put. Every payload is put twice: into a `WireSizer`, so that its place can be reserved, and into
/// a `WireWriter`.
protocol WireSink {
  mutating func put(_ value: UInt32)
  mutating func put(_ value: UInt64)
  /// Bytes with their number before them.
  mutating func put(_ view: bp_view)
  /// Bytes of a known number.
  mutating func put(raw bytes: UnsafeRawPointer, count: Int)
}

struct WireSizer: WireSink {
  private(set) var count = 0
  @inline(__always) mutating func put(_ value: UInt32) { count &+= 4 }
  @inline(__always) mutating func put(_ value: UInt64) { count &+= 8 }
  @inline(__always) mutating func put(_ view: bp_view) { count &+= 4 &+ Int(truncatingIfNeeded: view.size) }
  @inline(__always) mutating func put(raw bytes: UnsafeRawPointer, count more: Int) { count &+= more }
}

/// Writes into a place that a `WireSizer` has measured.
struct WireWriter: WireSink {
  private var cursor: UnsafeMutableRawPointer
  private let end: UnsafeMutableRawPointer

  init(_ place: UnsafeMutableRawPointer, count: Int) {
    cursor = place
    end = place + count
  }

  /// What was measured and what is written differ when another thread changes the values meanwhile.
  @inline(__always)
  private mutating func advance(_ count: Int) -> UnsafeMutableRawPointer {
    let place = cursor
    precondition(count <= end - place, "a payload changed while it was being sent")
    cursor = place + count
    return place
  }

  @inline(__always)
  mutating func put(_ value: UInt32) { advance(4).storeBytes(of: value, as: UInt32.self) }
  @inline(__always)
  mutating func put(_ value: UInt64) { advance(8).storeBytes(of: value, as: UInt64.self) }
  @inline(__always)
  mutating func put(_ view: bp_view) {
    put(UInt32(truncatingIfNeeded: view.size))
    if view.size > 0 { put(raw: view.data, count: Int(view.size)) }
  }
  @inline(__always)
  mutating func put(raw bytes: UnsafeRawPointer, count: Int) {
    advance(count).copyMemory(from: bytes, byteCount: count)
  }
}

extension WireSink {
  /// A call's header without its size, which is the reader's own.
  @inline(__always)
  mutating func put(_ call: bp_call) {
    put(call.flags)
    put(call.deadline_ns)
    put(call.trace_id_high)
    put(call.trace_id_low)
    put(call.span_id)
    put(call.idempotency_key_high)
    put(call.idempotency_key_low)
    put(call.parent)
    put(call.generation)
    put(call.peer)
  }

  @inline(__always)
  mutating func put(_ result: bp_result) {
    put(result.code)
    put(result.flags)
    put(result.retry_after_ms)
    put(result.message)
    put(result.detail)
  }

  @inline(__always)
  mutating func put(_ op: bp_op) {
    put(op.verb)
    put(op.condition)
    put(op.content)
    put(op.flags)
    put(op.if_version)
    put(op.uri)
    put(op.data)
  }

  mutating func put(_ text: String) {
    var text = text
    text.withUTF8 { put(bp_view(data: $0.baseAddress, size: UInt64($0.count))) }
  }
}

/// Something that can be put on the wire.
protocol WirePayload {
  func put<Sink: WireSink>(into sink: inout Sink)
}

extension WirePayload {
  @inline(__always)
  var wireSize: Int {
    var sizer = WireSizer()
    put(into: &sizer)
    return sizer.count
  }
}

struct NoPayload: WirePayload {
  @inline(__always) func put<Sink: WireSink>(into sink: inout Sink) {}
}

struct NumberPayload: WirePayload {
  let value: UInt64
  @inline(__always) func put<Sink: WireSink>(into sink: inout Sink) { sink.put(value) }
}
