import Foundation
import NodeTesting
import Testing

/// C sources that are compiled into a toy beside toy.c, and what they wrote while they ran.
struct Trace {
  /// Each constructor that runs appends one line to it: `PID text`.
  let path: String

  init(_ folder: TemporaryFolder, _ name: String = "trace") { path = "\(folder.path)/\(name)" }

  /// The lines of this process; nil: of every one.
  func lines(of pid: Int32? = nil) -> [String] {
    let lines = ((try? String(contentsOfFile: path, encoding: .utf8)) ?? "").split(separator: "\n")
    return lines.compactMap { line in
      let parts = line.split(separator: " ", maxSplits: 1)
      guard parts.count == 2, pid == nil || parts[0] == "\(pid!)" else { return nil }
      return String(parts[1])
    }
  }

  /// A source whose constructor writes `text`, a C expression, and before it runs `before`.
  func constructor(_ text: String, declaring: String = "", before: String = "", in folder: TemporaryFolder) throws
    -> String
  {
    let file = "constructor-\(UUID().uuidString).c"
    try folder.write(
      """
      #include <fcntl.h>
      #include <stdio.h>
      #include <unistd.h>
      \(declaring)
      __attribute__((constructor)) static void traced(void) {
        \(before)
        int file = open("\(path)", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (file < 0) return;
        dprintf(file, "%d %s\\n", (int)getpid(), \(text));
        close(file);
      }
      """, to: file)
    return "\(folder.path)/\(file)"
  }
}

extension ToyNode {
  /// The hash in the name of every staged file that is mapped.
  var mappedContents: Set<String> {
    Set(
      mappedFiles.compactMap { path in
        let name = (path.replacingOccurrences(of: " (deleted)", with: "") as NSString).lastPathComponent
        return path.contains("/staging/") ? (name as NSString).deletingPathExtension : nil
      })
  }

  func file(_ name: String = Toy.file) -> String { "\(node.pluginsDirectory)/\(name)" }
}

func read(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

/// Writes over a file where it lies: the inode stays.
func overwrite(_ path: String, _ bytes: [UInt8]) throws {
  let descriptor = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC)
  try #require(descriptor >= 0)
  defer { close(descriptor) }
  try #require(write(descriptor, bytes, bytes.count) == bytes.count)
}

func status(_ path: String) throws -> stat {
  var facts = stat()
  try #require(lstat(path, &facts) == 0)
  return facts
}

/// A node with the unruly backend as its only one.
struct UnrulyNode {
  let node: NodeProcess

  init(
    _ manner: UnrulyPlugin.Manner, in place: UnrulyPlugin.Place, keys: String = "",
    settings: String = "reload: {watch: false, probation_ms: 0}"
  ) throws {
    let folder = try TemporaryFolder()
    let plugins = folder.path + "/plugins.d"
    try FileManager.default.createDirectory(atPath: plugins, withIntermediateDirectories: true)
    try UnrulyPlugin.drop(into: plugins)
    node = try NodeProcess(
      folder: folder,
      configuration: "\(settings)\nslots:\n\(UnrulyPlugin.slot("unruly", manner, in: place, keys: keys))\n")
  }

  func drop(version: String = "1.0.0", stamp: String = "") throws {
    try UnrulyPlugin.drop(into: node.pluginsDirectory, version: version, stamp: stamp)
  }

  func reload() throws -> TestReceipt { try node.reloadDirectly(now: ["*"]) }
}

extension NodeProcess {
  /// Whether a child of the node's is running.
  var hasChildren: Bool {
    let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task")) ?? []
    return tasks.contains { !ProcessFile.read("/proc/\(pid)/task/\($0)/children").isEmpty }
  }

  /// Whether it has got so far that SIGHUP waits to be heeded and would not end it.
  var blocksHangups: Bool {
    let lines = ProcessFile.read("/proc/\(pid)/status").split(separator: "\n")
    let masks = lines.filter { $0.hasPrefix("SigBlk:") || $0.hasPrefix("SigCgt:") }
    return masks.contains { line in
      UInt64(line.split(whereSeparator: \.isWhitespace).last ?? "", radix: 16).map { $0 & 1 != 0 } ?? false
    }
  }

  func slotNames() throws -> Set<String> {
    let slots = try ask(["command": "status"])["slots"] as? [[String: Any]] ?? []
    return Set(slots.compactMap { $0["name"] as? String })
  }
}
