import Foundation
import Synchronization

/// The backend of Tests/Toys/unruly.c, which misbehaves as its slot's configuration says. Scheme: `unruly`.
public enum UnrulyPlugin {
  public static let id = "org.example.unruly"
  public static let file = "unruly.so"

  /// What it does, as unruly.c tells.
  public enum Manner: String, CaseIterable, Sendable {
    case segfault, trap, abort, exit, spin, deadlock, leak, twice, never, stray, slow, fail, outlive
    case closeDescriptors = "close-descriptors"
  }

  /// Where it does it.
  public enum Place: String, CaseIterable, Sendable {
    case read, apply, scan, configure, start, quiesce, stop, destroy
  }

  /// One line of YAML for `slots:`, indented by two.
  ///
  /// - Parameters:
  ///   - match: calls misbehave when their URI contains it; empty: every one.
  ///   - ownThread: in a thread of the plugin's own.
  ///   - keys: YAML of further members, such as `isolation: process, delay_ms: 50`.
  public static func slot(
    _ name: String = "unruly", _ manner: Manner? = nil, in place: Place? = nil, match: String = "/unruly",
    ownThread: Bool = false, order: Int = 1, keys: String = ""
  ) -> String {
    var members = ["kind: backend", "order: \(order)", "url: \"unruly://\"", "match: \"\(match)\""]
    if let manner { members.append("manner: \(manner.rawValue)") }
    if let place { members.append("in: \(place.rawValue)") }
    if ownThread { members.append("own_thread: true") }
    if !keys.isEmpty { members.append(keys) }
    return "  \(name): {\(members.joined(separator: ", "))}"
  }

  /// Renames it into a plugin directory; `stamp` makes its content another one.
  public static func drop(into directory: String, version: String = "1.0.0", stamp: String = "") throws {
    try PluginFile.drop(try built(version), into: directory, as: file, stamp: stamp)
  }

  /// The compiled file of this version; compiled once in this process.
  public static func built(_ version: String = "1.0.0") throws -> String {
    try builds.withLock { builds in
      if let file = builds.files[version] { return file }
      let folder = try builds.folder ?? TemporaryFolder()
      builds.folder = folder
      let file = try CPlugin.build(
        "\(SourceTree.root)/Tests/Toys/unruly.c",
        manifest: """
          {"id": "\(id)", "version": "\(version)", "kinds": ["backend"], "schemes": ["unruly"],
           "abi": {"major": 0, "minor": 1}, "runtime": "c"}
          """, definitions: ["TOY_VERSION=\"\(version)\""], in: folder)
      builds.files[version] = file
      return file
    }
  }

  private static let builds = Mutex<(folder: TemporaryFolder?, files: [String: String])>((nil, [:]))
}

/// Compiles plugins in C as a plugin author would.
public enum CPlugin {
  /// - Parameters:
  ///   - manifest: the text of manifest.json.
  ///   - definitions: `NAME=value` for the preprocessor.
  ///   - folder: where a folder of its own is made for it.
  ///   - arguments: further arguments for the compiler.
  /// - Returns: the shared library.
  public static func build(
    _ source: String, manifest: String, definitions: [String] = [], in folder: TemporaryFolder,
    arguments: [String] = []
  ) throws -> String {
    let name = "build-\(UUID().uuidString)"
    let directory = "\(folder.path)/\(name)"
    try folder.write(manifest, to: "\(name)/manifest.json")
    let file = "\(directory)/plugin.so"
    let root = SourceTree.root
    let (output, errors, status) = try CommandLineTool.run(
      "/usr/bin/cc",
      [
        "-shared", "-fPIC", "-fvisibility=hidden", "-std=gnu11", "-Wl,-z,defs", "-Wl,--build-id=uuid",
        "-I\(root)/Sources/PluginAPI/ABI/include", "-I\(root)/Tests/BoundaryTrial/Toys/C", "-I\(directory)",
        "-Wa,-I\(directory)",
      ] + definitions.map { "-D\($0)" } + arguments + [source, "-o", file, "-lpthread"], in: directory)
    guard status == 0 else {
      throw NodeProcess.Failed(description: "\(source) does not compile:\n\(output)\(errors)")
    }
    return file
  }
}

/// The package that the tests were built from.
public enum SourceTree {
  public static let root = (0..<3).reduce(#filePath) { path, _ in (path as NSString).deletingLastPathComponent }
}
