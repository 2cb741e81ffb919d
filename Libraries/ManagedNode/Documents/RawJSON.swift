import JSONText

/// One JSON value as the text that it came in, which was validated: what is passed on and not looked at stays as it is.
public struct RawJSON: Equatable, Sendable {
  /// Without white space around it.
  public let bytes: [UInt8]

  /// Nil for what is no JSON text, or is nested deeper than `depthMax`.
  public init?(_ bytes: [UInt8], depthMax: Int = 512) {
    let trimmed = bytes.withUnsafeBytes { raw -> [UInt8]? in
      guard case .success(let value) = JSONScanner(depthMax: depthMax).scan(raw) else { return nil }
      return Array(value.bytes)
    }
    guard let trimmed else { return nil }
    self.bytes = trimmed
  }

  /// A copy of the slice.
  public init(_ slice: JSONSlice) { bytes = Array(slice.bytes) }

  /// Calls `body` with the value; the slice is valid during the call.
  public func withSlice<Value>(_ body: (JSONSlice) throws -> Value) rethrows -> Value {
    try bytes.withUnsafeBytes { raw in
      guard case .success(let value) = JSONScanner(depthMax: .max).scan(raw) else {
        preconditionFailure("the text was validated when it was made")
      }
      return try body(value)
    }
  }
}
