/// What a request asks for. The raw value is the index of its counter.
enum Route: Int, CaseIterable {
  case read, receive, list, delete, readMulti, schema, health, live, ready, metrics, webSocket, options
  case unrouted, refused

  /// The label of its metric.
  var label: String {
    switch self {
    case .readMulti: "read_multi"
    case .webSocket: "websocket"
    default: "\(self)"
    }
  }
}

/// A request target, taken apart. Borrows from the target's text.
struct RequestTarget {
  typealias Bytes = UnsafeBufferPointer<UInt8>

  var route = Route.unrouted
  /// For read, list and delete: the three parts of the path, still percent-encoded.
  var scheme = Bytes(start: nil, count: 0)
  var domain = Bytes(start: nil, count: 0)
  /// With its leading slash, or empty.
  var rest = Bytes(start: nil, count: 0)
  /// Without query and fragment.
  var path = Bytes(start: nil, count: 0)
  /// Without the question mark.
  var query = Bytes(start: nil, count: 0)
  /// The domain and the rest: what the Content-Type of bytes is taken from.
  var tail: Bytes {
    guard let start = domain.baseAddress else { return domain }
    return Bytes(start: start, count: domain.count + rest.count)
  }

  init(_ text: Bytes, method: Method) {
    if method == .options {
      route = .options
      return
    }
    var path = Self.withoutAuthority(text)
    if let fragment = path.firstIndex(of: UInt8(ascii: "#")) { path = Bytes(rebasing: path[..<fragment]) }
    if let mark = path.firstIndex(of: UInt8(ascii: "?")) {
      query = Bytes(rebasing: path[(mark + 1)...])
      path = Bytes(rebasing: path[..<mark])
    }
    self.path = path
    let isGet = method == .get || method == .head
    guard Self.hasPrefix(path, "/api/v1/") else {
      guard isGet else { return }
      if Self.equals(path, "/health") {
        route = .health
      } else if Self.equals(path, "/health/live") {
        route = .live
      } else if Self.equals(path, "/health/ready") {
        route = .ready
      } else if Self.equals(path, "/metrics") {
        route = .metrics
      }
      return
    }
    let name = Bytes(rebasing: path[8...])
    if isGet {
      if Self.hasPrefix(name, "read/") {
        splitRecord(Bytes(rebasing: name[5...]), .read)
      } else if Self.hasPrefix(name, "list/") {
        splitRecord(Bytes(rebasing: name[5...]), .list)
      } else if Self.equals(name, "health") {
        route = .health
      } else if Self.equals(name, "schema") {
        route = .schema
      } else if Self.equals(name, "ws") {
        route = .webSocket
      }
    } else if method == .post {
      if Self.equals(name, "receive") {
        route = .receive
      } else if Self.equals(name, "read-multi") {
        route = .readMulti
      }
    } else if method == .delete, Self.hasPrefix(name, "delete/") {
      splitRecord(Bytes(rebasing: name[7...]), .delete)
    }
  }

  /// `protocol/domain` and whatever follows; both must have at least one byte.
  private mutating func splitRecord(_ path: Bytes, _ route: Route) {
    guard let first = path.firstIndex(of: UInt8(ascii: "/")), first > 0 else { return }
    let after = Bytes(rebasing: path[(first + 1)...])
    let end = after.firstIndex(of: UInt8(ascii: "/")) ?? after.count
    guard end > 0 else { return }
    scheme = Bytes(rebasing: path[..<first])
    domain = Bytes(rebasing: after[..<end])
    rest = Bytes(rebasing: after[end...])
    self.route = route
  }

  /// A target in absolute form (`http://host/path`, as sent to proxies) counts as its path.
  private static func withoutAuthority(_ text: Bytes) -> Bytes {
    if text.first == UInt8(ascii: "/") { return text }
    for prefix in ["http://", "https://"] as [StaticString] where hasPrefix(text, prefix) {
      let after = Bytes(rebasing: text[prefix.utf8CodeUnitCount...])
      guard let slash = after.firstIndex(of: UInt8(ascii: "/")) else { return Bytes(start: nil, count: 0) }
      return Bytes(rebasing: after[slash...])
    }
    return text
  }

  @inline(__always)
  private static func hasPrefix(_ bytes: Bytes, _ prefix: StaticString) -> Bool {
    let count = prefix.utf8CodeUnitCount
    guard bytes.count >= count else { return false }
    for index in 0..<count where bytes[index] != prefix.utf8Start[index] { return false }
    return true
  }

  @inline(__always)
  private static func equals(_ bytes: Bytes, _ text: StaticString) -> Bool {
    bytes.count == text.utf8CodeUnitCount && hasPrefix(bytes, text)
  }
}
