import Foundation
import Kernel

/// A folder of its own for one test, with the files given; removed with the value.
final class ConfigurationFolder {
  let path: String

  init(_ files: [String: String] = [:]) throws {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("configuring-" + UUID().uuidString)
    // Resolved, because the loader gives absolute paths and the temporary folder may be a link.
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.resolvingSymlinksInPath().path
    for (name, text) in files { try write(name, text) }
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ name: String, _ text: String) throws { try write(name, bytes: Array(text.utf8)) }

  func write(_ name: String, bytes: [UInt8]) throws {
    let url = URL(fileURLWithPath: path + "/" + name)
    try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(bytes).write(to: url)
  }

  func load(_ environment: [String: String] = [:], _ flags: ConfigurationFlags = ConfigurationFlags())
    throws(ConfigurationError) -> LoadedConfiguration
  {
    try ConfigurationLoader.load(flags: flags, environment: environment, workingDirectory: path)
  }

  /// The problems of a configuration that must be refused; none when it is taken, which fails the caller's checks.
  func problems(
    _ environment: [String: String] = [:], _ flags: ConfigurationFlags = ConfigurationFlags()
  ) -> [String] {
    do throws(ConfigurationError) {
      _ = try load(environment, flags)
      return []
    } catch { return error.problems.map(\.description) }
  }
}

extension LoadedConfiguration {
  func slot(_ name: String) -> SlotConfiguration? { node.slots.first { $0.name == name } }
  func value(_ key: String) -> String? {
    values.first { $0.key == key }.map { "\($0.value) \($0.origin)" }
  }
}
