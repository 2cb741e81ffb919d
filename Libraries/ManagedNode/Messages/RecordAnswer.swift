import JSONText

/// What a node answers to a read over HTTP: `{"ts":milliseconds,"data":any}`.
public struct RecordAnswer: Equatable, Sendable {
  /// Milliseconds since 1970, the clock of the node that keeps the record.
  public let timestampMs: Int64
  /// JSON, as it was stored.
  public let data: [UInt8]

  /// Nil when `body` is no such answer.
  public init?(body: [UInt8]) {
    let found = body.withUnsafeBytes { bytes -> (Int64, [UInt8])? in
      guard case .success(let value) = JSONScanner().scan(bytes), let data = value.member("data"),
        let timestamp = value.member("ts").flatMap(JSONNumber.value(of:))
      else { return nil }
      return (Int64(clamping: timestamp), Array(data.bytes))
    }
    guard let found else { return nil }
    (timestampMs, data) = found
  }
}
