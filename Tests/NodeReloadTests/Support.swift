import Foundation
import NodeTesting
import Testing

/// The toy backend of Plugins/toy.c, compiled as a plugin author would compile it.
struct Toy {
  var version = "1.0.0"
  /// Where it hangs; with `!` also in the probe. See toy.c.
  var hang = ""
  /// Where it crashes or fails, likewise.
  var fail = ""
  /// What the manifest says, when that is not the truth.
  var manifestVersion: String?
  var abiMajor: Int?
  /// What the descriptor says of the ABI, when the manifest says another.
  var entryABIMajor: Int?
  var hasEntry = true
  var schemes = ["toy"]

  static let file = "toy.so"
  static let id = "org.example.toy"

  private static let root = (0..<3).reduce(#filePath) { path, _ in (path as NSString).deletingLastPathComponent }

  /// Compiles it into `folder`; the file.
  func build(in folder: TemporaryFolder) throws -> String {
    let name = "toy-\(UUID().uuidString)"
    let directory = "\(folder.path)/\(name)"
    try folder.write(
      """
      {"id": "\(Self.id)", "version": "\(manifestVersion ?? version)", "kinds": ["backend"],
       "schemes": [\(schemes.map { "\"\($0)\"" }.joined(separator: ","))],
       "abi": {"major": \(abiMajor ?? 0), "minor": 1}, "runtime": "c"}
      """, to: "\(name)/manifest.json")
    let file = "\(directory)/\(Self.file)"
    var arguments = [
      "-shared", "-fPIC", "-fvisibility=hidden", "-std=gnu11", "-Wl,-z,defs", "-Wl,--build-id=uuid",
      "-I\(Self.root)/Sources/PluginAPI/ABI/include", "-I\(Self.root)/Tests/BoundaryTrial/Toys/C", "-I\(directory)",
      "-Wa,-I\(directory)", "-DTOY_VERSION=\"\(version)\"", "-DTOY_HANG=\"\(hang)\"", "-DTOY_FAIL=\"\(fail)\"",
      "\(Self.root)/Tests/NodeReloadTests/Plugins/toy.c", "-o", file, "-lpthread",
    ]
    if let major = entryABIMajor { arguments.append("-DTOY_ABI_MAJOR=\(major)") }
    if !hasEntry { arguments.append("-DTOY_WITHOUT_ENTRY") }
    let (output, errors, status) = try CommandLineTool.run("/usr/bin/cc", arguments, in: directory)
    try #require(status == 0, "toy.c does not compile:\n\(output)\(errors)")
    return file
  }
}

/// A node with the toy as its only backend, and the folder that steers the toy.
final class ToyNode {
  let node: NodeProcess
  let folder: TemporaryFolder
  /// Holds `events`, `hold`, `fail-writes`, `fail-reads`.
  let steering: String

  /// - Parameters:
  ///   - settings: YAML before `slots:`.
  ///   - slots: YAML of further slots, indented by two.
  init(
    _ toy: Toy = Toy(), settings: String = "", slots: String = "", toyKeys: String = "", watches: Bool = false,
    plugins: [String] = BuiltProducts.bundled, environment: [String: String] = [:]
  ) throws {
    folder = try TemporaryFolder()
    steering = folder.path + "/steer"
    try FileManager.default.createDirectory(atPath: steering, withIntermediateDirectories: true)
    try FileManager.default.createDirectory(atPath: folder.path + "/plugins.d", withIntermediateDirectories: true)
    try PluginFile.drop(try toy.build(in: folder), into: folder.path + "/plugins.d", as: Toy.file)
    node = try NodeProcess(
      folder: folder, plugins: plugins, environment: environment,
      configuration: ToyNode.yaml(
        steering, settings: settings, slots: slots, toyKeys: toyKeys, watches: watches))
  }

  static func yaml(
    _ steering: String, settings: String = "", slots: String = "", toyKeys: String = "", watches: Bool = false
  ) -> String {
    """
    reload:
      watch: \(watches)
      settle_ms: 50
      probe_timeout_ms: 3000
      start_timeout_ms: 1500
      drain_soft_ms: 2000
    \(settings)
    slots:
      toy:
        kind: backend
        order: 1
        url: toy://\(steering)
    \(toyKeys)
    \(slots)
    """
  }

  /// Renames a new toy over the old one.
  func drop(_ toy: Toy) throws {
    try PluginFile.drop(try toy.build(in: folder), into: node.pluginsDirectory, as: Toy.file)
  }

  func reload(losesState: Bool = false) throws -> TestReceipt {
    try node.reloadDirectly(now: ["*"], losesState: losesState)
  }

  func configure(settings: String = "", slots: String = "", toyKeys: String = "", watches: Bool = false) throws {
    try folder.write(
      ToyNode.yaml(steering, settings: settings, slots: slots, toyKeys: toyKeys, watches: watches),
      to: "backplane.yaml")
  }

  func set(_ name: String, _ isOn: Bool = true) throws {
    if isOn {
      try folder.write("", to: "steer/\(name)")
    } else {
      try FileManager.default.removeItem(atPath: "\(steering)/\(name)")
    }
  }

  /// The lines `VERSION step` that the toys have written.
  var events: [String] {
    ((try? String(contentsOfFile: steering + "/events", encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
  }

  /// The version of the toy that answers now.
  func servingVersion() throws -> String {
    let answer = try node.read("mutable/open/version")
    guard answer.status == 200, let object = answer.json as? [String: Any],
      let version = (object["data"] as? [String: Any])?["version"] as? String
    else { throw NodeProcess.Failed(description: "\(answer.status) \(answer.text)") }
    return version
  }
}

/// A number from the environment, for runs that are longer or shorter than usual.
func setting(_ name: String, default value: Int) -> Int {
  ProcessInfo.processInfo.environment[name].flatMap { Int($0) } ?? value
}
