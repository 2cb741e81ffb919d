/// A second opinion for the fuzz tests: a plain recursive parser and printer that share nothing with the library.
/// Strings are arrays of UTF-16 code units, as in JavaScript.
indirect enum ReferenceValue {
  case literal(String)
  case number(Double)
  case string([UInt16])
  case array([ReferenceValue])
  case object([(key: [UInt16], value: ReferenceValue)])
}

struct ReferenceParser {
  struct Refused: Error {}
  private var bytes: ArraySlice<UInt8>
  private var depth = 0

  static func parse(_ bytes: [UInt8]) -> ReferenceValue? {
    // The whole text must be UTF-8 first; Swift's own decoder is the judge.
    guard String(validating: bytes, as: UTF8.self) != nil else { return nil }
    var parser = ReferenceParser(bytes: bytes[...])
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { parser.bytes = bytes[3...] }
    guard let value = try? parser.value() else { return nil }
    parser.space()
    return parser.bytes.isEmpty ? value : nil
  }

  private mutating func space() {
    while let byte = bytes.first, [0x20, 0x09, 0x0A, 0x0D].contains(byte) { bytes.removeFirst() }
  }

  private mutating func take(_ text: String) -> Bool {
    guard bytes.starts(with: text.utf8) else { return false }
    bytes.removeFirst(text.utf8.count)
    return true
  }

  private mutating func value() throws -> ReferenceValue {
    space()
    depth += 1
    defer { depth -= 1 }
    guard depth < 400 else { throw Refused() }
    if take("[") {
      var list: [ReferenceValue] = []
      space()
      if take("]") { return .array(list) }
      while true {
        list.append(try value())
        space()
        if take("]") { return .array(list) }
        guard take(",") else { throw Refused() }
      }
    }
    if take("{") {
      var list: [(key: [UInt16], value: ReferenceValue)] = []
      space()
      if take("}") { return .object(list) }
      while true {
        space()
        let key = try string()
        space()
        guard take(":") else { throw Refused() }
        list.append((key, try value()))
        space()
        if take("}") { return .object(list) }
        guard take(",") else { throw Refused() }
      }
    }
    for word in ["true", "false", "null"] where take(word) { return .literal(word) }
    if bytes.first == 0x22 { return .string(try string()) }
    return try number()
  }

  private mutating func number() throws -> ReferenceValue {
    var text = ""
    func isDigit(_ byte: UInt8?) -> Bool { byte.map { (0x30...0x39).contains($0) } ?? false }
    if take("-") { text = "-" }
    guard isDigit(bytes.first) else { throw Refused() }
    if take("0") {
      text += "0"
    } else {
      while isDigit(bytes.first) { text.unicodeScalars.append(Unicode.Scalar(bytes.removeFirst())) }
    }
    if take(".") {
      text += "."
      guard isDigit(bytes.first) else { throw Refused() }
      while isDigit(bytes.first) { text.unicodeScalars.append(Unicode.Scalar(bytes.removeFirst())) }
    }
    if take("e") || take("E") {
      text += "e"
      if take("-") { text += "-" } else { _ = take("+") }
      guard isDigit(bytes.first) else { throw Refused() }
      while isDigit(bytes.first) { text.unicodeScalars.append(Unicode.Scalar(bytes.removeFirst())) }
    }
    guard let value = Double(text) else { throw Refused() }
    return .number(value)
  }

  private mutating func string() throws -> [UInt16] {
    guard take("\"") else { throw Refused() }
    var units: [UInt16] = []
    var pending: [UInt8] = []
    func flush() {
      units += Array(String(decoding: pending, as: UTF8.self).utf16)
      pending = []
    }
    let simple: [UInt8: UInt16] = [
      0x22: 0x22, 0x5C: 0x5C, 0x2F: 0x2F, 0x62: 8, 0x66: 12, 0x6E: 10, 0x72: 13, 0x74: 9,
    ]
    while true {
      guard let byte = bytes.popFirst(), byte >= 0x20 else { throw Refused() }
      if byte == 0x22 {
        flush()
        return units
      }
      guard byte == 0x5C else {
        pending.append(byte)
        continue
      }
      flush()
      guard let letter = bytes.popFirst() else { throw Refused() }
      if let unit = simple[letter] {
        units.append(unit)
      } else {
        let digits = bytes.prefix(4)
        let text = String(decoding: digits, as: UTF8.self)
        guard letter == 0x75, digits.count == 4, text.utf8.count == 4, text.allSatisfy({ $0.isASCII && $0.isHexDigit }),
          let unit = UInt16(text, radix: 16)
        else { throw Refused() }
        units.append(unit)
        bytes.removeFirst(4)
      }
    }
  }
}

extension ReferenceValue {
  var hasInfinity: Bool {
    switch self {
    case .number(let value): return value.isInfinite
    case .array(let list): return list.contains { $0.hasInfinity }
    case .object(let list):
      // Only what survives the duplicates is printed.
      return Self.merged(list).contains { $0.value.hasInfinity }
    default: return false
    }
  }

  private static func merged(
    _ list: [(key: [UInt16], value: ReferenceValue)]
  ) -> [(key: [UInt16], value: ReferenceValue)] {
    var merged: [(key: [UInt16], value: ReferenceValue)] = []
    for member in list {
      if let index = merged.firstIndex(where: { $0.key == member.key }) {
        merged[index].value = member.value
      } else {
        merged.append(member)
      }
    }
    return merged
  }

  func printed(_ isCanonical: Bool, number: (Double) -> String) -> String {
    switch self {
    case .literal(let word): return word
    case .number(let value): return value.isInfinite ? "null" : number(value)
    case .string(let units): return Self.quoted(units)
    case .array(let list):
      return "[" + list.map { $0.printed(isCanonical, number: number) }.joined(separator: ",") + "]"
    case .object(let list):
      var members = Self.merged(list)
      if isCanonical {
        members.sort { $0.key.lexicographicallyPrecedes($1.key) }
      } else {
        func rank(_ key: [UInt16]) -> UInt32? {
          let text = String(decoding: key, as: UTF16.self)
          guard let value = UInt32(text), String(value) == text, value < UInt32.max else { return nil }
          return value
        }
        let first = members.filter { rank($0.key) != nil }.sorted { rank($0.key) ?? 0 < rank($1.key) ?? 0 }
        members = first + members.filter { rank($0.key) == nil }
      }
      return "{"
        + members.map { Self.quoted($0.key) + ":" + $0.value.printed(isCanonical, number: number) }
        .joined(separator: ",") + "}"
    }
  }

  private static func quoted(_ units: [UInt16]) -> String {
    let short: [UInt16: String] = [8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 0x22: "\\\"", 0x5C: "\\\\"]
    var text = "\""
    var index = 0
    while index < units.count {
      let unit = units[index]
      let hex = String(unit, radix: 16)
      if let escape = short[unit] {
        text += escape
      } else if unit < 0x20 {
        text += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      } else if unit & 0xFC00 == 0xD800, index + 1 < units.count, units[index + 1] & 0xFC00 == 0xDC00 {
        text += String(decoding: [unit, units[index + 1]], as: UTF16.self)
        index += 1
      } else if unit & 0xF800 == 0xD800 {
        text += "\\u" + hex
      } else {
        text += String(decoding: [unit], as: UTF16.self)
      }
      index += 1
    }
    return text + "\""
  }
}
