import JSONText

/// A node's heartbeat.
public struct NodeStatus: Equatable, Sendable {
  public enum State: String, CaseIterable, Sendable { case online, degraded, offline }

  public struct Backend: Equatable, Sendable {
    public static let connected = "connected"
    public static let error = "error"

    /// As the configuration has it: `postgresql`.
    public var type: String
    /// `connected` or `error`; another node may say something else.
    public var status: String

    public init(type: String, status: String) {
      self.type = type
      self.status = status
    }
  }

  public var nodeId: String
  public var name: String
  public var status: State
  /// Milliseconds since 1970, the node's clock.
  public var lastHeartbeatMs: Int64
  /// Milliseconds since the node began.
  public var uptimeMs: Int64
  /// Milliseconds since 1970: the time of the record with the configuration that the node runs on; 0: none.
  public var configTimestampMs: Int64
  /// That the node listens on; nil: it did not say.
  public var port: Int?
  public var backends: [Backend]
  public var metrics: NodeMetrics?
  /// Why the node is not what its operator wants it to be, one sentence; nil and left out when it is. Our own member,
  /// behind the reference's.
  public var problem: String?

  public init(
    nodeId: String, name: String, status: State, lastHeartbeatMs: Int64, uptimeMs: Int64, configTimestampMs: Int64,
    port: Int?, backends: [Backend], metrics: NodeMetrics? = nil, problem: String? = nil
  ) {
    self.nodeId = nodeId
    self.name = name
    self.status = status
    self.lastHeartbeatMs = lastHeartbeatMs
    self.uptimeMs = uptimeMs
    self.configTimestampMs = configTimestampMs
    self.port = port
    self.backends = backends
    self.metrics = metrics
    self.problem = problem
  }

  /// The payload, keys in the reference's order.
  public var text: [UInt8] {
    var object = ObjectText()
    object.add("nodeId", nodeId)
    object.add("name", name)
    object.add("status", status.rawValue)
    object.add("lastHeartbeat", Double(lastHeartbeatMs))
    object.add("uptime", Double(uptimeMs))
    object.add("configTimestamp", Double(configTimestampMs))
    var server = ObjectText()
    if let port { server.add("port", Double(port)) }
    object.add("server", json: server.text)
    object.add(
      "backends",
      array: backends.map { backend in
        var object = ObjectText()
        object.add("type", backend.type)
        object.add("status", backend.status)
        return object.text
      })
    if let metrics { object.add("metrics", json: metrics.text) }
    if let problem { object.add("problem", problem) }
    return object.text
  }

  // MARK: - Reading

  /// Everything by which `value` is no status, in the reference's order.
  public static func problems(in value: JSONSlice) -> [DocumentProblem] {
    guard value.isObject else { return [DocumentProblem(pointer: "", text: "status must be an object")] }
    var list = ProblemList()
    list.require(value.string("nodeId") != nil, "/nodeId", "nodeId required")
    list.require(value.string("name") != nil, "/name", "name required")
    list.require(value.string("status").flatMap(State.init(rawValue:)) != nil, "/status", "status required")
    list.require(value.number("lastHeartbeat") != nil, "/lastHeartbeat", "lastHeartbeat required")
    list.require(value.number("uptime") != nil, "/uptime", "uptime required")
    list.require(value.number("configTimestamp") != nil, "/configTimestamp", "configTimestamp required")
    return list.problems
  }

  /// Reads a document. Metrics in it that are none are left out.
  public init(_ document: [UInt8]) throws(DocumentError) {
    self = try withDocument(document) { value in
      if let problem = Self.problems(in: value).first { return .failure(.rule(problem)) }
      return .success(NodeStatus(valid: value))
    }
  }

  private init(valid value: JSONSlice) {
    nodeId = value.string("nodeId") ?? ""
    name = value.string("name") ?? ""
    status = value.string("status").flatMap(State.init(rawValue:)) ?? .offline
    lastHeartbeatMs = Int64(clamping: value.number("lastHeartbeat") ?? 0)
    uptimeMs = Int64(clamping: value.number("uptime") ?? 0)
    configTimestampMs = Int64(clamping: value.number("configTimestamp") ?? 0)
    port = value.member("server")?.number("port").flatMap { Int(exactly: $0) }
    backends =
      value.member("backends")?.elements.compactMap { backend in
        guard let type = backend.string("type"), let status = backend.string("status") else { return nil }
        return Backend(type: type, status: status)
      } ?? []
    metrics = value.member("metrics").flatMap { NodeMetrics.problems(in: $0).isEmpty ? NodeMetrics(valid: $0) : nil }
    problem = value.member("problem")?.nonEmptyText
  }
}
