import PluginAPI

/// A JSON value of a rules file; members keep their order.
package indirect enum RuleValue: Sendable, Equatable {
  case null
  case boolean(Bool)
  case integer(Int64)
  case number(Double)
  case text(String)
  case list([RuleValue])
  case mapping([Member])

  package struct Member: Sendable, Equatable {
    package var key: String
    package var value: RuleValue

    package init(_ key: String, _ value: RuleValue) {
      self.key = key
      self.value = value
    }
  }

  /// The value under a key of a mapping; nil for anything else.
  package subscript(key: String) -> RuleValue? {
    guard case .mapping(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }

  /// How a problem names what it found.
  var found: String {
    switch self {
    case .null: "empty"
    case .boolean(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .text(let text): "the text \"\(text.count > 60 ? text.prefix(60) + "…" : text)\""
    case .list: "a list"
    case .mapping: "a mapping"
    }
  }

  /// The whole number it is, also when it is written as `1e3`.
  var whole: Int64? {
    switch self {
    case .integer(let value): value
    case .number(let value): Int64(exactly: value)
    default: nil
    }
  }

  var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let value): value
    default: nil
    }
  }
}

extension RuleValue: Decodable {
  private struct Key: CodingKey {
    let stringValue: String
    let intValue: Int? = nil
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  package init(from decoder: any Decoder) throws {
    if let container = try? decoder.container(keyedBy: Key.self) {
      self = .mapping(
        try container.allKeys.map {
          Member($0.stringValue, try container.decodeIfPresent(RuleValue.self, forKey: $0) ?? .null)
        })
      return
    }
    if var container = try? decoder.unkeyedContainer() {
      var items: [RuleValue] = []
      while !container.isAtEnd { items.append(try container.decodeIfPresent(RuleValue.self) ?? .null) }
      self = .list(items)
      return
    }
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .boolean(value)
    } else if let value = try? container.decode(Int64.self) {
      self = .integer(value)
    } else if let value = try? container.decode(String.self) {
      self = .text(value)
    } else {
      self = .number(try container.decode(Double.self))
    }
  }

  /// Reads JSON text strictly.
  package static func parse(_ json: [UInt8]) throws(ConfigurationErrors) -> RuleValue {
    let result = json.withUnsafeBufferPointer { json -> Result<RuleValue, ConfigurationErrors> in
      do throws(ConfigurationErrors) {
        return .success(try ConfigurationDecoder.decode(RuleValue.self, from: json))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  /// The value as JSON text.
  func write(to text: inout [UInt8]) {
    switch self {
    case .null: text += "null".utf8
    case .boolean(let value): text += (value ? "true" : "false").utf8
    case .integer(let value): text += "\(value)".utf8
    case .number(let value): text += "\(value)".utf8
    case .text(let value): Self.write(value, to: &text)
    case .list(let items):
      text.append(UInt8(ascii: "["))
      for (index, item) in items.enumerated() {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        item.write(to: &text)
      }
      text.append(UInt8(ascii: "]"))
    case .mapping(let members):
      text.append(UInt8(ascii: "{"))
      for (index, member) in members.enumerated() {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        Self.write(member.key, to: &text)
        text.append(UInt8(ascii: ":"))
        member.value.write(to: &text)
      }
      text.append(UInt8(ascii: "}"))
    }
  }

  private static func write(_ value: String, to text: inout [UInt8]) {
    text.append(UInt8(ascii: "\""))
    for byte in value.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        text.append(UInt8(ascii: "\\"))
        text.append(byte)
      case 0..<0x20:
        let digits = Array("0123456789abcdef".utf8)
        text += "\\u00".utf8
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
      default: text.append(byte)
      }
    }
    text.append(UInt8(ascii: "\""))
  }
}
