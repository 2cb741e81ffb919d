import JSONText
import MessageCrypto

/// The nodes of a network.
public struct NetworkManifest: Equatable, Sendable {
  public struct Node: Equatable, Sendable {
    public var nodeId: String
    public var name: String
    public var role: String
    /// Ed25519, hexadecimal.
    public var publicKey: String
    /// X25519, hexadecimal; nil: what is for the node is not encrypted.
    public var encryptionPublicKey: String?
    public var configuration: ManagedConfiguration
    /// `config` as it stands in the document, with members that nobody here knows: this is what is signed.
    public var rawConfiguration: RawJSON

    public init(
      nodeId: String, name: String, role: String, publicKey: String, encryptionPublicKey: String?,
      configuration: ManagedConfiguration
    ) {
      self.nodeId = nodeId
      self.name = name
      self.role = role
      self.publicKey = publicKey
      self.encryptionPublicKey = encryptionPublicKey
      self.configuration = configuration
      guard let raw = RawJSON(configuration.text) else { preconditionFailure("a configuration prints as JSON") }
      rawConfiguration = raw
    }

    /// The 32 bytes of `encryptionPublicKey`; nil when there is none. A key that is none is an error: nothing must go
    /// to the node in the clear because of a slip.
    public func encryptionKey() throws(DocumentError) -> [UInt8]? {
      guard let encryptionPublicKey else { return nil }
      guard let key = Hexadecimal.decode(encryptionPublicKey), key.count == X25519.keySizeBytes else {
        throw .rule(
          DocumentProblem(
            pointer: "", text: "the encryptionPublicKey of \(name) is no X25519 key: it needs 64 hexadecimal digits"))
      }
      return key
    }
  }

  public static let nodesMax = 10_000

  public var networkId: String
  public var name: String
  /// `description` in the document.
  public var summary: String?
  public var nodes: [Node]

  public init(networkId: String, name: String, summary: String? = nil, nodes: [Node]) {
    self.networkId = networkId
    self.name = name
    self.summary = summary
    self.nodes = nodes
  }

  /// The node with this id, public key or name, in that order.
  public func node(_ text: String) -> Node? {
    nodes.first { $0.nodeId == text } ?? nodes.first { $0.publicKey == text } ?? nodes.first { $0.name == text }
  }

  /// The document, keys in the reference's order.
  public var text: [UInt8] {
    var object = ObjectText()
    object.add("networkId", networkId)
    object.add("name", name)
    if let summary { object.add("description", summary) }
    object.add(
      "nodes",
      array: nodes.map { node in
        var object = ObjectText()
        object.add("nodeId", node.nodeId)
        object.add("name", node.name)
        object.add("role", node.role)
        object.add("publicKey", node.publicKey)
        if let key = node.encryptionPublicKey { object.add("encryptionPublicKey", key) }
        object.add("config", json: node.rawConfiguration.bytes)
        return object.text
      })
    return object.text
  }

  // MARK: - Reading

  /// Everything by which `value` is no network: the reference's rules first, then what is asked of each node.
  public static func problems(in value: JSONSlice) -> [DocumentProblem] {
    guard value.isObject else { return [DocumentProblem(pointer: "", text: "network must be an object")] }
    var list = ProblemList()
    list.require(value.string("networkId") != nil, "/networkId", "networkId required")
    list.require(value.string("name") != nil, "/name", "name required")
    guard let nodes = value.member("nodes"), nodes.kind == .array else {
      list.add("/nodes", "nodes array required")
      return list.problems
    }
    var places: [String: Int] = [:]
    for (index, node) in nodes.elements.enumerated() {
      guard index < nodesMax else {
        list.add("/nodes", "nodes has more than \(nodesMax) entries, the most that a network has")
        break
      }
      checkNode(node, index, &places, &list)
    }
    return list.problems
  }

  private static func checkNode(
    _ node: JSONSlice, _ index: Int, _ places: inout [String: Int], _ list: inout ProblemList
  ) {
    let pointer = "/nodes/\(index)"
    let prefix = "nodes[\(index)]"
    guard node.isObject else { return list.add(pointer, "\(prefix) must be an object") }
    for key in ["nodeId", "name", "publicKey"] as [StaticString] {
      list.require(node.member(key)?.nonEmptyText != nil, "\(pointer)/\(key)", "\(prefix).\(key) required")
    }
    if let id = node.string("nodeId") {
      if let place = places[id] {
        list.add("\(pointer)/nodeId", "\(prefix).nodeId is that of nodes[\(place)]")
      }
      places[id] = index
    }
    if let key = node.member("encryptionPublicKey"), key.kind != .null {
      list.require(
        key.isString, "\(pointer)/encryptionPublicKey", "\(prefix).encryptionPublicKey must be hexadecimal digits")
    }
    guard let configuration = node.member("config") else {
      return list.add("\(pointer)/config", "\(prefix).config required")
    }
    list.add(
      contentsOf: ManagedConfiguration.problems(in: configuration), below: "\(pointer)/config",
      prefix: "\(prefix).config: ")
  }

  /// As above, of a text.
  public static func problems(in document: [UInt8]) -> [DocumentProblem] {
    do throws(DocumentError) {
      return try withDocument(document) { .success(problems(in: $0)) }
    } catch { return [DocumentProblem(pointer: "", text: error.description)] }
  }

  /// Reads a document.
  public init(_ document: [UInt8]) throws(DocumentError) {
    self = try withDocument(document) { value in
      if let problem = Self.problems(in: value).first { return .failure(.rule(problem)) }
      do throws(DocumentError) { return .success(try NetworkManifest(valid: value)) } catch { return .failure(error) }
    }
  }

  private init(valid value: JSONSlice) throws(DocumentError) {
    networkId = value.string("networkId") ?? ""
    name = value.string("name") ?? ""
    summary = value.member("description")?.nonEmptyText
    nodes = []
    guard let list = value.member("nodes") else { return }
    for node in list.elements {
      guard let config = node.member("config") else { continue }
      var entry = Node(
        nodeId: node.string("nodeId") ?? "", name: node.string("name") ?? "", role: node.string("role") ?? "",
        publicKey: node.string("publicKey") ?? "",
        encryptionPublicKey: node.member("encryptionPublicKey")?.nonEmptyText,
        configuration: try ManagedConfiguration(config))
      entry.rawConfiguration = RawJSON(config)
      nodes.append(entry)
    }
  }
}
