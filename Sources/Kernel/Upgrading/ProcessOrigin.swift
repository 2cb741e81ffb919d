import Foundation

/// How this process was started, remembered before anything has changed: a kernel that takes its place is started alike.
public struct ProcessOrigin: Sendable {
  /// The descriptor of the kernel whose place this one is to take.
  static let upgradeVariable = "BACKPLANE_UPGRADE_FD"
  /// The descriptor of the shepherd.
  static let shepherdVariable = "BACKPLANE_SHEPHERD_FD"

  let executable: String
  let arguments: [String]
  let environment: [String: String]
  let upgradeDescriptor: Int32?
  let shepherdDescriptor: Int32?

  /// Of a process that is a node's; nil in any other, which is never replaced.
  // nonisolated(unsafe): written by `remember` before there is another thread, only read afterwards.
  nonisolated(unsafe) static private(set) var current: ProcessOrigin?

  /// Call it first thing in main of a node, before any other thread; once.
  public static func remember() {
    var environment = ProcessInfo.processInfo.environment
    func take(_ name: String) -> Int32? {
      unsetenv(name)
      guard let descriptor = environment.removeValue(forKey: name).flatMap({ Int32($0) }), descriptor > 2,
        fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0
      else { return nil }
      return descriptor
    }
    let upgrade = take(upgradeVariable)
    let shepherd = take(shepherdVariable)
    var path =
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
    // The file has been replaced already.
    if path.hasSuffix(" (deleted)") { path = String(path.dropLast(10)) }
    current = ProcessOrigin(
      executable: path, arguments: CommandLine.arguments, environment: environment, upgradeDescriptor: upgrade,
      shepherdDescriptor: shepherd)
  }

  /// A service manager follows the process by what it is told (NOTIFY_SOCKET).
  var hasServiceManager: Bool { !(environment["NOTIFY_SOCKET"] ?? "").isEmpty }
}
