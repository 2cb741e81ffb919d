/// A strict reader of small JSON documents (manifests), RFC 8259 and nothing beyond it: no duplicate keys, no trailing
/// comma, UTF-8 only, bounded in size and depth. It keeps where each value stands, so that a part can be handed on as
/// the author wrote it. Not for the request path.
struct StrictJSON: Equatable, Sendable {
  enum Value: Equatable, Sendable {
    case null
    case boolean(Bool)
    /// The text of the number, as written.
    case number(String)
    case string(String)
    case array([StrictJSON])
    /// In the order written.
    case object([Member])
  }

  struct Member: Equatable, Sendable {
    let key: String
    let value: StrictJSON
  }

  struct Failure: Error, Equatable {
    /// JSON pointer (RFC 6901) of the innermost value that had begun; empty is the whole document.
    let pointer: String
    /// Counted from 0.
    let offsetBytes: Int
    /// What is wrong, to follow "the manifest at ... ".
    let reason: String
  }

  let value: Value
  /// Where the value stands in the document.
  let range: Range<Int>

  static func parse(_ bytes: [UInt8], depthMax: Int = 32) throws(Failure) -> StrictJSON {
    var parser = Parser(bytes: bytes, depthMax: depthMax)
    return try parser.document()
  }

  /// One reference token of a JSON pointer, escaped as RFC 6901 says.
  static func pointerToken(_ key: String) -> String {
    var token = "/"
    for character in key.unicodeScalars {
      switch character {
      case "~": token += "~0"
      case "/": token += "~1"
      default: token.unicodeScalars.append(character)
      }
    }
    return token
  }

  /// For messages: "a string", "an object".
  var kind: String {
    switch value {
    case .null: "null"
    case .boolean: "a boolean"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }

  private struct Parser {
    let bytes: [UInt8]
    let depthMax: Int
    var at = 0
    var depth = 0
    var path: [String] = []

    mutating func document() throws(Failure) -> StrictJSON {
      if bytes.starts(with: [0xef, 0xbb, 0xbf]) { throw failure("it begins with a byte order mark") }
      skipSpace()
      let result = try parseValue()
      skipSpace()
      if at < bytes.count { throw failure("there is more text after the end of the value") }
      return result
    }

    func failure(_ reason: String) -> Failure {
      Failure(pointer: path.map(StrictJSON.pointerToken).joined(), offsetBytes: at, reason: reason)
    }

    mutating func skipSpace() {
      while at < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[at]) { at += 1 }
    }

    var next: UInt8? { at < bytes.count ? bytes[at] : nil }

    mutating func parseValue() throws(Failure) -> StrictJSON {
      guard let first = next else { throw failure("it ends where a value is expected") }
      let start = at
      let value: Value
      switch first {
      case UInt8(ascii: "{"): value = try parseObject()
      case UInt8(ascii: "["): value = try parseArray()
      case UInt8(ascii: "\""): value = .string(try parseString())
      case UInt8(ascii: "t"): value = try word("true", .boolean(true))
      case UInt8(ascii: "f"): value = try word("false", .boolean(false))
      case UInt8(ascii: "n"): value = try word("null", .null)
      case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): value = .number(try parseNumber())
      default: throw failure("a value cannot begin with this character")
      }
      return StrictJSON(value: value, range: start..<at)
    }

    mutating func word(_ text: String, _ value: Value) throws(Failure) -> Value {
      guard bytes[at...].starts(with: text.utf8) else { throw failure("a value cannot begin with this character") }
      at += text.utf8.count
      return value
    }

    mutating func descend() throws(Failure) {
      depth += 1
      if depth > depthMax { throw failure("it is nested deeper than \(depthMax) levels") }
      at += 1
      skipSpace()
    }

    mutating func parseObject() throws(Failure) -> Value {
      try descend()
      var members: [Member] = []
      var keys: Set<String> = []
      if next == UInt8(ascii: "}") {
        at += 1
        depth -= 1
        return .object([])
      }
      while true {
        guard next == UInt8(ascii: "\"") else { throw failure("a key in quotation marks is expected here") }
        let key = try parseString()
        // Compared by code points: Swift's own equality would take two spellings of one accent for a duplicate.
        guard keys.insert(key.unicodeScalars.map { String($0.value, radix: 16) }.joined(separator: " ")).inserted else {
          throw failure("the key \(Wording.quoted(key)) is there twice")
        }
        skipSpace()
        guard next == UInt8(ascii: ":") else { throw failure("a colon is expected after the key") }
        at += 1
        skipSpace()
        path.append(key)
        members.append(Member(key: key, value: try parseValue()))
        path.removeLast()
        skipSpace()
        guard let separator = next else { throw failure("it ends inside an object") }
        at += 1
        if separator == UInt8(ascii: "}") { break }
        guard separator == UInt8(ascii: ",") else {
          at -= 1
          throw failure("a comma or a closing brace is expected here")
        }
        skipSpace()
      }
      depth -= 1
      return .object(members)
    }

    mutating func parseArray() throws(Failure) -> Value {
      try descend()
      var elements: [StrictJSON] = []
      if next == UInt8(ascii: "]") {
        at += 1
        depth -= 1
        return .array([])
      }
      while true {
        path.append(String(elements.count))
        elements.append(try parseValue())
        path.removeLast()
        skipSpace()
        guard let separator = next else { throw failure("it ends inside an array") }
        at += 1
        if separator == UInt8(ascii: "]") { break }
        guard separator == UInt8(ascii: ",") else {
          at -= 1
          throw failure("a comma or a closing bracket is expected here")
        }
        skipSpace()
      }
      depth -= 1
      return .array(elements)
    }

    mutating func parseNumber() throws(Failure) -> String {
      let start = at
      if next == UInt8(ascii: "-") { at += 1 }
      let firstDigit = at
      try digits()
      if bytes[firstDigit] == UInt8(ascii: "0"), at > firstDigit + 1 {
        throw failure("a number cannot begin with 0")
      }
      if next == UInt8(ascii: ".") {
        at += 1
        try digits()
      }
      if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
        at += 1
        if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { at += 1 }
        try digits()
      }
      return String(decoding: bytes[start..<at], as: UTF8.self)
    }

    mutating func digits() throws(Failure) {
      let start = at
      while let digit = next, digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") { at += 1 }
      if at == start { throw failure("a digit is expected here") }
    }

    mutating func parseString() throws(Failure) -> String {
      at += 1
      var content: [UInt8] = []
      while true {
        guard let byte = next else { throw failure("it ends inside a string") }
        switch byte {
        case UInt8(ascii: "\""):
          at += 1
          guard let text = String(validating: content, as: UTF8.self) else {
            throw failure("a string is not valid UTF-8")
          }
          return text
        case UInt8(ascii: "\\"): try escape(into: &content)
        case 0..<0x20: throw failure("a string holds a control character that is not escaped")
        default:
          content.append(byte)
          at += 1
        }
      }
    }

    mutating func escape(into content: inout [UInt8]) throws(Failure) {
      at += 1
      guard let byte = next else { throw failure("it ends inside a string") }
      at += 1
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): content.append(byte)
      case UInt8(ascii: "b"): content.append(0x08)
      case UInt8(ascii: "f"): content.append(0x0c)
      case UInt8(ascii: "n"): content.append(0x0a)
      case UInt8(ascii: "r"): content.append(0x0d)
      case UInt8(ascii: "t"): content.append(0x09)
      case UInt8(ascii: "u"):
        var code = try hexadecimal()
        if code >= 0xd800, code < 0xdc00, next == UInt8(ascii: "\\"), at + 1 < bytes.count,
          bytes[at + 1] == UInt8(ascii: "u")
        {
          at += 2
          let low = try hexadecimal()
          guard low >= 0xdc00, low < 0xe000 else { throw failure("a string holds half of a surrogate pair") }
          code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
        }
        guard let scalar = Unicode.Scalar(code) else { throw failure("a string holds half of a surrogate pair") }
        content.append(contentsOf: Array(String(Character(scalar)).utf8))
      default:
        at -= 1
        throw failure("a string holds an escape that JSON does not have")
      }
    }

    mutating func hexadecimal() throws(Failure) -> UInt32 {
      var code: UInt32 = 0
      for _ in 0..<4 {
        guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
          throw failure("four hexadecimal digits are expected after \\u")
        }
        code = code << 4 | UInt32(digit)
        at += 1
      }
      return code
    }
  }
}
