/// Keeps secrets out of messages. It errs towards hiding: a value hidden for nothing costs a look at the file.
enum ConfigurationRedaction {
  private static let secretWords = [
    "password", "passwd", "passphrase", "secret", "token", "key", "credential", "authorization",
  ].map { Array($0.utf8) }
  private static let shownScalarsMax = 64
  private static let messageScalarsMax = 1_000

  /// Whether a key by this name is likely to hold a secret (`apiKey`, `PASS_WORD`, `client-secret`, ...).
  static func looksSecret(_ name: String) -> Bool {
    let folded = name.lowercased().utf8.filter { $0 != UInt8(ascii: "_") && $0 != UInt8(ascii: "-") }
    return secretWords.contains { contains(folded, $0) }
  }

  /// The value in a few words: `the text "abc"`, `the number 1.5`, `a list`.
  static func describe(_ value: ConfigurationValue, at place: ConfigurationPlace) -> String {
    switch value {
    case .null: return "null"
    case .list: return "a list"
    case .object: return "an object"
    case .boolean(let flag):
      return place.isSecret ? "a boolean (not shown: its key looks secret)" : flag ? "true" : "false"
    case .number(let digits):
      return place.isSecret ? "a number (not shown: its key looks secret)" : "the number \(truncated(digits))"
    case .text(let text):
      if place.isSecret { return "a text (not shown: its key looks secret)" }
      guard let shown = shown(text) else { return "a text (not shown: it looks as if it carried a secret)" }
      return "the text \(quoted(shown))"
    }
  }

  static func quotedKey(_ key: String) -> String { quoted(hidingUserInformation(inValue: key)) }

  /// The message of an error that the author of the type (or the standard library) wrote about `value`, or nothing
  /// when it repeats a value that has to stay hidden.
  static func message(_ message: String, about value: ConfigurationValue?, at place: ConfigurationPlace) -> String {
    let bytes = Array(message.utf8)
    if let value, repeatsSecret(bytes, in: value, at: place, lengthBytesMin: 1) {
      return "the value is not accepted; the reason is withheld because it repeats a value that looks secret."
    }
    // Word by word, as prose around a URL may hold an at-sign of its own.
    let words = message.split(separator: " ", omittingEmptySubsequences: false)
    return truncated(
      words.map { hidingUserInformation(inValue: String($0)) }.joined(separator: " "), scalarsMax: messageScalarsMax)
  }

  /// Replaces what stands between `://` and the last `@`. A password may hold an unescaped `/`, so the end of the
  /// authority is no boundary to trust.
  static func hidingUserInformation(inValue text: String) -> String {
    let scalars = text.unicodeScalars
    guard let at = scalars.lastIndex(of: "@") else { return text }
    var index = scalars.startIndex
    while let colon = scalars[index..<at].firstIndex(of: ":") {
      let authority = scalars[colon..<at].prefix(3)
      if authority.elementsEqual("://".unicodeScalars) {
        return String(scalars[..<authority.endIndex]) + "***" + String(scalars[at...])
      }
      index = scalars.index(after: colon)
    }
    return text
  }

  /// In quotes, on one line, of bounded length, and with nothing that moves a terminal's cursor.
  static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in truncated(text).unicodeScalars {
      switch scalar {
      case "\"", "\\":
        result += "\\"
        result.unicodeScalars.append(scalar)
      case _
      where [.control, .format, .lineSeparator, .paragraphSeparator].contains(scalar.properties.generalCategory):
        result += "\\u{\(String(scalar.value, radix: 16))}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  /// The text without user information, or nothing when a secret seems to stand inside it (`password=...`).
  private static func shown(_ text: String) -> String? {
    if text.utf8.contains(UInt8(ascii: "=")), looksSecret(text) { return nil }
    return hidingUserInformation(inValue: text)
  }

  private static func repeatsSecret(
    _ message: [UInt8], in value: ConfigurationValue, at place: ConfigurationPlace, lengthBytesMin: Int
  ) -> Bool {
    // Of a value deeper down only what is long enough not to occur in any sentence.
    let lengthBelowBytesMin = 4
    switch value {
    case .null, .boolean: return false
    case .number(let text), .text(let text):
      guard place.isSecret || shown(text) != text, text.utf8.count >= lengthBytesMin else { return false }
      // The beginning is enough to be sure, and bounds the search.
      return !text.isEmpty && contains(message, Array(text.utf8.prefix(64)))
    case .list(let items):
      return items.enumerated().contains { index, item in
        repeatsSecret(
          message, in: item.value, at: place.appending(index: index), lengthBytesMin: lengthBelowBytesMin)
      }
    case .object(let object):
      return object.members.contains { key, node in
        repeatsSecret(message, in: node.value, at: place.appending(key: key), lengthBytesMin: lengthBelowBytesMin)
      }
    }
  }

  private static func truncated(_ text: String, scalarsMax: Int = shownScalarsMax) -> String {
    let scalars = text.unicodeScalars
    guard let end = scalars.index(scalars.startIndex, offsetBy: scalarsMax, limitedBy: scalars.endIndex),
      end != scalars.endIndex
    else { return text }
    return String(scalars[..<end]) + "…"
  }

  /// By bytes: a combining mark after a secret must not hide it from the search.
  private static func contains(_ bytes: [UInt8], _ sought: [UInt8]) -> Bool {
    guard sought.count <= bytes.count else { return false }
    guard let first = sought.first else { return true }
    var start = 0
    while start <= bytes.count - sought.count {
      // Most bytes end here: keys are many, and each is searched for every word.
      if bytes[start] == first, bytes[start...].starts(with: sought) { return true }
      start += 1
    }
    return false
  }
}
