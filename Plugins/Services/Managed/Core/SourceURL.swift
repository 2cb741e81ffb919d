import Foundation
import MessageCrypto

/// Where a schema or an update comes from: a path, `file://…`, `http://…` or `https://…`, with the digest that it must
/// have as `#sha256=<64 hexadecimal digits>`.
struct SourceURL: Equatable, Sendable {
  enum Kind: Equatable, Sendable {
    /// A plugin.
    case sharedLibrary
    case yaml
    case json
    /// What the reference's nodes load and nobody else can.
    case script
    case other
  }

  enum Place: Equatable, Sendable {
    /// Absolute.
    case path(String)
    case network(url: String)
  }

  /// As it was given, without credentials and query: for people.
  let text: String
  let place: Place
  let kind: Kind
  /// 32 bytes.
  let digest: [UInt8]?

  init(_ given: String) throws(Trouble) {
    text = Self.shown(given)
    var rest = Substring(given)
    var digest: [UInt8]?
    if let hash = rest.firstIndex(of: "#") {
      let fragment = rest[rest.index(after: hash)...]
      guard fragment.hasPrefix("sha256="), let bytes = Hexadecimal.decode(String(fragment.dropFirst(7))),
        bytes.count == SHA256.digestSizeBytes
      else { throw Trouble("what stands behind # in \(text) must be sha256= and 64 hexadecimal digits") }
      digest = bytes
      rest = rest[..<hash]
    }
    self.digest = digest
    let lowered = rest.prefix(8).lowercased()
    var path: String
    if lowered.hasPrefix("http://") || lowered.hasPrefix("https://") {
      guard let parts = URLComponents(string: String(rest)), parts.host?.isEmpty == false else {
        throw Trouble("\(text) is no URL")
      }
      place = .network(url: String(rest))
      path = parts.path
    } else {
      path = String(rest)
      if lowered.hasPrefix("file://") {
        guard let parts = URLComponents(string: path), (parts.host ?? "").isEmpty || parts.host == "localhost" else {
          throw Trouble("\(text) is no path of this machine's")
        }
        path = parts.path
      } else if path.contains("://") {
        throw Trouble("\(text) is neither a path nor a URL of http or https")
      }
      if !path.hasPrefix("/") { path = FileManager.default.currentDirectoryPath + "/" + path }
      place = .path(path)
    }
    kind = Self.kind(path)
  }

  private static func kind(_ whole: String) -> Kind {
    // As the reference appends `?t=…` to paths too.
    let path = whole.prefix { $0 != "?" }
    guard let dot = path.lastIndex(of: "."), !path[dot...].contains("/") else { return .other }
    switch path[path.index(after: dot)...].lowercased() {
    case "so": return .sharedLibrary
    case "yaml", "yml": return .yaml
    case "json": return .json
    case "js", "ts", "mjs", "mts", "cjs", "cts", "jsx", "tsx": return .script
    default: return .other
    }
  }

  /// A URL without user, password, query and fragment.
  static func shown(_ url: String) -> String {
    var text = String(url.prefix { $0 != "#" && $0 != "?" })
    if let start = text.firstRange(of: "://")?.upperBound {
      let end = text[start...].firstIndex(of: "/") ?? text.endIndex
      if let at = text[start..<end].lastIndex(of: "@") { text.removeSubrange(start...at) }
    }
    return String(text.prefix(500))
  }
}
