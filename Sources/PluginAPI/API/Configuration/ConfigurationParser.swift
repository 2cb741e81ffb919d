/// A strict JSON parser (RFC 8259) for small documents. It refuses what the grammar leaves open and what would surprise:
/// a byte order mark, duplicate keys, unpaired surrogates.
struct ConfigurationParser {
  private let bytes: UnsafeBufferPointer<UInt8>
  private var position = 0
  private var places = [ConfigurationPlace()]
  private var duplicates: [ConfigurationProblem] = []

  static func parse(_ bytes: UnsafeBufferPointer<UInt8>) throws(ConfigurationErrors) -> ConfigurationNode {
    guard bytes.count <= ConfigurationDecoder.sizeBytesMax else {
      throw ConfigurationErrors(problems: [
        ConfigurationProblem(
          message: "the configuration has \(bytes.count) bytes and may have \(ConfigurationDecoder.sizeBytesMax); "
            + "move large data to a file and configure its path.")
      ])
    }
    var parser = ConfigurationParser(bytes: bytes)
    let root: ConfigurationNode
    do {
      root = try parser.document()
    } catch {
      throw ConfigurationDecoder.bounded([error] + parser.duplicates)
    }
    if !parser.duplicates.isEmpty { throw ConfigurationDecoder.bounded(parser.duplicates) }
    return root
  }

  private init(bytes: UnsafeBufferPointer<UInt8>) {
    self.bytes = bytes
  }

  // MARK: Values

  private mutating func document() throws(ConfigurationProblem) -> ConfigurationNode {
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) {
      throw problem("the document begins with a byte order mark; save it as UTF-8 without one.")
    }
    skipWhitespace()
    guard position < bytes.count else {
      throw problem("the document is empty; write {} for a configuration without settings.")
    }
    let root = try value()
    skipWhitespace()
    guard position == bytes.count else { throw unexpected("the end of the document") }
    return root
  }

  private mutating func value() throws(ConfigurationProblem) -> ConfigurationNode {
    switch peek() {
    case UInt8(ascii: "{"): return try object()
    case UInt8(ascii: "["): return try list()
    case UInt8(ascii: "\""): return ConfigurationNode(.text(try string()))
    case let byte where byte == UInt8(ascii: "-") || isDigit(byte): return ConfigurationNode(.number(try number()))
    case UInt8(ascii: "t") where take("true"): return ConfigurationNode(.boolean(true))
    case UInt8(ascii: "f") where take("false"): return ConfigurationNode(.boolean(false))
    case UInt8(ascii: "n") where take("null"): return ConfigurationNode(.null)
    default: throw unexpected("a value")
    }
  }

  private mutating func object() throws(ConfigurationProblem) -> ConfigurationNode {
    try open()
    var object = ConfigurationObject()
    if !takeAfterWhitespace("}") {
      repeat {
        skipWhitespace()
        guard peek() == UInt8(ascii: "\"") else { throw unexpected("a key in double quotes") }
        let keyPosition = position
        let key = try string()
        places.append(place.appending(key: key))
        guard takeAfterWhitespace(":") else { throw unexpected("a colon after the key") }
        skipWhitespace()
        let node = try value()
        if !object.add(node, for: key) {
          // Those beyond the limit are only counted: finding a line means a walk through the document.
          let isShown = duplicates.count < ConfigurationDecoder.problemsMax
          let coordinates = isShown ? coordinates(of: keyPosition) : "a later place"
          duplicates.append(
            problem(
              "the key \(ConfigurationRedaction.quotedKey(key)) appears again at \(coordinates); keep one of them."))
        }
        places.removeLast()
      } while takeAfterWhitespace(",")
      guard takeAfterWhitespace("}") else { throw unexpected("a comma or a closing brace") }
    }
    return ConfigurationNode(.object(object))
  }

  private mutating func list() throws(ConfigurationProblem) -> ConfigurationNode {
    try open()
    var items: [ConfigurationNode] = []
    if !takeAfterWhitespace("]") {
      repeat {
        skipWhitespace()
        places.append(place.appending(index: items.count))
        items.append(try value())
        places.removeLast()
      } while takeAfterWhitespace(",")
      guard takeAfterWhitespace("]") else { throw unexpected("a comma or a closing bracket") }
    }
    return ConfigurationNode(.list(items))
  }

  /// Steps over the opening bracket.
  private mutating func open() throws(ConfigurationProblem) {
    // One place for the document and one for each list or object around this one.
    guard places.count <= ConfigurationDecoder.depthMax else {
      throw problem(
        "the value at \(coordinates(of: position)) is nested more than \(ConfigurationDecoder.depthMax) deep; "
          + "flatten the configuration.")
    }
    position += 1
  }

  // MARK: Scalars

  private mutating func number() throws(ConfigurationProblem) -> String {
    let start = position
    _ = take("-")
    if !take("0") {
      try digits()
    } else if isDigit(peek()) {
      throw problem("the number at \(coordinates(of: start)) begins with a zero; write it without leading zeros.")
    }
    if take(".") { try digits() }
    if take("e") || take("E") {
      if !take("+") { _ = take("-") }
      try digits()
    }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  private mutating func digits() throws(ConfigurationProblem) {
    guard isDigit(peek()) else { throw unexpected("a digit") }
    while isDigit(peek()) { position += 1 }
  }

  private mutating func string() throws(ConfigurationProblem) -> String {
    let start = position
    position += 1
    var text: [UInt8] = []
    while true {
      guard let byte = peek() else {
        throw problem("the text that begins at \(coordinates(of: start)) does not end; close it with a double quote.")
      }
      switch byte {
      case UInt8(ascii: "\""):
        position += 1
        guard let result = String(validating: text, as: UTF8.self) else {
          throw problem("the text at \(coordinates(of: start)) is not valid UTF-8; save the document as UTF-8.")
        }
        return result
      case UInt8(ascii: "\\"): text += try escape()
      case 0..<0x20:
        throw problem(
          "the text that begins at \(coordinates(of: start)) holds a raw control character at "
            + "\(coordinates(of: position)); close the text before it or write the character as an escape (\\n, \\t).")
      default:
        text.append(byte)
        position += 1
      }
    }
  }

  private mutating func escape() throws(ConfigurationProblem) -> [UInt8] {
    let start = position
    position += 1
    guard let byte = peek() else { throw unexpected("the rest of an escape") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "u"):
      var code = try hexadecimal()
      if (0xD800..<0xDC00).contains(code), take("\\u") {
        let low = try hexadecimal()
        guard (0xDC00..<0xE000).contains(low) else { throw unpairedSurrogate(at: start) }
        code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
      }
      guard let scalar = Unicode.Scalar(code) else { throw unpairedSurrogate(at: start) }
      return Array(UTF8.encode(scalar)!)
    default:
      throw problem(
        "the escape at \(coordinates(of: start)) does not exist in JSON; write a backslash itself as two (\\\\).")
    }
  }

  private mutating func hexadecimal() throws(ConfigurationProblem) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = peek(), let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw unexpected("four hexadecimal digits after \\u")
      }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }

  // MARK: Bytes

  private func peek() -> UInt8? { position < bytes.count ? bytes[position] : nil }

  private func isDigit(_ byte: UInt8?) -> Bool {
    guard let byte else { return false }
    return (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
  }

  private mutating func take(_ expected: StaticString) -> Bool {
    let matches = expected.withUTF8Buffer { bytes[position...].starts(with: $0) }
    if matches { position += expected.utf8CodeUnitCount }
    return matches
  }

  private mutating func takeAfterWhitespace(_ expected: StaticString) -> Bool {
    skipWhitespace()
    return take(expected)
  }

  private mutating func skipWhitespace() {
    while let byte = peek(), byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  // MARK: Problems

  private var place: ConfigurationPlace { places[places.count - 1] }

  private func problem(_ message: String) -> ConfigurationProblem {
    ConfigurationProblem(pointer: place.pointer, message: message)
  }

  private func unpairedSurrogate(at start: Int) -> ConfigurationProblem {
    problem(
      "the escape at \(coordinates(of: start)) is half of a surrogate pair; write the character itself or both halves.")
  }

  private func unexpected(_ expected: String) -> ConfigurationProblem {
    let found: String
    switch peek() {
    case nil: found = "the document ends"
    case .some where place.isSecret: found = "there is something else (not shown: its key looks secret)"
    case .some(let byte) where (0x21..<0x7F).contains(byte):
      found = "there is \(ConfigurationRedaction.quoted(String(Unicode.Scalar(byte))))"
    case .some(let byte): found = "there is the byte 0x\(String(byte, radix: 16, uppercase: true))"
    }
    return problem("expected \(expected) at \(coordinates(of: position)), but \(found).")
  }

  /// Lines and columns count from 1; a column is a code point, not a byte.
  private func coordinates(of position: Int) -> String {
    let before = bytes[..<position]
    let line = 1 + before.count { $0 == 0x0A }
    let lineStart = before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
    let column = 1 + bytes[lineStart..<position].count { $0 & 0xC0 != 0x80 }
    return "line \(line), column \(column)"
  }
}
