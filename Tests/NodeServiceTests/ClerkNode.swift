import Foundation
import NodeTesting

/// A node with the service of Plugins/clerk.c beside memory and HTTP.
final class ClerkNode {
  let node: NodeProcess
  let folder: TemporaryFolder

  /// - Parameters:
  ///   - settings: YAML before `slots:`.
  ///   - keys: keys of the clerk's slot, as in a YAML flow mapping.
  init(version: String = "1.0.0", handover: String = "overlap", settings: String = "", keys: String = "") throws {
    folder = try TemporaryFolder()
    try FileManager.default.createDirectory(atPath: folder.path + "/plugins.d", withIntermediateDirectories: true)
    try PluginFile.drop(
      try ClerkNode.build(version, handover, in: folder), into: folder.path + "/plugins.d", as: "clerk.so")
    node = try NodeProcess(folder: folder, configuration: ClerkNode.yaml(settings: settings, keys: keys))
  }

  static func yaml(settings: String = "", keys: String = "") -> String {
    """
    reload: {watch: false, settle_ms: 50, start_timeout_ms: 1500, drain_soft_ms: 4000, probation_ms: 0}
    \(settings)
    slots:
      http: {kind: transport}
      primary: {kind: backend, url: "memory://"}
      clerk: {kind: service, plugin: org.example.clerk\(keys.isEmpty ? "" : ", " + keys)}
    """
  }

  private static func build(_ version: String, _ handover: String, in folder: TemporaryFolder) throws -> String {
    try CPlugin.build(
      "\(SourceTree.root)/Tests/NodeServiceTests/Plugins/clerk.c",
      manifest: """
        {"id": "org.example.clerk", "version": "\(version)", "kinds": ["service"], "handover": "\(handover)",
         "abi": {"major": 0, "minor": 1}, "runtime": "c", "isolation": "any"}
        """, definitions: ["CLERK_VERSION=\"\(version)\""], in: folder)
  }

  func drop(_ version: String, handover: String = "overlap") throws {
    try PluginFile.drop(
      try ClerkNode.build(version, handover, in: folder), into: node.pluginsDirectory, as: "clerk.so")
  }

  func configure(settings: String = "", keys: String) throws {
    try folder.write(ClerkNode.yaml(settings: settings, keys: keys), to: "backplane.yaml")
  }

  /// The clerk's own directory, within `folder`.
  var stateDirectory: String {
    let files = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
    return files.first { $0.hasSuffix("slots/clerk") } ?? "slots/clerk"
  }

  /// What the clerks have written down, in its order.
  var events: [String] {
    let files = FileManager.default.enumerator(atPath: folder.path)?.compactMap { $0 as? String } ?? []
    return files.filter { ($0 as NSString).lastPathComponent == "events" }.flatMap { file in
      ((try? String(contentsOfFile: "\(folder.path)/\(file)", encoding: .utf8)) ?? "").split(separator: "\n").map(
        String.init)
    }
  }

  /// Waits until the clerks have written it down.
  func comes(_ event: String, count: Int = 1) -> Bool {
    Polling.until { self.events.filter { $0 == event }.count >= count }
  }
}
