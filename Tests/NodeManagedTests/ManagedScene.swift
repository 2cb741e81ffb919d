import Foundation
import ManagedNode
import MessageCrypto
import NodeTesting

/// An operator, a config server and a managed node.
final class ManagedScene {
  let operatorPair = Ed25519.KeyPair()
  let nodePair = Ed25519.KeyPair()
  /// The managed node's.
  let port = FreePort.find()
  let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  var nodeID: String { nodePair.publicKeyHex }
  var configURI: String { ManagementURIs.config(operatorKey: operatorPair.publicKeyHex, nodeId: nodeID) }

  /// A B3nd node that keeps whatever it is given in memory.
  static func configServer(port: Int? = nil) throws -> NodeProcess {
    try NodeProcess(environment: port.map { ["PORT": "\($0)"] } ?? [:])
  }

  /// The node under management, on memory:// until it is told otherwise; `keys` are further keys of its slot, YAML.
  func start(configURL: String, keys: String = "", plugins: [String] = [], waits: Bool = true) throws -> NodeProcess {
    let configuration = """
      reload: {probation_ms: 0, settle_ms: 0}
      slots:
        managed: {kind: service, config_poll_interval_ms: 200, heartbeat_interval_ms: 200\(keys)}
      """
    let pem = PrivateKey.ed25519(nodePair).pem.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    return try NodeProcess(
      folder: folder, plugins: BuiltProducts.bundled + ["service-managed"] + plugins,
      environment: [
        "PORT": "\(port)", "BACKEND_URL": "memory://", "CONFIG_URL": configURL,
        "OPERATOR_KEY": operatorPair.publicKeyHex, "NODE_ID": nodeID, "NODE_PRIVATE_KEY_PEM": pem,
      ], configuration: configuration, waits: waits)
  }

  func configuration(
    _ name: String, backends: String = #"[{"type":"memory","url":"memory://"}]"#, port: Int? = nil, _ more: String = ""
  ) -> String {
    #"{"configVersion":1,"nodeId":"\#(nodeID)","name":"\#(name)","server":{"port":\#(port ?? self.port),"#
      + #""corsOrigin":"*"},"backends":\#(backends),"monitoring":{"heartbeatIntervalMs":200,"#
      + #""configPollIntervalMs":200,"metricsEnabled":true}\#(more.isEmpty ? "" : ",")\#(more)}"#
  }

  func message(_ text: String, by signer: Ed25519.KeyPair? = nil) throws -> [UInt8] {
    try ManagedDocument.config(operatorKey: operatorPair.publicKeyHex, nodeId: nodeID).seal(
      Array(text.utf8), signers: [signer ?? operatorPair])
  }

  /// The operator's message as text.
  func text(_ configuration: String, encryptingTo recipient: [UInt8]? = nil) throws -> String {
    let document = ManagedDocument.config(operatorKey: operatorPair.publicKeyHex, nodeId: nodeID)
    let message = try document.seal(Array(configuration.utf8), signers: [operatorPair], encryptingTo: recipient)
    return String(decoding: message, as: UTF8.self)
  }

  /// Signs and writes to the node at `port`.
  func publish(_ text: String, at port: Int, by signer: Ed25519.KeyPair? = nil) throws {
    try put(String(decoding: try message(text, by: signer), as: UTF8.self), at: port)
  }

  /// Writes to the configuration's URI at the node at `port`, whatever it is.
  func put(_ data: String, at port: Int) throws {
    let answer = try HTTPConnection(port: port).post("/api/v1/receive", #"{"tx":["\#(configURI)",\#(data)]}"#)
    guard answer.status == 200 else { throw NodeProcess.Failed(description: "\(answer)") }
  }

  /// The status that the node at `port` holds; nil when there is none. Verified.
  func status(at port: Int) throws -> NodeStatus? {
    let document = ManagedDocument.status(nodeId: nodeID)
    let path = document.uri.replacingOccurrences(of: "://", with: "/")
    let answer = try HTTPConnection(port: port).get("/api/v1/read/\(path)")
    guard answer.status == 200, let record = RecordAnswer(body: answer.body) else { return nil }
    return try NodeStatus(try document.open(record.data).payload.bytes)
  }

  static func put(_ uri: String, _ data: String, at port: Int) throws -> HTTPConnection.Answer {
    try HTTPConnection(port: port).post("/api/v1/receive", #"{"tx":["\#(uri)",\#(data)]}"#)
  }

  static func read(_ path: String, at port: Int) throws -> HTTPConnection.Answer {
    try HTTPConnection(port: port).get("/api/v1/read/\(path)")
  }
}

extension NodeProcess {
  /// Waits for a line of the log.
  func says(_ line: String, seconds: Double = 60) -> Bool {
    Polling.until(seconds: seconds, everyMs: 20) { log.contains(line) }
  }

  func count(_ line: String) -> Int { log.components(separatedBy: line).count - 1 }
}
