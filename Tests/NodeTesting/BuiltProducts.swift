import Foundation

/// Where the build has put the executables and plugins: beside the test bundle.
public enum BuiltProducts {
  public static let directory: String = {
    if let named = ProcessInfo.processInfo.environment["BACKPLANE_BUILT_PRODUCTS"] { return named }
    // The test executable lies in the same folder as lib*.so.
    let executable = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
    let folder = (executable as NSString).deletingLastPathComponent
    if FileManager.default.fileExists(atPath: folder + "/backplane") { return folder }
    return (Bundle.main.bundlePath as NSString).deletingLastPathComponent
  }()

  public static var backplane: String { directory + "/backplane" }

  /// The file of a bundled plugin: `backend-memory`, `transport-http`, ...
  public static func plugin(_ name: String) -> String { "\(directory)/libbackplane-\(name).so" }

  public static let bundled = ["backend-memory", "backend-sqlite", "schema-permissive", "transport-http"]

  /// Bundled too, but dropped in only by the tests that are about them: a node stages everything that lies there.
  public static let occasional = ["backend-http", "backend-mongodb", "schema-b3nd", "schema-rules"]
}

/// A folder of its own for one test, removed with it.
public final class TemporaryFolder: Sendable {
  public let path: String

  public init() throws {
    path = NSTemporaryDirectory() + "backplane-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  public func write(_ text: String, to name: String) throws {
    let file = path + "/" + name
    try FileManager.default.createDirectory(
      atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try Data(text.utf8).write(to: URL(fileURLWithPath: file), options: .atomic)
  }
}

/// Copies a plugin so that its content is new: a build id of its own at the end, as a rebuilt file would have.
public enum PluginFile {
  /// Renames the copy into place, as a package manager would.
  public static func drop(_ source: String, into directory: String, as name: String, stamp: String = "") throws {
    var data = try Data(contentsOf: URL(fileURLWithPath: source))
    data.append(Data(stamp.utf8))
    let target = "\(directory)/\(name)"
    let temporary = "\(directory)/.\(name).part"
    FileManager.default.createFile(atPath: temporary, contents: data, attributes: [.posixPermissions: 0o755])
    guard rename(temporary, target) == 0 else {
      throw NSError(domain: NSPOSIXErrorDomain, code: Int(errno))
    }
  }
}
