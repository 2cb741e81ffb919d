/// Takes secrets out of what is printed. Everything that shows a configured value goes through here: logs, errors,
/// `config show`, receipts.
public enum Redaction {
  /// What stands in the place of a secret.
  public static let mark = "***"

  /// A URL with the password of its user information and the values of secret-looking query parameters replaced by
  /// `***`. Works on any text: what is not a URL comes back unchanged, and of a comma list every URL is treated.
  ///
  /// The user information ends at the *last* `@` before the path, as URL parsers have it (RFC 3986, section 3.2), so
  /// that a password holding an unescaped `@` leaves no tail behind.
  public static func redact(_ text: String) -> String {
    var result = ""
    var rest = Substring(text)
    while let separator = firstSeparator(in: rest) {
      let afterSeparator = rest.index(separator, offsetBy: 3)
      result += rest[..<afterSeparator]
      rest = rest[afterSeparator...]
      // A `/` may stand unescaped in a password, too: up to the next white space, whatever precedes an `@` that is
      // followed by something like a host counts as user information.
      let end = rest.firstIndex(where: \.isWhitespace) ?? rest.endIndex
      let nextURL = nextListedURL(in: rest[..<end]) ?? end
      result += redactAfterScheme(rest[..<nextURL])
      rest = rest[nextURL...]
    }
    return result + rest
  }

  /// True for keys whose values are not to be shown: `password`, `db_password`, `api_key`, `private_key`, … but not
  /// `password_file`, which holds a path.
  public static func isSecretKey(_ key: String) -> Bool {
    let key = key.lowercased().split(separator: "-").joined(separator: "_")
    return secretWords.contains { key == $0 || key.hasSuffix("_" + $0) }
  }

  /// A value as it may be shown under `key`: `***` when the key says that it is secret, redacted otherwise. A
  /// placeholder (`${credential:db}`) is not itself a secret and is shown.
  static func shown(_ value: String, underKey key: String) -> String {
    guard isSecretKey(key), !value.isEmpty else { return redact(value) }
    return value.hasPrefix("${") && value.hasSuffix("}") ? value : mark
  }

  /// A value for an error message: redacted, shortened to 80 characters, in quotes with control characters escaped.
  static func quoted(_ value: String) -> String {
    let shown = redact(value)
    return JSONString.quoted(shown.count > 80 ? shown.prefix(80) + "…" : shown)
  }

  static let secretWords = [
    "password", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "private_key", "secret_key",
    "access_key", "credential", "credentials", "private_key_pem", "private_key_hex",
  ]

  private static func firstSeparator(in text: Substring) -> Substring.Index? {
    var index = text.startIndex
    while index < text.endIndex {
      if text[index...].hasPrefix("://") { return index }
      index = text.index(after: index)
    }
    return nil
  }

  /// The comma that begins the next entry of a list of URLs (`a://…,b://…`).
  private static func nextListedURL(in text: Substring) -> Substring.Index? {
    var index = text.startIndex
    while let comma = text[index...].firstIndex(of: ",") {
      let scheme = text[text.index(after: comma)...].prefix { $0.isLetter || $0.isNumber || "+-. ".contains($0) }
      if !scheme.isEmpty, text[scheme.endIndex...].hasPrefix("://") { return comma }
      index = text.index(after: comma)
    }
    return nil
  }

  private static func redactAfterScheme(_ text: Substring) -> String {
    let queryStart = text.firstIndex(of: "?") ?? text.endIndex
    var result = ""
    var rest = text
    // The last `@` before the query, or, when a password holds a `?`, the last `@` at all.
    let head = text[..<queryStart]
    if let at = head.lastIndex(of: "@") ?? authorityAt(in: text) {
      let user = text[..<at]
      if let colon = user.firstIndex(of: ":") {
        result += String(user[...colon]) + mark
      } else {
        result += user
      }
      rest = text[at...]
    }
    return result + redactQuery(rest)
  }

  /// An `@` behind a `?` belongs to the user information only when a password was begun before it (`user:pa?ss@host`).
  private static func authorityAt(in text: Substring) -> Substring.Index? {
    guard let query = text.firstIndex(of: "?"), let colon = text.firstIndex(of: ":"), colon < query,
      let at = text.lastIndex(of: "@"), !text[..<query].contains("/"),
      !text[text.index(after: colon)..<query].allSatisfy(\.isNumber)
    else { return nil }
    return at
  }

  private static func redactQuery(_ text: Substring) -> String {
    guard let question = text.firstIndex(of: "?") else { return String(text) }
    let query = text[text.index(after: question)...]
    let parameters = query.split(separator: "&", omittingEmptySubsequences: false).map { parameter -> String in
      guard let equals = parameter.firstIndex(of: "="), isSecretKey(String(parameter[..<equals])) else {
        return String(parameter)
      }
      return String(parameter[...equals]) + mark
    }
    return String(text[...question]) + parameters.joined(separator: "&")
  }
}
