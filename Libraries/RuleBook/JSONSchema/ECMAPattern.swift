/// Regular expressions of JavaScript (ECMA-262), which JSON Schema asks for, in ICU's dialect.
///
/// Where the two differ without an error: `$` ends the text and nothing else (ICU's also comes before a last line
/// break), `\d` and `\w` are ASCII, and in a set `[`, `&&` and `--` mean themselves.
enum ECMAPattern {
  static func translated(_ pattern: String) -> String {
    var result = ""
    var isInSet = false
    var scalars = Substring(pattern).unicodeScalars
    while let scalar = scalars.popFirst() {
      switch scalar {
      case "\\":
        guard let next = scalars.popFirst() else {
          result += "\\"
          break
        }
        switch next {
        case "d": result += isInSet ? "0-9" : "[0-9]"
        case "D": result += "[^0-9]"
        case "w": result += isInSet ? "A-Za-z0-9_" : "[A-Za-z0-9_]"
        case "W": result += "[^A-Za-z0-9_]"
        case "s": result += isInSet ? whitespace : "[\(whitespace)]"
        case "S": result += "[^\(whitespace)]"
        case "c":
          // A control character by its letter.
          if let letter = scalars.first, ("a"..."z").contains(letter) || ("A"..."Z").contains(letter) {
            scalars.removeFirst()
            result += "\\u00" + (letter.value & 31 < 16 ? "0" : "1") + String(letter.value & 15, radix: 16)
          } else {
            result += "\\\\c"
          }
        // Escapes that ICU has and JavaScript has not: the character itself.
        case "A", "Z", "z", "G", "Q", "E", "X", "h", "H", "R", "a", "e", "N": result.unicodeScalars.append(next)
        case "x" where !isHexadecimal(scalars): result += "x"
        default:
          result += "\\"
          result.unicodeScalars.append(next)
        }
      case "[" where isInSet: result += "\\["
      case "[":
        isInSet = true
        result += "["
        if scalars.first == "^" {
          scalars.removeFirst()
          result += "^"
        }
        // An empty set matches nothing, its opposite everything.
        if scalars.first == "]" {
          scalars.removeFirst()
          isInSet = false
          let isEverything = result.hasSuffix("^")
          result.removeLast(isEverything ? 2 : 1)
          result += isEverything ? "[\\u0000-\\U0010ffff]" : "[^\\u0000-\\U0010ffff]"
        }
      case "]" where isInSet:
        isInSet = false
        result += "]"
      case "&" where isInSet: result += "\\&"
      case "-" where isInSet && scalars.first == "-":
        scalars.removeFirst()
        result += "\\--"
      case "$" where !isInSet: result += "\\z"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// What `\s` is in JavaScript.
  private static let whitespace =
    "\\t\\n\\u000b\\f\\r \\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000\\ufeff"

  /// `\x41` is a character; an `x` that no digits follow is itself.
  private static func isHexadecimal(_ rest: Substring.UnicodeScalarView) -> Bool {
    rest.prefix(2).count == 2 && rest.prefix(2).allSatisfy { $0.isASCII && $0.properties.isHexDigit }
  }
}
