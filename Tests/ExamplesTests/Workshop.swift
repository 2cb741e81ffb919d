import Foundation
import NodeTesting
import Testing

/// A folder outside the package tree, for the whole run: what a plugin author has (the headers, or the PluginAPI
/// package), and what is built there. Packages share one scratch folder, so that PluginAPI is compiled once.
enum Workshop {
  /// Where this package is, from which examples are copied.
  static let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

  static let path: String = {
    let path = NSTemporaryDirectory() + "backplane-examples-\(UUID().uuidString.prefix(8))"
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      try FileManager.default.copyItem(atPath: "\(source)/Sources/PluginAPI", toPath: pluginAPI(path))
      // Builds of the tree's own are no part of what an author gets.
      try? FileManager.default.removeItem(atPath: "\(pluginAPI(path))/.build")
      try FileManager.default.copyItem(
        atPath: "\(source)/Sources/PluginAPI/ABI/include", toPath: "\(path)/include")
    } catch { fatalError("the workshop \(path) cannot be set up: \(error)") }
    atexit { try? FileManager.default.removeItem(atPath: Workshop.path) }
    return path
  }()

  static var pluginAPI: String { pluginAPI(path) }
  static var headers: String { path + "/include" }
  static var scratch: String { path + "/scratch" }
  /// The plan of the package that was built before must not be taken for this one's.
  static let scratchArguments = ["--scratch-path", scratch, "--disable-build-manifest-caching"]
  private static func pluginAPI(_ path: String) -> String { path + "/PluginAPI" }

  static func has(_ tool: String) -> Bool {
    (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
      .contains { FileManager.default.isExecutableFile(atPath: "\($0)/\(tool)") }
  }

  /// Runs a tool of the machine; its output when it succeeds, else the test fails with what it said.
  @discardableResult
  static func run(_ tool: String, _ arguments: [String], in folder: String) throws -> String {
    let (output, errors, status) = try CommandLineTool.run(
      "/usr/bin/env", [tool] + arguments, in: folder,
      environment: ["BACKPLANE_PLUGIN_API": pluginAPI, "BACKPLANE_INCLUDE": headers])
    try #require(status == 0, "\(tool) \(arguments.joined(separator: " ")) failed:\n\(output)\(errors)")
    return output
  }

  /// Runs the `backplane` that was built beside this test.
  static func backplane(
    _ arguments: [String], in folder: String
  ) throws -> (output: String, errors: String, status: Int32) {
    try CommandLineTool.run(
      BuiltProducts.backplane, arguments, in: folder, environment: ["BACKPLANE_PLUGIN_API": pluginAPI])
  }
}
