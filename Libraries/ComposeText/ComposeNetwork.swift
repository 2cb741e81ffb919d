/// What a compose file needs to know of a network. Pure: made of a manifest by whoever has one.
public struct ComposeNetwork: Sendable {
  public struct Node: Sendable {
    public var name: String
    /// The node's Ed25519 public key in hexadecimal, which is its identity.
    public var publicKey: String
    /// Its X25519 public key in hexadecimal; nil when nothing is encrypted to it.
    public var encryptionPublicKey: String?
    public var port: Int
    public var corsOrigin: String
    /// The types of its backends: `postgresql`, `mongodb`, `memory`, …
    public var backendTypes: [String]

    public init(
      name: String, publicKey: String, encryptionPublicKey: String? = nil, port: Int, corsOrigin: String,
      backendTypes: [String]
    ) {
      self.name = name
      self.publicKey = publicKey
      self.encryptionPublicKey = encryptionPublicKey
      self.port = port
      self.corsOrigin = corsOrigin
      self.backendTypes = backendTypes
    }

    public var serviceName: String { ServiceName.make(name) }
    /// `<NAME>_PRIVATE_KEY_PEM`.
    public var privateKeyVariable: String { ServiceName.variable(serviceName, "PRIVATE_KEY_PEM") }
    /// `<NAME>_ENCRYPTION_PRIVATE_KEY_HEX`.
    public var encryptionKeyVariable: String { ServiceName.variable(serviceName, "ENCRYPTION_PRIVATE_KEY_HEX") }
  }

  public var nodes: [Node]

  public init(nodes: [Node]) { self.nodes = nodes }

  /// The variable that holds the operator's X25519 public key.
  public static let operatorEncryptionKeyVariable = "OPERATOR_ENCRYPTION_PUBLIC_KEY_HEX"

  /// Names that the file has for services of its own.
  public static let ownServices: Set<String> = ["config-server", "postgres", "mongo"]

  /// What keeps the network from being written down, as sentences that name the nodes: names that clash, ports that do.
  public func problems(configServerPort: Int = ComposeFile.configServerPort) -> [String] {
    var problems: [String] = []
    var names: [String: String] = [:]
    var ports: [Int: String] = [configServerPort: "the config server"]
    if nodes.contains(where: { $0.backendTypes.contains("postgresql") }) { ports[5432] = "the service postgres" }
    if nodes.contains(where: { $0.backendTypes.contains("mongodb") }) { ports[27017] = "the service mongo" }
    for node in nodes {
      let service = node.serviceName
      if service.isEmpty {
        problems.append("A node has an empty name; the name of its service comes from it.")
      } else if Self.ownServices.contains(service) {
        problems.append("The node \"\(node.name)\" would be the service \(service), which the network has already.")
      } else if let other = names[service] {
        problems.append(
          "The nodes \"\(other)\" and \"\(node.name)\" would both be the service \(service). Rename one of them.")
      }
      names[service] = node.name
      if !(1...65535).contains(node.port) {
        problems.append("The node \"\(node.name)\" has the port \(node.port); it must be from 1 to 65535.")
      } else if let other = ports[node.port] {
        problems.append("The port \(node.port) of the node \"\(node.name)\" belongs to \(other) already.")
      } else {
        ports[node.port] = "the node \"\(node.name)\""
      }
    }
    return problems
  }
}

/// Names of services and variables, made of the names of nodes.
public enum ServiceName {
  /// In lower case, with `-` for everything (each UTF-16 unit) that is no letter of ASCII, digit or `-`.
  public static func make(_ name: String) -> String {
    String(
      decoding: name.utf16.map { unit -> UInt8 in
        switch unit {
        case 0x41...0x5A: UInt8(unit) | 0x20
        case 0x61...0x7A, 0x30...0x39, 0x2D: UInt8(unit)
        default: 0x2D
        }
      }, as: UTF8.self)
  }

  /// In upper case, with `_` for `-`; a leading digit gets a `_`, since no variable begins with one.
  static func variable(_ service: String, _ suffix: String) -> String {
    var text = String(
      decoding: service.utf8.map { (0x61...0x7A).contains($0) ? $0 & 0xDF : $0 == 0x2D ? 0x5F : $0 }, as: UTF8.self)
    if text.utf8.first.map({ (0x30...0x39).contains($0) }) == true { text = "_" + text }
    return text + "_" + suffix
  }
}
