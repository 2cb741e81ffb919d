/// The comma list of `BACKEND_URL` and `--backend`.
enum BackendURLs {
  static let entriesMax = 64

  /// The scheme of a URL in lower case (RFC 3986, section 3.1), or nil when the text does not begin `scheme://`.
  static func scheme(of url: String) -> String? {
    guard let separator = url.firstRange(of: "://") else { return nil }
    let scheme = url[..<separator.lowerBound]
    guard let first = scheme.utf8.first, isLetter(first),
      scheme.utf8.allSatisfy({ isLetter($0) || (0x30...0x39).contains($0) || $0 == 0x2B || $0 == 0x2D || $0 == 0x2E })
    else { return nil }
    return scheme.lowercased()
  }

  private static func isLetter(_ byte: UInt8) -> Bool { (0x61...0x7A).contains(byte | 0x20) }

  /// The entries of a list, trimmed, empty ones dropped (the reference node does both).
  static func entries(_ list: String) -> [String] {
    list.split(separator: ",").map { SettingReader.trimmed(String($0)) }.filter { !$0.isEmpty }
  }

  /// Slot names for URLs of these schemes, in order: `sqlite`, `memory`, `memory-2`. What a scheme may hold and a slot
  /// name may not becomes `-`.
  static func slotNames(schemes: [String]) -> [String] {
    var counts: [String: Int] = [:]
    return schemes.map { scheme in
      let name = String(scheme.map { $0 == "+" || $0 == "." ? "-" : $0 })
      counts[name, default: 0] += 1
      return counts[name]! == 1 ? name : "\(name)-\(counts[name]!)"
    }
  }
}
