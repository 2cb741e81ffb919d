import CPostgreSQL
import PluginAPI

/// A connection URL, read by libpq. Whatever is said about it leaves out what is secret.
struct ConnectionURL: Sendable {
  /// libpq's keywords and their values, only those that are given.
  private(set) var parameters: [(keyword: String, value: String)] = []
  /// Where it leads, for messages: `db.example:5432/b3nd`.
  private(set) var place = ""
  /// What must never be printed.
  private(set) var secrets: [String] = []

  init() {}

  /// Reads a URL. Touches neither network nor files.
  static func parse(_ text: String) -> Result<ConnectionURL, ConfigurationProblem> {
    func problem(_ message: String) -> Result<ConnectionURL, ConfigurationProblem> {
      .failure(ConfigurationProblem(pointer: "/url", message: message))
    }
    let schemes = ["postgresql://", "postgres://"]
    guard let scheme = schemes.first(where: { text.hasPrefix($0) }) else {
      return problem(
        "the url of the PostgreSQL backend begins with postgresql://; write postgresql://user:password@host/database")
    }
    if text.utf8.contains(0) { return problem("the url has a zero byte") }
    if let message = ambiguity(of: text.dropFirst(scheme.count)) { return problem(message) }
    var error: UnsafeMutablePointer<CChar>?
    guard let options = PQconninfoParse(text, &error) else {
      defer { PQfreemem(error) }
      return problem(sentence(libpq: error.map { String(cString: $0) } ?? ""))
    }
    defer { PQconninfoFree(options) }
    return .success(ConnectionURL(options))
  }

  private init(_ options: UnsafeMutablePointer<PQconninfoOption>) {
    var option = options
    while let keyword = option.pointee.keyword {
      if let value = option.pointee.val {
        let pair = (keyword: String(cString: keyword), value: String(cString: value))
        parameters.append(pair)
        // libpq marks what a dialogue should hide.
        if let display = option.pointee.dispchar, display[0] == 0x2a { secrets.append(pair.value) }
      }
      option += 1
    }
    secrets = secrets.filter { !$0.isEmpty }.sorted { $0.utf8.count > $1.utf8.count }
    let host = self["host"] ?? self["hostaddr"] ?? self["service"].map { "service \($0)" } ?? "the local server"
    let port = self["port"].map { ":\($0)" } ?? ""
    let database = self["dbname"] ?? self["user"]
    place = host + port + (database.map { "/\($0)" } ?? "")
  }

  subscript(keyword: String) -> String? { parameters.first { $0.keyword == keyword }?.value }

  /// The text without any secret, in one line, cut to a readable length.
  func redacted(_ text: String) -> String {
    var line = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    for secret in secrets {
      line = line.split(separator: secret, omittingEmptySubsequences: false).joined(separator: "***")
    }
    return line.count > 400 ? "\(line.prefix(400))…" : line
  }

  /// A password that is not escaped would be taken for a host, a port or a database, and be printed as such.
  private static func ambiguity(of rest: Substring) -> String? {
    let authority = rest.prefix { $0 != "/" && $0 != "?" }
    let path = rest.dropFirst(authority.count).prefix { $0 != "?" }
    let query = rest.dropFirst(authority.count + path.count)
    let advice = "percent-encode it there: / is %2F, @ is %40, : is %3A, ? is %3F"
    let signs = authority.count { $0 == "@" }
    if signs > 1 || path.contains("@") || (signs == 0 && !query.contains("=") && query.contains("@")) {
      return "the url has an @ in user, password or database that is not the one before the host; \(advice)"
    }
    let hosts = signs == 0 ? authority : authority.drop { $0 != "@" }.dropFirst()
    for host in hosts.split(separator: ",") {
      let end = host.lastIndex(of: "]").map { host.index(after: $0) } ?? host.startIndex
      let parts = host[end...].split(separator: ":", omittingEmptySubsequences: false)
      let port = parts.count > 1 ? parts[parts.count - 1] : ""
      if parts.count > 2 || (!port.isEmpty && UInt16(port) == nil) {
        return "the url has no number from 1 to 65535 as its port; if that is part of a password, \(advice)"
      }
    }
    return nil
  }

  /// libpq's messages quote the URL, of which only the names of parameters are known to be harmless.
  private static func sentence(libpq message: String) -> String {
    let text = message.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    let unknown = "invalid URI query parameter: "
    if text.hasPrefix(unknown) {
      let name = text.dropFirst(unknown.count).prefix(80)
      return
        "the url has the parameter \(name), which libpq does not know; the backend's own settings are keys of the slot"
    }
    if text.contains("percent-encoded") {
      return "the url has a % that is not followed by two hexadecimal digits, or %00; write %25 for a %"
    }
    if text.contains("IPv6") { return "the url has a malformed IPv6 address; write [::1]" }
    return "the url is malformed; write postgresql://user:password@host:port/database?parameter=value, all of it "
      + "percent-encoded"
  }
}
