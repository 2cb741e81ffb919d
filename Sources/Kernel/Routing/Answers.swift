import BackplaneABI

/// Results that the kernel itself gives.
enum Answers {
  /// A result of a kind's struct `T` with a bare code and a constant sentence; valid during `body`.
  @inline(__always)
  static func with<T>(
    _ code: bp_code, _ message: StaticString = "", retryable: Bool = false, as type: T.Type,
    _ body: (UnsafePointer<bp_result>) -> Void
  ) {
    let view = bp_view(data: message.utf8Start, size: UInt64(message.utf8CodeUnitCount))
    make(code, view, retryable: retryable, retryAfterMs: 0, as: type, body)
  }

  /// Likewise, with a sentence made for the occasion.
  static func with<T>(_ failure: CallFailure, as type: T.Type, _ body: (UnsafePointer<bp_result>) -> Void) {
    var message = failure.message
    message.withUTF8 {
      make(
        failure.code, bp_view($0), retryable: failure.isRetryable, retryAfterMs: failure.retryAfterMs, as: type, body)
    }
  }

  @inline(__always)
  private static func make<T>(
    _ code: bp_code, _ message: bp_view, retryable: Bool, retryAfterMs: UInt32, as type: T.Type,
    _ body: (UnsafePointer<bp_result>) -> Void
  ) {
    withUnsafeTemporaryAllocation(byteCount: MemoryLayout<T>.size, alignment: 16) { raw in
      raw.initializeMemory(as: UInt8.self, repeating: 0)
      let result = raw.baseAddress!.assumingMemoryBound(to: bp_result.self)
      result.pointee.size = UInt32(MemoryLayout<T>.size)
      result.pointee.code = code
      result.pointee.flags = retryable ? BP_RETRYABLE : 0
      result.pointee.retry_after_ms = retryAfterMs
      result.pointee.message = message
      body(UnsafePointer(result))
    }
  }

  /// Ends a request with a bare code, on the thread that made it.
  static func complete<T>(
    _ completion: bp_completion, _ code: bp_code, _ message: StaticString = "", retryable: Bool = false,
    as type: T.Type
  ) {
    with(code, message, retryable: retryable, as: type) { completion.complete(completion.context, $0) }
  }

  /// Ends a request of `caller`'s, on whatever thread.
  static func complete<T>(
    _ completion: bp_completion, of caller: Instance, _ failure: CallFailure, as type: T.Type
  ) {
    with(failure, as: type) { completion.answer(caller.handle, $0) }
  }
}

/// A failed call, copied out of its result.
struct CallFailure: Error {
  var code: bp_code
  var message: String
  var isRetryable = false
  var retryAfterMs: UInt32 = 0

  init(code: bp_code, _ message: String, isRetryable: Bool = false) {
    self.code = code
    self.message = message
    self.isRetryable = isRetryable
  }

  init(_ result: UnsafePointer<bp_result>) {
    code = result.pointee.code
    message = result.pointee.message.text
    isRetryable = result.pointee.flags & BP_RETRYABLE != 0
    retryAfterMs = result.pointee.retry_after_ms
  }

  /// What it says, or the name of its code.
  var reason: String { message.isEmpty ? CodeNames.name(code) : message }

  static let tooManyCalls = CallFailure(
    code: BP_RESOURCE_EXHAUSTED, "too many calls are open in this slot (limits.in_flight_per_slot_max)",
    isRetryable: true)
  static let noCanonicalForm = CallFailure(
    code: BP_UNAVAILABLE, "the schema that knows this URI's canonical form is away", isRetryable: true)
  static let noBackend = CallFailure(code: BP_UNAVAILABLE, "the node has no backend", isRetryable: true)
}

extension bp_view {
  var bytes: UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(start: data, count: Int(size)) }
  var text: String { String(decoding: bytes, as: UTF8.self) }
  init(_ bytes: UnsafeBufferPointer<UInt8>) { self.init(data: bytes.baseAddress, size: UInt64(bytes.count)) }
  static var empty: bp_view { bp_view(data: nil, size: 0) }
}
