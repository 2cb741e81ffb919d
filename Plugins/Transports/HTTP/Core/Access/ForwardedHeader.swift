/// The header `Forwarded` (RFC 7239), read strictly: a proxy appends what it knows behind what the client claims, and only
/// a field that is well-formed from its beginning has an end that can be believed.
struct ForwardedHeader {
  /// What `for` of each element says, the nearest station last; nil for one without an address: `unknown`, a name
  /// that was made up (`_hidden`), or no `for` at all.
  let stations: [IPAddress?]

  /// The lines of one request's header, in order. Nil when any of them is not what the RFC says.
  init?(_ lines: [String]) {
    var stations: [IPAddress?] = []
    for line in lines {
      var reader = ForwardedReader(Array(line.utf8))
      guard let read = reader.elements() else { return nil }
      stations += read
    }
    self.stations = stations
  }
}

/// Reads one line.
private struct ForwardedReader {
  private let bytes: [UInt8]
  private var index = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

  /// Elements with commas between them; empty ones do not count (RFC 9110, section 5.6.1).
  mutating func elements() -> [IPAddress?]? {
    var stations: [IPAddress?] = []
    while true {
      skipBlanks()
      if next != nil, next != UInt8(ascii: ",") {
        guard let station = element() else { return nil }
        stations.append(station)
        skipBlanks()
      }
      guard let byte = next else { return stations }
      guard byte == UInt8(ascii: ",") else { return nil }
      index += 1
    }
  }

  /// `for=192.0.2.1;proto=https`: no parameter twice, and no blanks within.
  private mutating func element() -> IPAddress?? {
    var names: Set<[UInt8]> = []
    var station: IPAddress?
    while true {
      // An empty pair is allowed.
      if let byte = next, Self.isToken(byte) {
        let name = token().map { $0 >= 0x41 && $0 <= 0x5A ? $0 | 0x20 : $0 }
        guard names.insert(name).inserted, next == UInt8(ascii: "=") else { return nil }
        index += 1
        guard let value = value() else { return nil }
        if name.elementsEqual("for".utf8) {
          guard let named = Self.node(value) else { return nil }
          station = named
        }
      }
      guard next == UInt8(ascii: ";") else { return .some(station) }
      index += 1
    }
  }

  private mutating func value() -> [UInt8]? {
    guard next == UInt8(ascii: "\"") else {
      let value = token()
      return value.isEmpty ? nil : value
    }
    index += 1
    var value: [UInt8] = []
    while let byte = next {
      index += 1
      switch byte {
      case UInt8(ascii: "\""): return value
      case UInt8(ascii: "\\"):
        guard let escaped = next, Self.isText(escaped) else { return nil }
        value.append(escaped)
        index += 1
      default:
        guard Self.isText(byte) else { return nil }
        value.append(byte)
      }
    }
    return nil
  }

  private mutating func token() -> [UInt8] {
    let start = index
    while let byte = next, Self.isToken(byte) { index += 1 }
    return Array(bytes[start..<index])
  }

  private mutating func skipBlanks() {
    while let byte = next, byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") { index += 1 }
  }

  // MARK: Who it is for

  /// `192.0.2.1`, `[2001:db8::1]`, `unknown` or `_name`, each perhaps with a port. Nil: none of these.
  private static func node(_ value: [UInt8]) -> IPAddress?? {
    guard let name = value.first else { return nil }
    if name == UInt8(ascii: "[") {
      guard let end = value.firstIndex(of: UInt8(ascii: "]")), isPort(value[(end + 1)...]) else { return nil }
      let text = String(decoding: value[1..<end], as: UTF8.self)
      guard text.contains(":"), let address = IPAddress(text) else { return nil }
      return .some(address)
    }
    let end = value.firstIndex(of: UInt8(ascii: ":")) ?? value.count
    guard isPort(value[end...]) else { return nil }
    let text = value[..<end]
    if isMadeUp(text) || text.elementsEqual("unknown".utf8) { return .some(nil) }
    guard let address = IPAddress(String(decoding: text, as: UTF8.self)) else { return nil }
    return .some(address)
  }

  /// Nothing, `:4711` or `:_name`.
  private static func isPort(_ text: ArraySlice<UInt8>) -> Bool {
    guard let colon = text.first else { return true }
    let port = text.dropFirst()
    guard colon == UInt8(ascii: ":") else { return false }
    return isMadeUp(port) || ((1...5).contains(port.count) && port.allSatisfy { (0x30...0x39).contains($0) })
  }

  private static func isMadeUp(_ text: ArraySlice<UInt8>) -> Bool {
    text.count > 1 && text.first == UInt8(ascii: "_")
      && text.allSatisfy { isLetterOrDigit($0) || "._-".utf8.contains($0) }
  }

  // MARK: Characters (RFC 9110, section 5.6)

  private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20)
  }

  private static func isToken(_ byte: UInt8) -> Bool {
    isLetterOrDigit(byte) || "!#$%&'*+-.^_`|~".utf8.contains(byte)
  }

  private static func isText(_ byte: UInt8) -> Bool { byte == 0x09 || byte >= 0x20 && byte != 0x7F }
}
