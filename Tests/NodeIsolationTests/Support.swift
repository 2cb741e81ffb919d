import Foundation
import NodeTesting
import Testing

/// The backend of Plugins/misfit.c, compiled as a plugin author would compile it.
struct Misfit {
  var version = "1.0.0"
  /// The life-cycle function that does not come back.
  var hang = ""
  /// What the manifest says.
  var wish = "any"

  static let file = "misfit.so"

  private static let root = (0..<3).reduce(#filePath) { path, _ in (path as NSString).deletingLastPathComponent }

  /// Compiles it into `folder`; the file.
  func build(in folder: TemporaryFolder) throws -> String {
    let name = "misfit-\(UUID().uuidString)"
    let directory = "\(folder.path)/\(name)"
    try folder.write(
      """
      {"id": "org.example.misfit", "version": "\(version)", "kinds": ["backend"], "schemes": ["misfit"],
       "abi": {"major": 0, "minor": 1}, "runtime": "c", "isolation": "\(wish)"}
      """, to: "\(name)/manifest.json")
    let file = "\(directory)/\(Self.file)"
    // With symbols: a report of a crash names the functions that an image exports.
    let arguments = [
      "-shared", "-fPIC", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-w", "-Wl,-z,defs", "-Wl,--build-id=uuid",
      "-I\(Self.root)/Sources/PluginAPI/ABI/include", "-I\(Self.root)/Tests/BoundaryTrial/Toys/C", "-I\(directory)",
      "-Wa,-I\(directory)", "-DMISFIT_VERSION=\"\(version)\"", "-DMISFIT_HANG=\"\(hang)\"",
      "\(Self.root)/Tests/NodeIsolationTests/Plugins/misfit.c", "-o", file, "-lpthread",
    ]
    let (output, errors, status) = try CommandLineTool.run("/usr/bin/cc", arguments, in: directory)
    try #require(status == 0, "misfit.c does not compile:\n\(output)\(errors)")
    return file
  }
}

/// A node whose only backend is the misfit, isolated.
final class MisfitNode {
  let node: NodeProcess
  let folder: TemporaryFolder

  /// - Parameters:
  ///   - settings: YAML before `slots:`.
  ///   - keys: YAML of the misfit's slot.
  init(
    _ misfit: Misfit = Misfit(), settings: String = "", keys: String = "isolation: process", waits: Bool = true
  ) throws {
    folder = try TemporaryFolder()
    try FileManager.default.createDirectory(atPath: folder.path + "/plugins.d", withIntermediateDirectories: true)
    try PluginFile.drop(try misfit.build(in: folder), into: folder.path + "/plugins.d", as: Misfit.file)
    node = try NodeProcess(
      folder: folder, configuration: MisfitNode.yaml(settings: settings, keys: keys), waits: waits)
  }

  static func yaml(settings: String = "", keys: String = "isolation: process") -> String {
    """
    reload:
      watch: false
      settle_ms: 50
      start_timeout_ms: 1500
      drain_soft_ms: 1000
      probation_ms: 0
    \(settings)
    slots:
      misfit:
        kind: backend
        url: misfit://
        \(keys)
    """
  }

  func drop(_ misfit: Misfit) throws {
    try PluginFile.drop(try misfit.build(in: folder), into: node.pluginsDirectory, as: Misfit.file)
  }

  /// The process that hosts the misfit.
  func processID() throws -> Int32 {
    let answer = try node.read("mutable/open/pid")
    guard answer.status == 200, let object = answer.json as? [String: Any], let number = object["data"] as? Int else {
      throw NodeProcess.Failed(description: "\(answer.status) \(answer.text)\n\(node.log)")
    }
    return Int32(number)
  }

  /// Waits until another process than `old` hosts it.
  func awaitRestart(of old: Int32) throws -> Int32 {
    var now = old
    let isBack = Polling.until {
      (try? self.processID()).map {
        now = $0; return $0 != old
      } ?? false
    }
    try #require(isBack, "no other process came\n\(node.log)")
    return now
  }
}

/// A process, told from a later one of the same number by its start.
struct ProcessMark: Equatable {
  let id: Int32
  let startTicks: String

  /// Nil when there is no such process, or it is dead and not reaped.
  init?(_ id: Int32) {
    guard let text = try? String(contentsOfFile: "/proc/\(id)/stat", encoding: .utf8),
      let end = text.range(of: ") ", options: .backwards)
    else { return nil }
    let fields = text[end.upperBound...].split(separator: " ")
    guard fields.count > 19, fields[0] != "Z", fields[0] != "X" else { return nil }
    self.id = id
    startTicks = String(fields[19])
  }

  var isAlive: Bool { ProcessMark(id) == self }

  /// The living children of a process.
  static func children(of parent: Int32) -> [ProcessMark] {
    let processes = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return processes.compactMap { Int32($0) }.filter { id in
      guard let text = try? String(contentsOfFile: "/proc/\(id)/stat", encoding: .utf8),
        let end = text.range(of: ") ", options: .backwards)
      else { return false }
      let fields = text[end.upperBound...].split(separator: " ")
      return fields.count > 1 && Int32(fields[1]) == parent
    }.compactMap { ProcessMark($0) }
  }
}
