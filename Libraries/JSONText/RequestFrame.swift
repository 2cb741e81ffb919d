/// A request as it stands in a WebSocket message `{"id":any,"type":string,"payload":any}`. Borrows from the message.
public struct RequestFrame {
  /// Nil: the member is absent. Of several the last counts, as JavaScript has it.
  public var id: JSONSlice?
  public var type: JSONSlice?
  public var payload: JSONSlice?
}

extension JSONScanner {
  /// Validates a message strictly and finds the members of its request, in one pass. Other members are ignored.
  /// - Returns: nil for JSON that is no object.
  public func scanRequest(_ message: UnsafeRawBufferPointer) -> Result<RequestFrame?, JSONError> {
    guard var cursor = cursor(over: message) else { return .failure(JSONError(kind: .unexpectedEnd, offset: 0)) }
    var frame: RequestFrame?
    guard cursor.scanRequest(into: &frame), cursor.finish() else { return .failure(cursor.problem) }
    return .success(frame)
  }
}

extension JSONCursor {
  /// Reads the whole message, whatever it is. False after refusing.
  fileprivate mutating func scanRequest(into frame: inout RequestFrame?) -> Bool {
    skipWhitespace()
    guard next < end, next.pointee == 0x7B else { return value(depth: 0) != nil }
    guard open(depth: 0) else { return false }
    var found = RequestFrame()
    var isFirst = true
    while true {
      var key: JSONSlice?
      switch stepMember(isFirst: &isFirst, key: &key) {
      case .refused: return false
      case .end:
        frame = found
        return true
      case .item: break
      }
      guard let value = value(depth: 1) else { return false }
      guard let key else { continue }
      if key.isText("id") {
        found.id = value
      } else if key.isText("type") {
        found.type = value
      } else if key.isText("payload") {
        found.payload = value
      }
    }
  }
}
