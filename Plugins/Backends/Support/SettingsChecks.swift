import PluginAPI

/// Gathers everything that is wrong with a slot's keys.
public struct SettingsChecks {
  public private(set) var problems: [ConfigurationProblem] = []

  public init() {}

  public mutating func add(_ key: String, _ message: String) {
    problems.append(ConfigurationProblem(pointer: "/\(key)", message: message))
  }

  /// `value`, or the default when the key is not there; a number outside the range is a problem.
  public mutating func number(
    _ key: String, _ value: Int?, in range: ClosedRange<Int>, default defaultValue: Int
  ) -> Int {
    guard let value else { return defaultValue }
    if !range.contains(value) { add(key, "\(key) is \(value); give \(range.lowerBound) to \(range.upperBound)") }
    return value
  }

  /// Throws `ConfigurationErrors` with every problem.
  public func finish() throws {
    if !problems.isEmpty { throw ConfigurationErrors(problems: problems) }
  }

  /// What follows `scheme://` in a URL that names a file or directory of this machine, `%` escapes resolved; nil after
  /// adding a problem. A query or fragment is refused, because nothing would heed it.
  public mutating func path(url: String, scheme: String, backend: String, example: String) -> String? {
    let start = "\(scheme)://"
    guard url.hasPrefix(start) else {
      add("url", "the url of \(backend) begins with \(start); write \(example)")
      return nil
    }
    let written = url.utf8.dropFirst(start.utf8.count)
    if written.contains(where: { $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "#") }) {
      add(
        "url",
        "the url has a ? or #, which \(start) does not know; settings are keys of the slot, and % escapes such characters"
      )
      return nil
    }
    guard let bytes = Self.resolvingEscapes(written) else {
      add(
        "url", "the url has a % that is not followed by two hexadecimal digits; write %25 for a % in a file name")
      return nil
    }
    if bytes.contains(0) {
      add("url", "the url has a %00, which no file name can have")
      return nil
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func resolvingEscapes(_ text: Substring.UTF8View) -> [UInt8]? {
    func digit(_ byte: UInt8) -> UInt8? {
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
      default: nil
      }
    }
    var bytes: [UInt8] = []
    var rest = text[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else { return nil }
      bytes.append(high << 4 | low)
    }
    return bytes
  }
}
