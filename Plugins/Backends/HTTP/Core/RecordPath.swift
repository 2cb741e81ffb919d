import PluginAPI

/// The paths that the B3nd HTTP API has for a URI, as the peer's client builds them.
enum RecordPath {
  /// `/api/v1/<route>/<scheme>/<domain><path>`, or nil for a URI that no path leads to.
  ///
  /// The node decodes scheme and domain, and takes the rest as it is written; so a `%` of the domain is escaped, and the
  /// rest goes out byte for byte.
  /// - Parameter uri: in normal form.
  static func target(_ route: StaticString, _ uri: BorrowedBytes, base: String) -> String? {
    guard let parts = Parts(uri), !parts.domain.isEmpty else { return nil }
    // A backslash in a request path is a slash to every WHATWG parser: the record would be another.
    guard !parts.rest.contains(UInt8(ascii: "\\")) else { return nil }
    var text: [UInt8] = []
    text.reserveCapacity(base.utf8.count + uri.count + 32)
    text.append(contentsOf: base.utf8)
    text.append(contentsOf: "/api/v1/".utf8)
    text.append(contentsOf: UnsafeBufferPointer(start: route.utf8Start, count: route.utf8CodeUnitCount))
    text.append(UInt8(ascii: "/"))
    text.append(contentsOf: parts.scheme)
    text.append(UInt8(ascii: "/"))
    for byte in parts.domain {
      if byte == UInt8(ascii: "%") { text.append(contentsOf: "%25".utf8) } else { text.append(byte) }
    }
    text.append(contentsOf: parts.rest)
    return String(decoding: text, as: UTF8.self)
  }

  /// What a URI without a path to it is answered with.
  static func unaddressable(_ uri: BorrowedBytes) -> Failure {
    .invalid(
      "\(String(decoding: uri.prefix(200), as: UTF8.self)) has no domain, or a backslash: no request path of the HTTP "
        + "API leads to it")
  }

  /// The three parts of a URI in normal form.
  struct Parts {
    var scheme: BorrowedBytes
    var domain: BorrowedBytes
    /// With its leading slash, or empty.
    var rest: BorrowedBytes

    init?(_ uri: BorrowedBytes) {
      guard let colon = uri.firstIndex(of: UInt8(ascii: ":")), colon > 0, uri.count >= colon + 3,
        uri[colon + 1] == UInt8(ascii: "/"), uri[colon + 2] == UInt8(ascii: "/")
      else { return nil }
      let after = BorrowedBytes(rebasing: uri[(colon + 3)...])
      let end = after.firstIndex(of: UInt8(ascii: "/")) ?? after.count
      scheme = BorrowedBytes(rebasing: uri[..<colon])
      domain = BorrowedBytes(rebasing: after[..<end])
      rest = BorrowedBytes(rebasing: after[end...])
    }
  }
}
