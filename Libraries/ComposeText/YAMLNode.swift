/// A YAML document as it is written: mappings keep their order, and every text is quoted, so that none is taken for
/// something else (`*`, `3.8`, `no`, an empty value).
indirect enum YAMLNode {
  /// As it is; the `$` in it is no variable.
  case text(String)
  /// As it is, with compose's `${…}` in it.
  case variables(String)
  case flag(Bool)
  case number(Int)
  case list([YAMLNode])
  case mapping([(String, YAMLNode)])

  /// The document with a line break at its end.
  var text: String {
    var output = ""
    append(to: &output, indent: 0)
    return output
  }

  private func append(to output: inout String, indent: Int) {
    let margin = String(repeating: " ", count: indent)
    switch self {
    case .mapping(let members):
      for (key, value) in members {
        output += margin + Self.key(key) + ":"
        value.appendValue(to: &output, indent: indent)
      }
    case .list(let elements):
      for element in elements {
        output += margin + "-"
        element.appendValue(to: &output, indent: indent)
      }
    case .text, .variables, .flag, .number:
      output += margin + scalar + "\n"
    }
  }

  /// What stands behind `key:` or `-`.
  private func appendValue(to output: inout String, indent: Int) {
    switch self {
    case .mapping(let members) where members.isEmpty: output += " {}\n"
    case .list(let elements) where elements.isEmpty: output += " []\n"
    case .mapping, .list:
      output += "\n"
      append(to: &output, indent: indent + 2)
    default: output += " " + scalar + "\n"
    }
  }

  private var scalar: String {
    switch self {
    case .text(let text): Self.quoted(text, doublesDollars: true)
    case .variables(let text): Self.quoted(text, doublesDollars: false)
    case .flag(let value): value ? "true" : "false"
    case .number(let value): String(value)
    case .list, .mapping: ""
    }
  }

  /// Words that older readers take for truth values or nothing.
  private static let reserved: Set<String> = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]

  private static func key(_ text: String) -> String {
    let isPlain =
      text.utf8.first.map { letters.contains($0 | 0x20) || $0 == UInt8(ascii: "_") } == true
      && text.utf8.allSatisfy {
        letters.contains($0 | 0x20) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: "-")
      }
    return isPlain && !reserved.contains(text.lowercased()) ? text : quoted(text, doublesDollars: false)
  }

  private static let letters = UInt8(ascii: "a")...UInt8(ascii: "z")

  private static func quoted(_ text: String, doublesDollars: Bool) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case "$": result += doublesDollars ? "$$" : "$"
      default:
        // Controls, line separators, the byte order mark and what is no character cannot stand in a YAML stream.
        let mustEscape =
          scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || (0x2028...0x2029).contains(scalar.value)
          || scalar.value == 0xFEFF || (0xFFFE...0xFFFF).contains(scalar.value)
        if mustEscape {
          let digits = String(scalar.value, radix: 16, uppercase: true)
          result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result + "\""
  }
}
