import Foundation
import NodeTesting
import Testing

/// What a command said.
struct Said {
  let output: String
  let errors: String
  let status: Int32
  var json: [String: Any] { (try? JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any]) ?? [:] }
}

/// A folder with a network in it, and the commands that are about it.
final class NetworkFolder {
  let folder: TemporaryFolder
  var path: String { folder.path }
  var manifestPath: String { path + "/network.json" }

  static let plugins =
    BuiltProducts.bundled + ["backend-http", "backend-postgresql", "schema-b3nd", "service-managed"]

  /// Makes an empty folder with the plugins.
  init(plugins: [String] = NetworkFolder.plugins) throws {
    folder = try TemporaryFolder()
    let directory = path + "/plugins.d"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    for name in plugins {
      try PluginFile.drop(BuiltProducts.plugin(name), into: directory, as: "libbackplane-\(name).so")
    }
  }

  func run(_ arguments: [String], environment: [String: String] = [:]) throws -> Said {
    let (output, errors, status) = try CommandLineTool.run(
      BuiltProducts.backplane, arguments, in: path, environment: environment)
    return Said(output: output, errors: errors, status: status)
  }

  /// `network init` here; must succeed.
  @discardableResult
  func make(_ nodes: [String], _ options: [String] = []) throws -> Said {
    let said = try run(["network", "init", "--name", "Trial"] + nodes.flatMap { ["--node", $0] } + options)
    guard said.status == 0 else { throw NodeProcess.Failed(description: said.output + said.errors) }
    return said
  }

  func text(_ name: String) throws -> String { try String(contentsOfFile: "\(path)/\(name)", encoding: .utf8) }

  func mode(_ name: String) throws -> Int {
    try #require(FileManager.default.attributesOfItem(atPath: "\(path)/\(name)")[.posixPermissions] as? Int)
  }

  func manifest() throws -> [String: Any] {
    try #require(
      JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: manifestPath))) as? [String: Any])
  }

  var nodes: [[String: Any]] { get throws { try #require(manifest()["nodes"] as? [[String: Any]]) } }

  func nodeId(_ name: String) throws -> String {
    try #require(nodes.first { $0["name"] as? String == name }?["nodeId"] as? String)
  }

  /// Replaces text of the manifest, which must be there, by renaming a new file in.
  func edit(_ old: String, _ new: String) throws {
    let text = try text("network.json")
    #expect(text.contains(old), "\(old) is not in\n\(text)")
    try folder.write(text.replacingOccurrences(of: old, with: new), to: "network.json")
  }

  /// A config server: any node with the schema of accounts.
  func configServer() throws -> NodeProcess {
    try NodeProcess(
      plugins: BuiltProducts.bundled + ["schema-b3nd"],
      configuration:
        "slots:\n  schema: {kind: schema, plugin: org.backplane.b3nd}\n  m: {kind: backend, url: 'memory://'}\n")
  }
}

/// `backplane network up`, running.
final class RunningNetwork {
  let runner: NodeProcess
  let configPort: Int
  let home: NetworkFolder

  /// - Parameter environment: added to an otherwise empty one.
  init(_ home: NetworkFolder, _ options: [String] = [], environment: [String: String] = [:]) throws {
    self.home = home
    configPort = FreePort.find()
    runner = try NodeProcess(
      folder: home.folder, plugins: [], environment: environment,
      command: [BuiltProducts.backplane, "network", "up", "--config-port", "\(configPort)"] + options, waits: false)
  }

  var log: String { runner.log }

  /// Waits for a line of the runner's or a node's.
  func waitForLine(_ text: String, count: Int = 1, seconds: Double = 90) throws {
    let isThere = Polling.until(seconds: seconds, everyMs: 50) {
      !runner.isRunning || log.components(separatedBy: text).count > count
    }
    guard isThere, log.components(separatedBy: text).count > count else {
      throw NodeProcess.Failed(description: "no line \"\(text)\" (\(count)) in\n\(log)")
    }
  }

  /// Waits until `network status` says that every node is as `isRight` wants; its last answer.
  @discardableResult
  func waitForStatus(
    seconds: Double = 90, _ isRight: (_ states: [String: String], _ status: Int32) -> Bool
  ) throws -> Said {
    var said = try status()
    let isThere = try Polling.until(seconds: seconds, everyMs: 200) {
      said = try status()
      return isRight(Self.states(said), said.status)
    }
    guard isThere else { throw NodeProcess.Failed(description: "\(said.output)\(said.errors)\n\(log)") }
    return said
  }

  func status() throws -> Said {
    try home.run(["network", "status", "--json", "--node", "http://127.0.0.1:\(configPort)"])
  }

  static func states(_ said: Said) -> [String: String] {
    let rows = said.json["nodes"] as? [[String: Any]] ?? []
    return Dictionary(
      rows.map { row in
        let report = row["report"] as? [String: Any]
        return (row["name"] as? String ?? "", report?["status"] as? String ?? "unknown")
      }
    ) { $1 }
  }

  /// The process of a service, as its environment says; nil when it does not run.
  func process(_ service: String) -> Int32? {
    runner.children.first { pid in
      ProcessFile.read("/proc/\(pid)/environ").contains("STATE_DIRECTORY=\(home.path)/state/\(service)\0")
    }
  }

  /// SIGTERM, and the end; its status.
  func stop() -> Int32 { runner.stop() }
}
