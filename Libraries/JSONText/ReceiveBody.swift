/// A message as it stands in a receive body `{"tx":[uri,data]}`. Borrows from the body.
public struct ReceivedMessage {
  /// A string with at least one character.
  public let uri: JSONSlice
  /// Any JSON value.
  public let data: JSONSlice
  /// False when `data` surely is no binary marker: `BinaryMarker.find(in:)` need not be asked.
  public let dataMayBeBinary: Bool
  /// False when `data` surely is no message envelope: `MessageEnvelope.find(in:)` need not be asked.
  public let dataMayBeEnvelope: Bool
}

/// Why a receive body holds no message.
public enum ReceiveRejection: Error, Equatable, Sendable {
  /// The body is not JSON. The peer answers this with the text of `notAMessage`.
  case malformed(JSONError)
  /// The body is not UTF-8. The peer would replace the bad bytes by U+FFFD and go on.
  case invalidUTF8(JSONError)
  /// The body is nested deeper than the scanner allows.
  case tooDeep(JSONError)
  /// Empty, not an object, or `tx` absent, not an array, or shorter than 2.
  case notAMessage
  /// The first element of `tx` is not a string, or is empty.
  case uriRequired

  init(_ error: JSONError) {
    switch error.kind {
    case .invalidUTF8: self = .invalidUTF8(error)
    case .tooDeep: self = .tooDeep(error)
    default: self = .malformed(error)
    }
  }

  /// The text to answer with: the b3nd node's own where it has one, else a sentence of ours.
  public var text: String {
    switch self {
    case .malformed, .notAMessage: return "Invalid message format: expected { tx: [uri, data] }"
    case .uriRequired: return "Message URI is required"
    case .invalidUTF8(let error), .tooDeep(let error): return error.description
    }
  }
}

extension JSONScanner {
  /// Validates a receive body strictly and finds its message, in one pass. As JavaScript has it, the last `tx` of
  /// several counts; other members and further elements of `tx` are ignored (but validated).
  public func scanMessage(_ body: UnsafeRawBufferPointer) -> Result<ReceivedMessage, ReceiveRejection> {
    guard var cursor = cursor(over: body) else { return .failure(.notAMessage) }
    var tuple = TransactionTuple()
    guard cursor.scanTransaction(into: &tuple), cursor.finish() else {
      return .failure(ReceiveRejection(cursor.problem))
    }
    guard let uri = tuple.uri, let data = tuple.data else { return .failure(.notAMessage) }
    guard uri.kind == .string, uri.bytes.count > 2 else { return .failure(.uriRequired) }
    return .success(
      ReceivedMessage(
        uri: uri, data: data, dataMayBeBinary: tuple.dataMayBeBinary, dataMayBeEnvelope: tuple.dataMayBeEnvelope))
  }

  /// As `scanMessage(_:)`, over typed bytes.
  public func scanMessage(_ body: UnsafeBufferPointer<UInt8>) -> Result<ReceivedMessage, ReceiveRejection> {
    scanMessage(UnsafeRawBufferPointer(body))
  }
}

struct TransactionTuple {
  var uri: JSONSlice?
  var data: JSONSlice?
  var dataMayBeBinary = false
  var dataMayBeEnvelope = false
}

extension JSONCursor {
  /// Reads the whole body, whatever it is. False after refusing.
  fileprivate mutating func scanTransaction(into tuple: inout TransactionTuple) -> Bool {
    skipWhitespace()
    guard next < end, next.pointee == 0x7B else { return value(depth: 0) != nil }
    guard open(depth: 0) else { return false }
    var isFirst = true
    while true {
      var key: JSONSlice?
      switch stepMember(isFirst: &isFirst, key: &key) {
      case .refused: return false
      case .end: return true
      case .item: break
      }
      guard let key, key.isText("tx") else {
        if value(depth: 1) == nil { return false }
        continue
      }
      tuple = TransactionTuple()
      if next < end, next.pointee == 0x5B {
        guard scanTuple(into: &tuple) else { return false }
      } else if value(depth: 1) == nil {
        return false
      }
    }
  }

  private mutating func scanTuple(into tuple: inout TransactionTuple) -> Bool {
    guard open(depth: 1) else { return false }
    var isFirst = true
    var count = 0
    while true {
      switch stepElement(isFirst: &isFirst) {
      case .refused: return false
      case .end: return true
      case .item: break
      }
      if count == 1, next < end, next.pointee == 0x7B {
        guard scanDataObject(into: &tuple) else { return false }
      } else {
        guard let element = value(depth: 2) else { return false }
        if count == 0 { tuple.uri = element } else if count == 1 { tuple.data = element }
      }
      count += 1
    }
  }

  /// An object as data: its names tell whether it can be a binary marker or an envelope, which spares most records a
  /// second look.
  private mutating func scanDataObject(into tuple: inout TransactionTuple) -> Bool {
    let first = next
    guard open(depth: 2) else { return false }
    var isFirst = true
    while true {
      var key: JSONSlice?
      switch stepMember(isFirst: &isFirst, key: &key) {
      case .refused: return false
      case .end:
        tuple.data = slice(from: first, kind: .object, hasEscapes: false)
        return true
      case .item: break
      }
      if let key {
        if key.isText(BinaryMarker.flagName) { tuple.dataMayBeBinary = true }
        if key.isText(MessageEnvelope.payloadName) { tuple.dataMayBeEnvelope = true }
      }
      if value(depth: 3) == nil { return false }
    }
  }
}
