import ComposeText
import ManagedNode

/// A node as `--node NAME[=backend-url][@port]` has it.
struct NodeDraft: Equatable {
  var name: String
  /// Nil: memory.
  var backendURL: String?
  var port: Int?

  /// Nil when the text is no such thing. The port is what stands behind the last `@` if that is a number: a URL may have
  /// others.
  init?(_ text: String) {
    var rest = Substring(text)
    if let at = rest.lastIndex(of: "@"), let number = Self.number(rest[rest.index(after: at)...]) {
      guard (1...65535).contains(number) else { return nil }
      port = number
      rest = rest[..<at]
    }
    if let equals = rest.firstIndex(of: "=") {
      let url = rest[rest.index(after: equals)...]
      guard url.contains("://") else { return nil }
      backendURL = String(url)
      rest = rest[..<equals]
    }
    guard !rest.isEmpty, rest.utf8.count <= 63, !rest.contains(where: { $0.isNewline }) else { return nil }
    name = String(rest)
  }

  private static func number(_ text: Substring) -> Int? {
    !text.isEmpty && text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) ? Int(text) : nil
  }

  /// The type that a backend with this URL has in a configuration; nil: none of those that there are.
  static func backendType(_ url: String) -> ManagedConfiguration.Backend.Kind? {
    switch url.prefix(while: { $0 != ":" }).lowercased() {
    case "memory": .memory
    case "postgresql", "postgres": .postgresql
    case "mongodb": .mongodb
    case "http", "https": .http
    case let scheme: ManagedConfiguration.Backend.Kind(rawValue: scheme)
    }
  }
}

/// A network that is to be, before it has keys.
struct NetworkDraft {
  enum Peers: String, CaseIterable { case none, mesh }
  /// Where its nodes will run, which says how they reach each other.
  enum Place: String, CaseIterable { case local, compose }

  /// The first port that is given out.
  static let firstPort = 9942

  var id: String
  var name: String
  var nodes: [(draft: NodeDraft, port: Int, service: String)]
  var peers: Peers
  var place: Place
  var heartbeatIntervalMs: Int
  var configPollIntervalMs: Int
  var corsOrigin: String

  /// Gives every node a port and a service; throws with what clashes.
  init(
    id: String, name: String, nodes drafts: [NodeDraft], peers: Peers, place: Place, heartbeatIntervalMs: Int,
    configPollIntervalMs: Int, corsOrigin: String
  ) throws {
    self.id = id
    self.name = name
    self.peers = peers
    self.place = place
    self.heartbeatIntervalMs = heartbeatIntervalMs
    self.configPollIntervalMs = configPollIntervalMs
    self.corsOrigin = corsOrigin
    var taken = Set(drafts.compactMap(\.port))
    taken.insert(ComposeFile.configServerPort)
    var next = Self.firstPort
    nodes = drafts.map { draft in
      var port = draft.port
      if port == nil {
        while taken.contains(next) { next += 1 }
        taken.insert(next)
        port = next
      }
      return (draft, port ?? next, ServiceName.make(draft.name))
    }
    let network = ComposeNetwork(
      nodes: nodes.map { node in
        let type = node.draft.backendURL.flatMap(NodeDraft.backendType)?.rawValue ?? "memory"
        return ComposeNetwork.Node(
          name: node.draft.name, publicKey: "", port: node.port, corsOrigin: corsOrigin,
          backendTypes: place == .compose ? [type] : [])
      })
    var problems = network.problems()
    for node in nodes {
      if node.service == NetworkKeys.operatorName {
        problems.append("The name \(node.draft.name) belongs to the operator's keys; choose another.")
      }
      if let url = node.draft.backendURL, NodeDraft.backendType(url) == nil {
        let types = ManagedConfiguration.Backend.Kind.allCases.map(\.rawValue).joined(separator: ", ")
        problems.append("The backend of the node \(node.draft.name) has none of the types that there are: \(types).")
      }
    }
    guard problems.isEmpty else {
      throw CommandFailure(.usage, "the network cannot be made:\n  " + problems.joined(separator: "\n  "))
    }
  }

  /// The manifest with the public keys given by service.
  func manifest(publicKeys: [String: String], encryptionKeys: [String: String]) -> NetworkManifest {
    NetworkManifest(
      networkId: id, name: name,
      nodes: nodes.map { node in
        let key = publicKeys[node.service] ?? ""
        let url = node.draft.backendURL ?? "memory://"
        var configuration = ManagedConfiguration(
          nodeId: key, name: node.draft.name,
          server: ManagedConfiguration.Server(port: Double(node.port), corsOrigin: corsOrigin),
          backends: [ManagedConfiguration.Backend(type: NodeDraft.backendType(url) ?? .memory, url: url)],
          monitoring: ManagedConfiguration.Monitoring(
            heartbeatIntervalMs: Double(heartbeatIntervalMs), configPollIntervalMs: Double(configPollIntervalMs),
            metricsEnabled: true))
        configuration.networkId = id
        if peers == .mesh {
          configuration.peers = nodes.filter { $0.service != node.service }.map { other in
            let host = place == .compose ? other.service : "127.0.0.1"
            return ManagedConfiguration.Peer(url: "http://\(host):\(other.port)", direction: .bidirectional)
          }
        }
        return NetworkManifest.Node(
          nodeId: key, name: node.draft.name, role: "worker", publicKey: key,
          encryptionPublicKey: encryptionKeys[node.service], configuration: configuration)
      })
  }
}
