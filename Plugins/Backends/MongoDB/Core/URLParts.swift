import PluginAPI

/// A `mongodb://` URL cut where its parts meet, as written.
struct URLParts {
  struct Option {
    /// In lower case: names are compared without case.
    var name: String
    var written: String
    /// As written, with its escapes; nil without a `=`.
    var value: String?
  }

  /// Before the `?`.
  let head: String
  /// `host:port` of each server, without user information.
  let hosts: String
  let options: [Option]
  /// For messages: no user information, no options.
  let redacted: String
  /// User name, password and secret options, as written and decoded.
  let secrets: [String]

  init(_ url: String) throws(ConfigurationErrors) {
    guard let scheme = ["mongodb://", "mongodb+srv://"].first(where: { url.hasPrefix($0) }) else {
      throw ConnectionString.problem(
        "the url of the MongoDB backend begins with mongodb:// or mongodb+srv://; write mongodb://host:port/database")
    }
    let rest = url.dropFirst(scheme.count)
    let question = rest.firstIndex(of: "?") ?? rest.endIndex
    options = question == rest.endIndex ? [] : Self.options(rest[rest.index(after: question)...])
    // Then what looks like a host is the beginning of a password, and like an option the end of it.
    if options.contains(where: { $0.name.contains("@") }) {
      throw ConnectionString.problem(
        "the url has an @ where options are; write %3F for a ? in the user name or password, and %40 for an @")
    }
    let address = rest[..<question]
    // A password may hold an unescaped slash or at-sign by mistake: everything up to the last at-sign is secret.
    let at = address.lastIndex(of: "@")
    let afterUser = at.map { address[address.index(after: $0)...] } ?? address
    // In a list of URLs, as in BACKEND_URL, a comma between hosts is written as an escape.
    hosts = String(afterUser.prefix { $0 != "/" }).replacing("%2C", with: ",").replacing("%2c", with: ",")
    let path = afterUser.drop { $0 != "/" }
    head = scheme + address[..<afterUser.startIndex] + hosts + path
    redacted = scheme + (at == nil ? "" : "***@") + hosts + path
    var secrets: [String] = []
    if let at {
      let user = address[..<at]
      let colon = user.firstIndex(of: ":") ?? user.endIndex
      secrets = [String(user[..<colon]), String(user[colon...].dropFirst()), String(user)]
    }
    let secretOptions = [
      "tlscertificatekeyfilepassword", "sslclientcertificatekeypassword", "authmechanismproperties",
    ]
    secrets += options.filter { secretOptions.contains($0.name) }.compactMap(\.value)
    self.secrets = secrets + secrets.compactMap(PercentText.decode)
  }

  private static func options(_ query: Substring) -> [Option] {
    query.split(whereSeparator: { $0 == "&" || $0 == ";" }).map { pair in
      let written = String(pair.prefix { $0 != "=" })
      let value = pair.dropFirst(written.count)
      return Option(
        name: written.lowercased(), written: written, value: value.isEmpty ? nil : String(value.dropFirst()))
    }
  }

  /// What libmongoc is given.
  var withoutOurOptions: String {
    let theirs = options.filter { $0.name != "collection" }.map { $0.written + ($0.value.map { "=\($0)" } ?? "") }
    return head + (theirs.isEmpty ? "" : "?" + theirs.joined(separator: "&"))
  }
}

/// `%` escapes.
enum PercentText {
  /// nil when a `%` is not followed by two hexadecimal digits, or the result is no UTF-8.
  static func decode(_ text: String) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else { return nil }
      bytes.append(high << 4 | low)
    }
    return String(validating: bytes, as: UTF8.self)
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
