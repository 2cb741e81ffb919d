/// JSON pointers (RFC 6901) as text: how problems, origins and plugin diagnostics name a place.
enum JSONPointer {
  /// `base` extended by one key; `~` and `/` are escaped as `~0` and `~1` (RFC 6901, section 3).
  static func appending(_ key: String, to base: String) -> String {
    var text = base
    text.append("/")
    for scalar in key.unicodeScalars {
      switch scalar {
      case "~": text.append("~0")
      case "/": text.append("~1")
      default: text.unicodeScalars.append(scalar)
      }
    }
    return text
  }

  /// `limits.in_flight` as `/limits/in_flight`; for keys of settings, which hold no dot inside a part.
  static func fromDotted(_ key: String) -> String {
    key.split(separator: ".").reduce("") { appending(String($1), to: $0) }
  }

  /// The dotted form for people; ambiguous when a key itself holds a dot, which is why messages carry both.
  static func dotted(_ pointer: String) -> String {
    pointer.split(separator: "/").map { part in
      replacing(replacing(String(part), "~1", "/"), "~0", "~")
    }.joined(separator: ".")
  }

  private static func replacing(_ text: String, _ from: String, _ to: String) -> String {
    text.split(separator: from, omittingEmptySubsequences: false).joined(separator: to)
  }
}
