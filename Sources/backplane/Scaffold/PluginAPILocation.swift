import Foundation

/// Where the PluginAPI package is, which a new plugin is built against.
enum PluginAPILocation {
  static let variable = "BACKPLANE_PLUGIN_API"

  /// The absolute path of the package: the flag, else the environment, else looked for beside this executable. Throws a
  /// sentence when it is not there.
  static func find(flag: String?) throws(CommandFailure) -> String {
    if let flag { return try check(flag, "--plugin-api") }
    if let path = ProcessInfo.processInfo.environment[variable], !path.isEmpty { return try check(path, variable) }
    for candidate in candidates() where isPackage(candidate) { return try check(candidate, "this executable's folder") }
    throw CommandFailure(
      .usage,
      "the PluginAPI package was not found near this executable. Say where it is with --plugin-api PATH or \(variable): "
        + "the folder Sources/PluginAPI of Backplane's source.")
  }

  private static func check(_ path: String, _ origin: String) throws(CommandFailure) -> String {
    let absolute = URL(fileURLWithPath: path).standardizedFileURL.path
    guard isPackage(absolute) else {
      throw CommandFailure(
        .usage,
        "\(origin) says \(Output.printable(path)), which is not the PluginAPI package: it has no "
          + "ABI/include/backplane/core.h. Name the folder Sources/PluginAPI of Backplane's source.")
    }
    guard
      absolute.unicodeScalars.allSatisfy({
        $0.value > 0x20 && $0.value != 0x7F && !"\"\\$#:'".unicodeScalars.contains($0)
      })
    else {
      throw CommandFailure(
        .usage,
        "the path \(Output.printable(absolute)) cannot be written into a Makefile or Package.swift as it is: it holds a "
          + "space or one of \"\\$#:'. Give --plugin-api a symbolic link to it whose path holds none.")
    }
    return absolute
  }

  private static func isPackage(_ path: String) -> Bool {
    ["Package.swift", "ABI/include/backplane/core.h"].allSatisfy {
      FileManager.default.fileExists(atPath: "\(path)/\($0)")
    }
  }

  /// `share/backplane/PluginAPI` beside `bin`, and the source tree that the executable was built in.
  private static func candidates() -> [String] {
    guard let executable = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") else {
      return []
    }
    var folder = URL(fileURLWithPath: executable).deletingLastPathComponent()
    var candidates = [folder.deletingLastPathComponent().appendingPathComponent("share/backplane/PluginAPI").path]
    while folder.path != "/" {
      candidates.append(folder.appendingPathComponent("Sources/PluginAPI").path)
      folder.deleteLastPathComponent()
    }
    return candidates
  }
}
