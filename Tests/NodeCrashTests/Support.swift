import Foundation
import NodeTesting
import Testing

/// One build of rogue.c, which ruins its host as it is told.
struct Rogue {
  var version = "1.0.0"
  var readMode = "BP_MODE_DIRECT"
  var applyMode = "BP_MODE_BLOCKING"

  static let file = "rogue.so"
  static let id = "org.example.rogue"

  private static let root = (0..<3).reduce(#filePath) { path, _ in (path as NSString).deletingLastPathComponent }

  /// Compiles it into `folder`; the file.
  func build(in folder: TemporaryFolder) throws -> String {
    let name = "rogue-\(UUID().uuidString)"
    let directory = "\(folder.path)/\(name)"
    try folder.write(
      """
      {"id": "\(Self.id)", "version": "\(version)", "kinds": ["backend"], "schemes": ["rogue"],
       "abi": {"major": 0, "minor": 1}, "runtime": "c"}
      """, to: "\(name)/manifest.json")
    let file = "\(directory)/\(Self.file)"
    let arguments = [
      "-shared", "-fPIC", "-O1", "-fno-omit-frame-pointer", "-fvisibility=hidden", "-std=gnu11", "-Wl,-z,defs",
      "-Wl,--build-id=uuid", "-I\(Self.root)/Sources/PluginAPI/ABI/include",
      "-I\(Self.root)/Tests/BoundaryTrial/Toys/C",
      "-I\(directory)", "-Wa,-I\(directory)", "-DROGUE_VERSION=\"\(version)\"", "-DROGUE_READ_MODE=\(readMode)",
      "-DROGUE_APPLY_MODE=\(applyMode)", "\(Self.root)/Tests/NodeCrashTests/Plugins/rogue.c", "-o", file, "-lpthread",
    ]
    let (output, errors, status) = try CommandLineTool.run("/usr/bin/cc", arguments, in: directory)
    try #require(status == 0, "rogue.c does not compile:\n\(output)\(errors)")
    return file
  }
}

/// A node with the rogue as its only backend.
final class RogueNode {
  private(set) var node: NodeProcess
  let folder: TemporaryFolder
  private let port = FreePort.find()
  /// Holds the files that tell the rogue what to do.
  let steering: String

  /// - Parameter settings: YAML before `slots:`.
  init(_ rogue: Rogue = Rogue(), settings: String = "") throws {
    folder = try TemporaryFolder()
    steering = folder.path + "/steer"
    try FileManager.default.createDirectory(atPath: steering, withIntermediateDirectories: true)
    try FileManager.default.createDirectory(atPath: folder.path + "/plugins.d", withIntermediateDirectories: true)
    try PluginFile.drop(try rogue.build(in: folder), into: folder.path + "/plugins.d", as: Rogue.file)
    node = try RogueNode.start(folder, RogueNode.yaml(steering, settings))
  }

  private static func start(_ folder: TemporaryFolder, _ configuration: String, waits: Bool = true) throws
    -> NodeProcess
  {
    // The runtime's backtracer takes a second for each crash and says nothing that is looked at here.
    try NodeProcess(
      folder: folder, plugins: BuiltProducts.bundled, environment: ["SWIFT_BACKTRACE": "enable=no"],
      configuration: configuration, waits: waits)
  }

  private static func yaml(_ steering: String, _ settings: String) -> String {
    """
    reload: {watch: false, settle_ms: 50, probation_ms: 0, drain_soft_ms: 400, drain_hard_ms: 800, cancel_grace_ms: 300}
    watchdog: {call_timeout_ms: 300}
    \(settings)
    slots:
      rogue:
        kind: backend
        url: rogue://\(steering)
    """
  }

  /// Starts the node anew in the same folder, with other settings if so.
  func restart(settings: String = "", waits: Bool = true) throws {
    node = try RogueNode.start(folder, RogueNode.yaml(steering, settings), waits: waits)
  }

  func drop(_ rogue: Rogue) throws {
    try PluginFile.drop(try rogue.build(in: folder), into: node.pluginsDirectory, as: Rogue.file)
  }

  func set(_ name: String, _ isOn: Bool = true) throws {
    if isOn {
      try folder.write("", to: "steer/\(name)")
    } else {
      try FileManager.default.removeItem(atPath: "\(steering)/\(name)")
    }
  }

  /// What `backplane status` notes.
  func notes() throws -> [String] { try node.ask(["command": "status"])["notes"] as? [String] ?? [] }

  /// One generation as `backplane generations --json` shows it.
  func generations() throws -> [[String: Any]] {
    try node.ask(["command": "generations"])["generations"] as? [[String: Any]] ?? []
  }

  func held(_ state: String) throws -> [String: Any]? { try generations().first { $0["state"] as? String == state } }

  /// The slot as `backplane status` shows it.
  func slot() throws -> [String: Any] {
    let slots = try node.ask(["command": "status"])["slots"] as? [[String: Any]] ?? []
    return try #require(slots.first { $0["name"] as? String == "rogue" })
  }

  func quarantine() throws -> [[String: Any]] {
    try node.ask(["command": "quarantine"])["quarantine"] as? [[String: Any]] ?? []
  }
}
