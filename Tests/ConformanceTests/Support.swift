import Foundation

/// A folder for one test, removed with the value.
final class TestFolder: Sendable {
  let path: String

  init() {
    path = FileManager.default.temporaryDirectory.path + "/conformance-" + UUID().uuidString
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Programs that tests run.
enum Tool {
  struct Ending: Sendable {
    var status: Int32
    var output: String
    var error: String
  }

  static func run(_ executable: String, _ arguments: [String]) async throws -> Ending {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = arguments
    let (output, error) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = error
    return try await withCheckedThrowingContinuation { continuation in
      // A thread of its own: reading to the end blocks. What goes to the error stream fits into the pipe.
      Thread.detachNewThread {
        do {
          try process.run()
          let text = try output.fileHandleForReading.readToEnd() ?? Data()
          let errors = try error.fileHandleForReading.readToEnd() ?? Data()
          process.waitUntilExit()
          continuation.resume(
            returning: Ending(
              status: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
              error: String(decoding: errors, as: UTF8.self)))
        } catch { continuation.resume(throwing: error) }
      }
    }
  }

  /// The folder that the build put the test, `backplane` and the plugins into.
  static var products: String {
    var binary = CommandLine.arguments[0]
    if let image = ProcessInfo.processInfo.arguments.first(where: { $0.hasSuffix(".xctest") }) { binary = image }
    return URL(fileURLWithPath: binary).resolvingSymlinksInPath().deletingLastPathComponent().path
  }

  static var backplane: String { products + "/backplane" }

  /// The C headers of the boundary, in the package that this file is part of.
  static var headers: String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Sources/PluginAPI/ABI/include").path
  }
}

/// The answer of `plugin check --json`.
struct CheckAnswer: Decodable {
  struct Check: Decodable {
    var name: String
    var passed: Bool
    var detail: String
  }
  struct Capability: Decodable, Equatable {
    var name: String
    var value: String
  }

  var ok: Bool
  var seed: UInt64
  var checks: [Check]
  var capabilities: [Capability]

  var failures: [Check] { checks.filter { !$0.passed } }

  static func of(_ file: String, _ options: String...) async throws -> (status: Int32, answer: CheckAnswer) {
    try await of(file, options: options)
  }

  static func of(_ file: String, options: [String]) async throws -> (status: Int32, answer: CheckAnswer) {
    let ending = try await Tool.run(Tool.backplane, ["plugin", "check", file, "--json"] + options)
    do {
      return (ending.status, try JSONDecoder().decode(CheckAnswer.self, from: Data(ending.output.utf8)))
    } catch {
      struct Unreadable: Error { var text: String }
      throw Unreadable(text: "\(ending)")
    }
  }
}
