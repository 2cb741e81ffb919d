/// Strict validation of JSON text (RFC 8259), and the entry to everything that needs validated text.
///
/// Nothing is built and, up to 64 levels of nesting, nothing is allocated. Any thread; no shared state. Lone surrogate
/// escapes (`"\ud800"`) pass, as they do in JavaScript; duplicate member names pass too.
public struct JSONScanner: Sendable {
  /// The most arrays and objects that may be open at once, 0 or more. There is no recursion, so any value is safe.
  public var depthMax: Int
  /// Whether one UTF-8 byte-order mark at the very start is skipped instead of refused.
  public var acceptsByteOrderMark: Bool

  public init(depthMax: Int = 512, acceptsByteOrderMark: Bool = true) {
    self.depthMax = depthMax
    self.acceptsByteOrderMark = acceptsByteOrderMark
  }

  /// Validates all of `bytes` as one JSON value with optional whitespace around it.
  /// - Returns: the value, borrowing from `bytes`; or the first problem.
  public func scan(_ bytes: UnsafeRawBufferPointer) -> Result<JSONSlice, JSONError> {
    guard var cursor = cursor(over: bytes) else { return .failure(JSONError(kind: .unexpectedEnd, offset: 0)) }
    cursor.skipWhitespace()
    guard let value = cursor.value(depth: 0), cursor.finish() else { return .failure(cursor.problem) }
    return .success(value)
  }

  /// As `scan(_:)`, over typed bytes.
  public func scan(_ bytes: UnsafeBufferPointer<UInt8>) -> Result<JSONSlice, JSONError> {
    scan(UnsafeRawBufferPointer(bytes))
  }

  /// Nil for an empty buffer, whose base address may be nil.
  func cursor(over bytes: UnsafeRawBufferPointer) -> JSONCursor? {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return nil }
    var cursor = JSONCursor(
      start: base.assumingMemoryBound(to: UInt8.self), count: bytes.count, depthMax: depthMax)
    if acceptsByteOrderMark { cursor.skipByteOrderMark() }
    return cursor
  }
}

extension JSONCursor {
  /// The problem that made a method fail.
  var problem: JSONError { error ?? JSONError(kind: .unexpectedEnd, offset: next - start) }
}
