/// Why a text is not acceptable JSON, and where. A value type: making one allocates nothing.
public struct JSONError: Error, Equatable, Sendable {
  public enum Kind: UInt8, Sendable {
    /// The text ends inside a value, or is empty.
    case unexpectedEnd
    case valueExpected
    case keyExpected
    case colonExpected
    case commaOrBraceExpected
    case commaOrBracketExpected
    case invalidLiteral
    case invalidNumber
    case invalidEscape
    case controlCharacterInString
    /// The bytes are not UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
    case invalidUTF8
    /// Arrays and objects are nested deeper than `limit` levels.
    case tooDeep
    /// Something other than whitespace follows the value.
    case trailingBytes
    /// A number has no finite double value (only where numbers are printed again).
    case numberNotFinite
    /// The text is longer than `limit` bytes (only where keys are sorted).
    case tooLarge
  }

  public let kind: Kind
  /// Bytes from the start of the scanned buffer (a byte-order mark counts).
  public let offset: Int
  /// The bound that was hit, for `tooDeep` (levels) and `tooLarge` (bytes); 0 otherwise.
  public let limit: Int

  public init(kind: Kind, offset: Int, limit: Int = 0) {
    self.kind = kind
    self.offset = offset
    self.limit = limit
  }
}

extension JSONError: CustomStringConvertible {
  /// One sentence for the person who sent the text. It never quotes the text itself.
  public var description: String {
    let place = "at byte \(offset)"
    switch kind {
    case .unexpectedEnd: return "The JSON text ends too early, \(place): complete the value."
    case .valueExpected: return "The JSON text needs a value \(place)."
    case .keyExpected: return "The JSON text needs a member name in double quotes \(place)."
    case .colonExpected: return "The JSON text needs a colon after the member name \(place)."
    case .commaOrBraceExpected: return "The JSON text needs a comma or a closing brace \(place)."
    case .commaOrBracketExpected: return "The JSON text needs a comma or a closing bracket \(place)."
    case .invalidLiteral: return "The JSON text has a word other than true, false or null \(place)."
    case .invalidNumber: return "The JSON text has a malformed number \(place)."
    case .invalidEscape: return "The JSON text has a malformed backslash escape \(place)."
    case .controlCharacterInString:
      return "The JSON text has a raw control character in a string \(place): write it as \\u00XX."
    case .invalidUTF8: return "The text is not valid UTF-8 \(place): send it encoded as UTF-8."
    case .tooDeep: return "The JSON text is nested deeper than \(limit) levels \(place): flatten it."
    case .trailingBytes: return "The JSON text goes on after its value \(place): send one value only."
    case .numberNotFinite:
      return "The JSON text has a number too large for a double \(place): it has no canonical form."
    case .tooLarge: return "The JSON text is longer than \(limit) bytes, which is the most that can be sorted."
    }
  }
}
