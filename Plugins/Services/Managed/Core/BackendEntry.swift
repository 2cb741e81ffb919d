import Foundation
import JSONText
import ManagedNode

/// One entry of a proposal's `backends`: a backend of the configuration in the words of the plugin that serves it.
struct BackendEntry: Equatable, Sendable {
  var url: String
  /// Keys of the slot, as JSON.
  var keys: [(name: String, json: String)] = []

  static func == (one: BackendEntry, other: BackendEntry) -> Bool {
    one.url == other.url && one.keys.elementsEqual(other.keys, by: ==)
  }

  /// - Parameter index: its place in `backends`, for what is said of it.
  init(_ backend: ManagedConfiguration.Backend, at index: Int) throws(Trouble) {
    let place = "backends[\(index)]"
    url = backend.url
    let scheme = url.firstRange(of: "://").map { url[..<$0.lowerBound].lowercased() }
    let schemes = Self.schemes(backend.type)
    guard let scheme, schemes.contains(scheme) else {
      throw Trouble(
        "\(place).url is no address for the type \(backend.type.rawValue): it must begin with "
          + schemes.map { "\($0)://" }.joined(separator: " or "))
    }
    try refuseUnknownOptions(backend, place)
    let options = backend.options
    switch backend.type {
    // Whatever stands behind it: there is one memory.
    case .memory: url = "memory://"
    case .http, .sqlite: break
    case .postgresql:
      if let prefix = options.tablePrefix { keys.append(("table_prefix", Self.json(ProposalText.plain(prefix)))) }
      // One connection writes, and reads and scans have theirs.
      if let size = options.poolSize { keys.append(("connections_max", Self.json(size, 3...100))) }
      if let timeout = options.connectionTimeoutMs {
        keys.append(("connect_timeout_ms", Self.json(timeout, 100...600_000)))
      }
    case .mongodb: if let name = options.collectionName { try setCollection(name, place) }
    }
  }

  init(_ peer: ManagedConfiguration.Peer) {
    url = peer.url
    keys = [("peer", Self.json(peer.direction.rawValue))]
  }

  func append(to output: inout [UInt8]) {
    output += Array(#"{"url":"#.utf8)
    JSONWriter.appendString(ProposalText.plain(url), to: &output)
    for (name, json) in keys { output += Array(#","\#(name)":\#(json)"#.utf8) }
    output.append(UInt8(ascii: "}"))
  }

  /// The schemes that a backend of this type has, and those of its slot in the host's words.
  static func schemes(_ type: ManagedConfiguration.Backend.Kind) -> [String] {
    switch type {
    case .memory: ["memory"]
    case .postgresql: ["postgresql", "postgres"]
    case .mongodb: ["mongodb"]
    case .http: ["http", "https"]
    case .sqlite: ["sqlite"]
    case .sqlite: ["sqlite"]
    }
  }

  private static let options: [ManagedConfiguration.Backend.Kind: [String]] = [
    .memory: [], .http: [], .sqlite: [], .postgresql: ["tablePrefix", "poolSize", "connectionTimeout"],
    .mongodb: ["collectionName"],
  ]

  /// An option that is not known, or of the wrong type, is a wish that would not be granted.
  private func refuseUnknownOptions(_ backend: ManagedConfiguration.Backend, _ place: String) throws(Trouble) {
    guard let raw = backend.rawOptions else { return }
    let known = Self.options[backend.type] ?? []
    let problem = raw.withSlice { options -> String? in
      guard options.kind == .object else { return "\(place).options must be an object" }
      for (key, value) in options.members {
        let name = key.text ?? ""
        guard known.contains(name) else {
          let knows = known.isEmpty ? "has none" : "has " + known.joined(separator: ", ")
          return "\(place).options.\(name.prefix(60)) is unknown: the type \(backend.type.rawValue) \(knows)"
        }
        let isText = name == "tablePrefix" || name == "collectionName"
        guard value.kind == (isText ? .string : .number) || value.kind == .null else {
          return "\(place).options.\(name) must be a \(isText ? "text" : "number")"
        }
      }
      return nil
    }
    if let problem { throw Trouble(problem) }
  }

  /// The collection stands in the URL of our plugin. The option wins over one that stands there.
  private mutating func setCollection(_ name: String, _ place: String) throws(Trouble) {
    var allowed = CharacterSet.alphanumerics
    allowed.insert(charactersIn: "-._~")
    guard !name.isEmpty, let encoded = name.addingPercentEncoding(withAllowedCharacters: allowed) else {
      throw Trouble("\(place).options.collectionName is empty")
    }
    var base = url[...]
    var options: [Substring] = []
    if let question = url.firstIndex(of: "?") {
      base = url[..<question]
      options = url[url.index(after: question)...].split(separator: "&").filter { !$0.hasPrefix("collection=") }
    }
    url = "\(base)?" + (options + ["collection=\(encoded)"]).joined(separator: "&")
  }

  private static func json(_ text: String) -> String {
    var output: [UInt8] = []
    JSONWriter.appendString(text, to: &output)
    return String(decoding: output, as: UTF8.self)
  }

  private static func json(_ number: Double, _ range: ClosedRange<Int>) -> String {
    let whole = number.isFinite ? number.rounded() : Double(range.upperBound)
    return "\(Int(min(max(whole, Double(range.lowerBound)), Double(range.upperBound))))"
  }
}
