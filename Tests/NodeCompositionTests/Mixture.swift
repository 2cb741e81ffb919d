import Foundation
import NodeTesting
import ServerTesting

/// A node with a backend of every durable sort beside one in memory: SQLite, files, a real PostgreSQL, and another node.
final class Mixture {
  let postgreSQL: PostgreSQLServer
  private let database: String
  private let remoteFolder: TemporaryFolder
  private let remotePort: Int
  private(set) var remote: NodeProcess
  private(set) var node: NodeProcess
  let folder: TemporaryFolder
  private let policy: String
  private let order: [String]

  /// - Parameters:
  ///   - order: of `memory`, `sqlite`, `files`, `postgresql`, `remote`; those that are not named are not there.
  init(_ order: [String], policy: String) throws {
    self.order = order
    self.policy = policy
    postgreSQL = try PostgreSQLServer()
    database = try postgreSQL.makeDatabase()
    remoteFolder = try TemporaryFolder()
    remotePort = FreePort.find()
    remote = try NodeProcess(folder: remoteFolder, environment: Self.remoteEnvironment(remotePort))
    folder = try TemporaryFolder()
    node = try NodeProcess(
      folder: folder, plugins: Self.plugins,
      configuration: Self.yaml(order, policy, urls(folder.path, database, postgreSQL, remotePort)))
  }

  private static let plugins =
    BuiltProducts.bundled + ["backend-files", "backend-postgresql", "backend-http"]

  private static func remoteEnvironment(_ port: Int) -> [String: String] {
    ["PORT": "\(port)", "BACKEND_URL": "sqlite://"]
  }

  private static func yaml(_ order: [String], _ policy: String, _ urls: [String: String]) -> String {
    let slots = order.map { "  \($0): {kind: backend, url: \"\(urls[$0]!)\"}" }.joined(separator: "\n")
    return """
      node: {write_policy: \(policy), backends: [\(order.joined(separator: ", "))]}
      slots:
      \(slots)
        schema: {kind: schema}
        http: {kind: transport}

      """
  }

  var slots: [String] { order }

  func stopRemote() {
    remote.signal(SIGKILL)
    _ = remote.wait()
  }

  func startRemote() throws {
    remote = try NodeProcess(folder: remoteFolder, environment: Self.remoteEnvironment(remotePort))
  }

  /// Ends the node as a crash would; it is started again after `meanwhile`.
  func crashAndStart(_ meanwhile: () throws -> Void) throws {
    node.signal(SIGKILL)
    _ = node.wait()
    try meanwhile()
    node = try NodeProcess(
      folder: folder, plugins: Self.plugins,
      configuration: Self.yaml(order, policy, urls(folder.path, database, postgreSQL, remotePort)))
  }

  func isBehind(_ slot: String) throws -> Bool {
    try node.metric("backplane_slot_behind", "slot=\"\(slot)\"") == 1
  }

  /// Waits until every backend has everything.
  func isLevel(seconds: Double = 60) throws -> Bool {
    try Polling.until(seconds: seconds) { try order.allSatisfy { try !isBehind($0) } }
  }

  /// What one backend has by itself, by way of a node that has no other. The node of the mixture must have ended.
  func alone<R>(_ slot: String, _ body: (NodeProcess) throws -> R) throws -> R {
    if slot == "remote" { return try body(remote) }
    let reader = try NodeProcess(
      plugins: Self.plugins,
      configuration: Self.yaml([slot], "all", urls(folder.path, database, postgreSQL, remotePort)))
    defer { reader.stop() }
    return try body(reader)
  }
}

private func urls(_ folder: String, _ database: String, _ server: PostgreSQLServer, _ remotePort: Int) -> [String:
  String]
{
  [
    "memory": "memory://", "sqlite": "sqlite://\(folder)/records.sqlite3", "files": "file://\(folder)/records",
    "postgresql": server.url(database), "remote": "http://127.0.0.1:\(remotePort)",
  ]
}
