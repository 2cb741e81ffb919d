import Foundation

/// The toy backend of Tests/Toys/toy.c, compiled as a plugin author would compile it. Scheme: `toy`.
public struct Toy: Sendable {
  public var version: String
  /// Where it hangs; with `!` also in the probe. See toy.c.
  public var hang: String
  /// Where it crashes or fails, likewise.
  public var fail: String
  /// What the manifest says, when that is not the truth.
  public var manifestVersion: String?
  public var abiMajor: Int?
  /// What the descriptor says of the ABI, when the manifest says another.
  public var entryABIMajor: Int?
  public var hasEntry: Bool
  public var schemes: [String]
  /// Further arguments for the compiler, such as another source file.
  public var arguments: [String]

  public static let file = "toy.so"
  public static let id = "org.example.toy"

  public init(
    version: String = "1.0.0", hang: String = "", fail: String = "", manifestVersion: String? = nil,
    abiMajor: Int? = nil, entryABIMajor: Int? = nil, hasEntry: Bool = true, schemes: [String] = ["toy"],
    arguments: [String] = []
  ) {
    self.version = version
    self.hang = hang
    self.fail = fail
    self.manifestVersion = manifestVersion
    self.abiMajor = abiMajor
    self.entryABIMajor = entryABIMajor
    self.hasEntry = hasEntry
    self.schemes = schemes
    self.arguments = arguments
  }

  /// Compiles it into `folder`; the file.
  public func build(in folder: TemporaryFolder) throws -> String {
    var definitions = ["TOY_VERSION=\"\(version)\"", "TOY_HANG=\"\(hang)\"", "TOY_FAIL=\"\(fail)\""]
    if let major = entryABIMajor { definitions.append("TOY_ABI_MAJOR=\(major)") }
    if !hasEntry { definitions.append("TOY_WITHOUT_ENTRY") }
    return try CPlugin.build(
      "\(SourceTree.root)/Tests/Toys/toy.c",
      manifest: """
        {"id": "\(Self.id)", "version": "\(manifestVersion ?? version)", "kinds": ["backend"],
         "schemes": [\(schemes.map { "\"\($0)\"" }.joined(separator: ","))],
         "abi": {"major": \(abiMajor ?? 0), "minor": 1}, "runtime": "c"}
        """, definitions: definitions, in: folder, arguments: arguments)
  }
}

/// A node with the toy as its only backend, and the folder that steers the toy.
public final class ToyNode {
  public let node: NodeProcess
  public let folder: TemporaryFolder
  /// Holds `events`, `hold`, `fail-writes`, `fail-reads`.
  public let steering: String

  /// - Parameters:
  ///   - settings: YAML before `slots:`.
  ///   - slots: YAML of further slots, indented by two.
  ///   - probationMs: how long a replaced slot keeps its predecessor; 0: it goes at once.
  ///   - prepare: called with the folder before the node starts; `plugins.d` in it exists.
  public init(
    _ toy: Toy = Toy(), settings: String = "", slots: String = "", toyKeys: String = "", watches: Bool = false,
    plugins: [String] = BuiltProducts.bundled, environment: [String: String] = [:], probationMs: Int = 0,
    prepare: (TemporaryFolder) throws -> Void = { _ in }
  ) throws {
    folder = try TemporaryFolder()
    steering = folder.path + "/steer"
    try FileManager.default.createDirectory(atPath: steering, withIntermediateDirectories: true)
    try FileManager.default.createDirectory(atPath: folder.path + "/plugins.d", withIntermediateDirectories: true)
    try PluginFile.drop(try toy.build(in: folder), into: folder.path + "/plugins.d", as: Toy.file)
    try prepare(folder)
    node = try NodeProcess(
      folder: folder, plugins: plugins, environment: environment,
      configuration: ToyNode.yaml(
        steering, settings: settings, slots: slots, toyKeys: toyKeys, watches: watches, probationMs: probationMs))
  }

  public static func yaml(
    _ steering: String, settings: String = "", slots: String = "", toyKeys: String = "", watches: Bool = false,
    probationMs: Int = 0
  ) -> String {
    """
    reload:
      watch: \(watches)
      settle_ms: 50
      probe_timeout_ms: 3000
      start_timeout_ms: 1500
      drain_soft_ms: 2000
      probation_ms: \(probationMs)
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
  public func drop(_ toy: Toy) throws {
    try PluginFile.drop(try toy.build(in: folder), into: node.pluginsDirectory, as: Toy.file)
  }

  public func reload(losesState: Bool = false) throws -> TestReceipt {
    try node.reloadDirectly(now: ["*"], losesState: losesState)
  }

  public func configure(
    settings: String = "", slots: String = "", toyKeys: String = "", watches: Bool = false, probationMs: Int = 0
  ) throws {
    try folder.write(
      ToyNode.yaml(
        steering, settings: settings, slots: slots, toyKeys: toyKeys, watches: watches, probationMs: probationMs),
      to: "backplane.yaml")
  }

  public func set(_ name: String, _ isOn: Bool = true) throws {
    if isOn {
      try folder.write("", to: "steer/\(name)")
    } else {
      try FileManager.default.removeItem(atPath: "\(steering)/\(name)")
    }
  }

  /// The lines `VERSION step` that the toys have written.
  public var events: [String] {
    ((try? String(contentsOfFile: steering + "/events", encoding: .utf8)) ?? "").split(separator: "\n").map(String.init)
  }

  /// The version of the toy that answers now.
  public func servingVersion() throws -> String {
    let answer = try node.read("mutable/open/version")
    guard answer.status == 200, let object = answer.json as? [String: Any],
      let version = (object["data"] as? [String: Any])?["version"] as? String
    else { throw NodeProcess.Failed(description: "\(answer.status) \(answer.text)") }
    return version
  }

  /// True as soon as this version serves.
  public func comesToServe(_ version: String, seconds: Double = 20) throws -> Bool {
    try Polling.until(seconds: seconds) { try servingVersion() == version }
  }

  /// What is mapped into the node, by the file's path.
  public var mappedFiles: Set<String> {
    Set(
      ProcessFile.read("/proc/\(node.pid)/maps").split(separator: "\n").compactMap { line in
        line.firstIndex(of: "/").map { String(line[$0...]) }
      })
  }
}

/// Files of /proc, which come in pieces and do not say how long they are.
public enum ProcessFile {
  /// The whole text; empty when it cannot be read.
  public static func read(_ path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
      bytes += buffer[0..<count]
    }
  }
}

/// A number from the environment, for runs that are longer or shorter than usual.
public func setting(_ name: String, default value: Int) -> Int {
  ProcessInfo.processInfo.environment[name].flatMap { Int($0) } ?? value
}
