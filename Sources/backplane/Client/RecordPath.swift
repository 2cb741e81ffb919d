/// Record URIs in request paths: `mutable://open/a b` is read at `/api/v1/read/mutable/open/a%20b`.
enum RecordPath {
  /// The path below `/api/v1/VERB`. A query and a fragment are no part of a record's address and are left out.
  static func path(of uri: String) throws -> String {
    guard let separator = uri.firstRange(of: "://") else {
      throw CommandFailure(
        .usage, "\"\(uri)\" is not a record's URI. Write scheme://program/path, such as mutable://open/x.")
    }
    let scheme = uri[..<separator.lowerBound]
    let end = uri[separator.upperBound...].firstIndex { $0 == "?" || $0 == "#" } ?? uri.endIndex
    let rest = uri[separator.upperBound..<end]
    let authority = rest.prefix { $0 != "/" }
    guard !scheme.isEmpty, !authority.isEmpty else {
      throw CommandFailure(
        .usage, "\"\(uri)\" has no \(scheme.isEmpty ? "scheme" : "program") (scheme://program/path).")
    }
    return "/" + encoded(scheme) + "/" + encoded(rest)
  }

  /// A query's value: everything but unreserved characters (RFC 3986, section 2.3) escaped.
  static func queryEncoded(_ text: String) -> String {
    escaped(text.utf8) { byte in
      (0x61...0x7A).contains(byte | 0x20) || (0x30...0x39).contains(byte) || [0x2D, 0x2E, 0x5F, 0x7E].contains(byte)
    }
  }

  /// What the node's own normalising escapes, and no more: a record's key keeps its escapes, so `|` and `%7C` differ.
  private static func encoded(_ text: Substring) -> String {
    escaped(text.utf8) { byte in byte > 0x20 && byte < 0x7F && !"\"<>`{}".utf8.contains(byte) }
  }

  private static func escaped(_ bytes: some Sequence<UInt8>, keeping isKept: (UInt8) -> Bool) -> String {
    var text = ""
    for byte in bytes {
      if isKept(byte) {
        text.unicodeScalars.append(Unicode.Scalar(byte))
      } else {
        let digits = String(byte, radix: 16, uppercase: true)
        text += "%" + (digits.count < 2 ? "0" : "") + digits
      }
    }
    return text
  }
}
