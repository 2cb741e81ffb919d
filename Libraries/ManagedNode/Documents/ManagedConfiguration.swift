/// What a node is to be, as its operator wrote it down: the reference's `ManagedNodeConfig`.
public struct ManagedConfiguration: Equatable, Sendable {
  public struct Server: Equatable, Sendable {
    /// From 1 to 65535. The rules let fractions pass.
    public var port: Double
    /// May be empty.
    public var corsOrigin: String

    /// Nil for a port with a fraction, which no node can listen on.
    public var portNumber: Int? { Int(exactly: port) }

    public init(port: Double, corsOrigin: String) {
      self.port = port
      self.corsOrigin = corsOrigin
    }
  }

  public struct Backend: Equatable, Sendable {
    /// `sqlite` is none of the reference's types, which alone the rule's text names.
    public enum Kind: String, CaseIterable, Sendable { case memory, postgresql, mongodb, http, sqlite }

    public var type: Kind
    /// Never empty; may hold a password.
    public var url: String
    public var options = Options()
    /// `options` as it stands in the document; nil when there is none.
    public var rawOptions: RawJSON?

    public init(type: Kind, url: String, rawOptions: RawJSON? = nil) {
      self.type = type
      self.url = url
      self.rawOptions = rawOptions
      options = rawOptions.map { $0.withSlice { Options($0) } } ?? Options()
    }
  }

  /// What the reference knows of a backend's options; nil: not there, or of another type than it has to be.
  public struct Options: Equatable, Sendable {
    public var tablePrefix: String?
    public var poolSize: Double?
    public var connectionTimeoutMs: Double?
    public var collectionName: String?

    public init() {}
  }

  public struct Peer: Equatable, Sendable {
    public enum Direction: String, CaseIterable, Sendable { case push, pull, bidirectional }

    public var url: String
    public var direction: Direction

    public init(url: String, direction: Direction) {
      self.url = url
      self.direction = direction
    }
  }

  public struct Monitoring: Equatable, Sendable {
    /// Any number: the rules let negative ones pass.
    public var heartbeatIntervalMs: Double
    /// Any number, as above.
    public var configPollIntervalMs: Double
    public var metricsEnabled: Bool

    public init(heartbeatIntervalMs: Double, configPollIntervalMs: Double, metricsEnabled: Bool) {
      self.heartbeatIntervalMs = heartbeatIntervalMs
      self.configPollIntervalMs = configPollIntervalMs
      self.metricsEnabled = metricsEnabled
    }
  }

  public struct Tag: Equatable, Sendable {
    public var name: String
    public var value: String

    public init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }

  public var nodeId: String
  public var name: String
  public var server: Server
  /// At least one.
  public var backends: [Backend]
  public var schemaModuleUrl: String?
  public var schemaInline: RawJSON?
  /// Those that can be used; what is wrong with the others is among the notices.
  public var peers: [Peer] = []
  public var monitoring: Monitoring
  public var networkId: String?
  /// In the order of the document.
  public var tags: [Tag] = []

  /// What the rules let pass and has no effect, or not the one that was meant. Not part of the document.
  public var notices: [DocumentProblem] = []

  public init(nodeId: String, name: String, server: Server, backends: [Backend], monitoring: Monitoring) {
    self.nodeId = nodeId
    self.name = name
    self.server = server
    self.backends = backends
    self.monitoring = monitoring
  }

  /// The document, keys in the reference's order.
  public var text: [UInt8] {
    var object = ObjectText()
    object.add("configVersion", 1)
    object.add("nodeId", nodeId)
    object.add("name", name)
    var server = ObjectText()
    server.add("port", self.server.port)
    server.add("corsOrigin", self.server.corsOrigin)
    object.add("server", json: server.text)
    object.add(
      "backends",
      array: backends.map { backend in
        var object = ObjectText()
        object.add("type", backend.type.rawValue)
        object.add("url", backend.url)
        if let options = backend.rawOptions { object.add("options", json: options.bytes) }
        return object.text
      })
    if let schemaModuleUrl { object.add("schemaModuleUrl", schemaModuleUrl) }
    if let schemaInline { object.add("schemaInline", json: schemaInline.bytes) }
    if !peers.isEmpty {
      object.add(
        "peers",
        array: peers.map { peer in
          var object = ObjectText()
          object.add("url", peer.url)
          object.add("direction", peer.direction.rawValue)
          return object.text
        })
    }
    var monitoring = ObjectText()
    monitoring.add("heartbeatIntervalMs", self.monitoring.heartbeatIntervalMs)
    monitoring.add("configPollIntervalMs", self.monitoring.configPollIntervalMs)
    monitoring.add("metricsEnabled", self.monitoring.metricsEnabled)
    object.add("monitoring", json: monitoring.text)
    if let networkId { object.add("networkId", networkId) }
    if !tags.isEmpty {
      var named = ObjectText()
      for tag in tags { named.add(tag.name, tag.value) }
      object.add("tags", json: named.text)
    }
    return object.text
  }
}
