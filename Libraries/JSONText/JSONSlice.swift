/// The kind of a JSON value. `true` and `false` are kinds of their own: their bytes need no second look.
public enum JSONKind: UInt8, Sendable {
  case null, `true`, `false`, number, string, array, object
}

/// One JSON value inside a buffer that somebody else owns: its kind and its exact bytes, without whitespace around it.
///
/// It borrows: valid only while the scanned buffer is neither moved, changed nor freed. Slices are made by
/// `JSONScanner` alone, from text that was validated in full.
@frozen
public struct JSONSlice {
  public let kind: JSONKind
  /// True for a string that contains at least one backslash escape; always false for the other kinds.
  public let hasEscapes: Bool
  /// The value as written; for a string, the quotes included.
  public let bytes: UnsafeRawBufferPointer

  @inlinable
  init(kind: JSONKind, hasEscapes: Bool, bytes: UnsafeRawBufferPointer) {
    self.kind = kind
    self.hasEscapes = hasEscapes
    self.bytes = bytes
  }

  /// The bytes between the quotes, escapes as written. Requires a string.
  @inlinable
  public var rawContent: UnsafeRawBufferPointer {
    precondition(kind == .string, "rawContent of a JSON value that is not a string")
    return UnsafeRawBufferPointer(rebasing: bytes[1..<(bytes.count - 1)])
  }

  /// The text of a string when it needs no unescaping, else nil. No copy: it borrows like the slice itself.
  @inlinable
  public var plainText: UnsafeRawBufferPointer? {
    kind == .string && !hasEscapes ? rawContent : nil
  }

  /// Where the value starts in `buffer`, in bytes. `buffer` must be the buffer the slice was scanned from.
  @inlinable
  public func range(in buffer: UnsafeRawBufferPointer) -> Range<Int> {
    guard let base = buffer.baseAddress, let start = bytes.baseAddress else { return 0..<0 }
    let lower = start - base
    return lower..<(lower + bytes.count)
  }
}
