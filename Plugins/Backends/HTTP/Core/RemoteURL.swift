import JSONText
import PluginAPI

/// The other node, from the slot's `url`: `http://user:password@host:port/below`.
struct RemoteURL: Sendable {
  var isTLS = false
  /// As it stands in `url`, without the brackets of an IPv6 address.
  var host = ""
  var port = 80
  /// What comes before `/api/v1` in a path: empty, or `/below`.
  var base = ""
  /// The value of the Authorization header. Never logged, never part of a message.
  var authorization: String?

  init() {}

  var isIPv6: Bool { host.utf8.contains(UInt8(ascii: ":")) }
  private var bracketed: String { isIPv6 ? "[\(host)]" : host }
  private var isDefaultPort: Bool { port == (isTLS ? 443 : 80) }

  /// The Host header.
  var authority: String { isDefaultPort ? bracketed : "\(bracketed):\(port)" }

  /// For people: without credentials.
  var text: String { "\(isTLS ? "https" : "http")://\(authority)\(base)" }

  init(_ url: String?) throws(ConfigurationProblem) {
    guard let url, !url.isEmpty else {
      throw Self.problem("url is missing; give the other node's, like http://node.example:9942")
    }
    var rest = Substring(url)
    let lowered = url.prefix(8).lowercased()
    if lowered.hasPrefix("https://") {
      isTLS = true
      port = 443
      rest = rest.dropFirst(8)
    } else if lowered.hasPrefix("http://") {
      rest = rest.dropFirst(7)
    } else {
      throw Self.problem("the url of the HTTP backend begins with http:// or https://")
    }
    guard url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "\\") && $0 != UInt8(ascii: "\"") }) else {
      throw Self.problem("the url has a character that none may have; write it as % and two hexadecimal digits")
    }
    if rest.contains(where: { $0 == "?" || $0 == "#" }) {
      throw Self.problem("the url has a ? or #, which the HTTP backend does not know; settings are keys of the slot")
    }
    if let slash = rest.firstIndex(of: "/") {
      base = String(rest[slash...])
      while base.hasSuffix("/") { base.removeLast() }
      rest = rest[..<slash]
    }
    if let at = rest.lastIndex(of: "@") {
      authorization = try Self.basic(rest[..<at])
      rest = rest[rest.index(after: at)...]
    }
    try takeHost(rest)
  }

  private mutating func takeHost(_ text: Substring) throws(ConfigurationProblem) {
    var rest = text
    if rest.first == "[" {
      guard let end = rest.firstIndex(of: "]") else { throw Self.problem("the url's [ has no ]") }
      host = String(rest[rest.index(after: rest.startIndex)..<end])
      guard host.utf8.allSatisfy({ $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ".") || hexadecimal($0) != nil }),
        isIPv6
      else { throw Self.problem("the url's host in brackets is no IPv6 address") }
      rest = rest[rest.index(after: end)...]
      guard rest.isEmpty || rest.first == ":" else { throw Self.problem("after the url's ] only :port may follow") }
    } else {
      let end = rest.firstIndex(of: ":") ?? rest.endIndex
      host = String(rest[..<end]).lowercased()
      let isName = host.utf8.allSatisfy {
        ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7a) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: ".")
          || $0 == UInt8(ascii: "_")
      }
      guard !host.isEmpty, isName, host.utf8.count <= 253 else {
        host = ""
        throw Self.problem("the url's host is missing or is no name; write it like http://node.example:9942")
      }
      rest = rest[end...]
    }
    guard rest.first == ":" else { return }
    guard let number = UInt16(rest.dropFirst()), number > 0 else {
      throw Self.problem("the url's port must be a number from 1 to 65535")
    }
    port = Int(number)
  }

  private static func basic(_ userinfo: Substring) throws(ConfigurationProblem) -> String {
    var bytes: [UInt8] = []
    var characters = userinfo.utf8.makeIterator()
    while let byte = characters.next() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = characters.next().flatMap(hexadecimal), let low = characters.next().flatMap(hexadecimal) else {
        throw problem("the url's user or password has a % that is not followed by two hexadecimal digits; write %25")
      }
      bytes.append(high << 4 | low)
    }
    if !bytes.contains(UInt8(ascii: ":")) { bytes.append(UInt8(ascii: ":")) }
    var encoded: [UInt8] = []
    bytes.withUnsafeBytes { Base64.encode($0, into: &encoded) }
    return "Basic \(String(decoding: encoded, as: UTF8.self))"
  }

  private static func problem(_ message: String) -> ConfigurationProblem {
    ConfigurationProblem(pointer: "/url", message: message)
  }
}

private func hexadecimal(_ byte: UInt8) -> UInt8? {
  switch byte {
  case 0x30...0x39: byte - 0x30
  case 0x41...0x46: byte - 0x37
  case 0x61...0x66: byte - 0x57
  default: nil
  }
}
