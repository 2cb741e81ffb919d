import Foundation
import PluginAPI
import Testing

/// Paths, compilers and loading for the trial.
enum Toolbox {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()
  static var headers: String { root.appendingPathComponent("Sources/PluginAPI/ABI/include").path }
  static var toys: URL { root.appendingPathComponent("Tests/BoundaryTrial/Toys/C") }

  /// A folder outside of the package tree, removed when the process ends normally.
  static let scratch: URL = {
    let template = FileManager.default.temporaryDirectory.appendingPathComponent("boundary-trial-XXXXXX").path
    var bytes = Array(template.utf8CString)
    guard mkdtemp(&bytes) != nil else { fatalError("no folder could be made from \(template)") }
    let path = String(decoding: bytes.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    atexit { Toolbox.removeScratch() }
    return URL(fileURLWithPath: path)
  }()

  private static func removeScratch() { try? FileManager.default.removeItem(at: scratch) }

  /// Where a tool is, or nil.
  static func find(_ tool: String) -> String? {
    (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/\(tool)" }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  /// Runs what blocks on a thread of its own: the shared pool has as many threads as cores, and hosts need it.
  static func offPool<R: Sendable>(_ body: @escaping @Sendable () throws -> R) async throws -> R {
    try await withCheckedThrowingContinuation { continuation in
      Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
    }
  }

  /// Runs a tool; its output too. Not Foundation's Process: its pipes leak into children that are spawned meanwhile.
  static func run(_ tool: String, _ arguments: [String]) async throws -> (status: Int32, output: String) {
    let path = try #require(find(tool), "\(tool) is not installed")
    let log = scratch.appendingPathComponent("\(UUID().uuidString).log").path
    return try await offPool {
      var actions = posix_spawn_file_actions_t()
      posix_spawn_file_actions_init(&actions)
      defer { posix_spawn_file_actions_destroy(&actions) }
      posix_spawn_file_actions_addopen(&actions, 1, log, O_CREAT | O_WRONLY | O_TRUNC, 0o600)
      posix_spawn_file_actions_adddup2(&actions, 1, 2)
      var words = ([path] + arguments).map { (text: String) in strdup(text) } + [nil]
      defer { for word in words { free(word) } }
      var child: pid_t = 0
      let status = posix_spawn(&child, path, &actions, nil, &words, environ)
      guard status == 0 else { throw Failure.unavailable("\(path): \(String(cString: strerror(status)))") }
      var end: Int32 = 0
      while waitpid(child, &end, 0) < 0 && errno == EINTR {}
      return (end, (try? String(contentsOfFile: log, encoding: .utf8)) ?? "")
    }
  }

  /// Builds Toys/C/`name`.c as a plugin author would and returns the file.
  static func build(_ name: String) async throws -> String {
    let file = scratch.appendingPathComponent("\(name)-\(UUID().uuidString).so").path
    let (status, output) = try await run(
      "cc",
      [
        "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-z,defs", "-I\(headers)", "-Wall", "-Wextra", "-Werror",
        "-std=c11", toys.appendingPathComponent("\(name).c").path, "-o", file,
      ])
    try #require(status == 0, "\(name).c does not compile:\n\(output)")
    return file
  }

  /// Opens a plugin file and returns its entry. The image stays mapped.
  static func open(_ file: String) throws -> Entry {
    guard let image = dlopen(file, RTLD_NOW | RTLD_LOCAL | Int32(RTLD_NODELETE)) else {
      throw Failure.internal("dlopen: \(String(cString: dlerror()))")
    }
    let symbol = try #require(dlsym(image, BP_ENTRY_SYMBOL), "the entry symbol is missing")
    typealias Function = @convention(c) () -> UnsafePointer<bp_entry>
    return Entry(pointer: unsafeBitCast(symbol, to: Function.self)())
  }

  /// A toy in C: built, and opened in this process.
  static func c(_ name: String) async throws -> Entry { try open(await build(name)) }
}

/// A plugin's entry.
struct Entry: @unchecked Sendable {
  // @unchecked: an entry is constant for the life of the process.
  let pointer: UnsafePointer<bp_entry>
  init(pointer: UnsafePointer<bp_entry>) { self.pointer = pointer }
  init(_ entry: PluginEntry) { pointer = entry.pointer }
  init(_ entry: RawEntry) { pointer = entry.pointer }
}

/// The two languages of a toy.
enum Language: String, CaseIterable, Sendable { case c, swift }

extension [UInt8] {
  init(_ text: String) { self = Array(text.utf8) }
}
