import Foundation
import JSONText
import PluginAPI

/// CONFIG_URL: a B3nd node.
struct ConfigurationPlace: Sendable {
  let isTLS: Bool
  /// Without the brackets of an IPv6 address.
  let host: String
  let port: Int
  /// What comes before `/api/v1` in a path: empty, or `/below`.
  let base: String
  /// The value of the Authorization header. Never logged, never part of a message.
  let authorization: String?

  /// For people, and to ask: without credentials.
  var text: String {
    let name = host.contains(":") ? "[\(host)]" : host
    let isDefault = port == (isTLS ? 443 : 80)
    return "\(isTLS ? "https" : "http")://\(name)\(isDefault ? "" : ":\(port)")\(base)"
  }

  /// Nil when something is wrong, which is then among the problems.
  init?(_ url: String?, token: String?, problems: inout [ConfigurationProblem]) {
    func problem(_ message: String, _ key: String = "config_url") {
      problems.append(ConfigurationProblem(pointer: "/\(key)", message: message))
    }
    guard let url, !url.isEmpty else {
      problem("config_url is missing; give the node that holds the configuration, like http://config.example:9900")
      return nil
    }
    let isPlain = url.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") && $0 != UInt8(ascii: "\"") }
    guard isPlain, let parts = URLComponents(string: url), let scheme = parts.scheme?.lowercased(),
      scheme == "http" || scheme == "https", var host = parts.host, !host.isEmpty
    else {
      problem("config_url is no address of a node; write it like http://config.example:9900")
      return nil
    }
    guard parts.query == nil, parts.fragment == nil else {
      problem("config_url has a ? or #, which is no part of a node's address; leave it out")
      return nil
    }
    if let port = parts.port, !(1...65_535).contains(port) {
      problem("config_url's port must be a number from 1 to 65535")
      return nil
    }
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    isTLS = scheme == "https"
    self.host = host.lowercased()
    port = parts.port ?? (isTLS ? 443 : 80)
    var base = parts.percentEncodedPath
    while base.hasSuffix("/") { base.removeLast() }
    self.base = base
    if let token, !token.isEmpty {
      guard parts.user == nil else {
        problem("config_url has a user and there is a config_token; a request can carry one of them", "config_token")
        return nil
      }
      guard token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
        problem("config_token has a character that no token may have", "config_token")
        return nil
      }
      authorization = "Bearer \(token)"
    } else if let user = parts.user {
      var encoded: [UInt8] = []
      Array("\(user):\(parts.password ?? "")".utf8).withUnsafeBytes { Base64.encode($0, into: &encoded) }
      authorization = "Basic \(String(decoding: encoded, as: UTF8.self))"
    } else {
      authorization = nil
    }
  }
}
