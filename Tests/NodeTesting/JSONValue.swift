/// A JSON value as the reference node would see it: numbers are doubles, of equal names the last wins, texts are UTF-16
/// (so that a lone surrogate is a value like any other). Foundation's reader refuses some of what a node must keep.
public indirect enum JSONValue: Hashable, Sendable {
  case null
  case bool(Bool)
  case number(Double)
  case string([UInt16])
  case array([JSONValue])
  case object([[UInt16]: JSONValue])

  /// Nil when the text is not one JSON value.
  public init?(_ text: [UInt8]) {
    var reader = Reader(bytes: text)
    guard let value = reader.value(depth: 0) else { return nil }
    reader.skipSpace()
    guard reader.place == text.count else { return nil }
    self = value
  }

  public init?(_ text: String) { self.init(Array(text.utf8)) }

  public static func text(_ text: String) -> JSONValue { .string(Array(text.utf16)) }

  public subscript(name: String) -> JSONValue? {
    get { if case .object(let members) = self { members[Array(name.utf16)] } else { nil } }
    set {
      guard case .object(var members) = self else { return }
      members[Array(name.utf16)] = newValue
      self = .object(members)
    }
  }

  public subscript(index: Int) -> JSONValue? {
    if case .array(let items) = self, items.indices.contains(index) { items[index] } else { nil }
  }

  public var items: [JSONValue]? { if case .array(let items) = self { items } else { nil } }
  public var names: Set<String>? {
    if case .object(let members) = self { Set(members.keys.map { String(decoding: $0, as: UTF16.self) }) } else { nil }
  }
  public var double: Double? { if case .number(let number) = self { number } else { nil } }
  public var string: String? {
    if case .string(let units) = self { String(decoding: units, as: UTF16.self) } else { nil }
  }

  private struct Reader {
    let bytes: [UInt8]
    var place = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    var next: UInt8? { place < bytes.count ? bytes[place] : nil }

    mutating func skipSpace() {
      while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D { place += 1 }
    }

    mutating func take(_ byte: Character) -> Bool {
      guard next == byte.asciiValue else { return false }
      place += 1
      return true
    }

    mutating func word(_ word: String, _ value: JSONValue) -> JSONValue? {
      guard bytes[place...].starts(with: word.utf8) else { return nil }
      place += word.utf8.count
      return value
    }

    mutating func value(depth: Int) -> JSONValue? {
      guard depth < 1_000 else { return nil }
      skipSpace()
      switch next {
      case UInt8(ascii: "n"): return word("null", .null)
      case UInt8(ascii: "t"): return word("true", .bool(true))
      case UInt8(ascii: "f"): return word("false", .bool(false))
      case UInt8(ascii: "\""): return string().map { .string($0) }
      case UInt8(ascii: "["): return array(depth)
      case UInt8(ascii: "{"): return object(depth)
      default: return number()
      }
    }

    mutating func array(_ depth: Int) -> JSONValue? {
      place += 1
      var items: [JSONValue] = []
      skipSpace()
      if take("]") { return .array(items) }
      while true {
        guard let item = value(depth: depth + 1) else { return nil }
        items.append(item)
        skipSpace()
        if take("]") { return .array(items) }
        guard take(",") else { return nil }
      }
    }

    mutating func object(_ depth: Int) -> JSONValue? {
      place += 1
      var members: [[UInt16]: JSONValue] = [:]
      skipSpace()
      if take("}") { return .object(members) }
      while true {
        skipSpace()
        guard let name = string() else { return nil }
        skipSpace()
        guard take(":"), let member = value(depth: depth + 1) else { return nil }
        members[name] = member
        skipSpace()
        if take("}") { return .object(members) }
        guard take(",") else { return nil }
      }
    }

    mutating func number() -> JSONValue? {
      let start = place
      while let byte = next, "+-.eE0123456789".utf8.contains(byte) { place += 1 }
      let text = String(decoding: bytes[start..<place], as: UTF8.self)
      // Double() takes "1e400" as infinity, which is what a double makes of it.
      return text.isEmpty ? nil : Double(text).map { .number($0) }
    }

    mutating func string() -> [UInt16]? {
      guard take("\"") else { return nil }
      var units: [UInt16] = []
      var plainStart = place
      func plain(_ end: Int) -> [UInt16] { Array(String(decoding: bytes[plainStart..<end], as: UTF8.self).utf16) }
      while let byte = next {
        if byte == UInt8(ascii: "\"") {
          units += plain(place)
          place += 1
          return units
        }
        guard byte >= 0x20 else { return nil }
        guard byte == UInt8(ascii: "\\") else {
          place += 1
          continue
        }
        units += plain(place)
        place += 1
        guard let unit = escape() else { return nil }
        units.append(unit)
        plainStart = place
      }
      return nil
    }

    mutating func escape() -> UInt16? {
      guard let byte = next else { return nil }
      place += 1
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return UInt16(byte)
      case UInt8(ascii: "b"): return 8
      case UInt8(ascii: "f"): return 12
      case UInt8(ascii: "n"): return 10
      case UInt8(ascii: "r"): return 13
      case UInt8(ascii: "t"): return 9
      case UInt8(ascii: "u"):
        guard place + 4 <= bytes.count else { return nil }
        defer { place += 4 }
        return UInt16(String(decoding: bytes[place..<(place + 4)], as: UTF8.self), radix: 16)
      default: return nil
      }
    }
  }
}
