import Foundation
import PluginAPI
import Synchronization

@testable import boundary_trial_child

/// The child: spawned with one socket, gone when the socket is closed.
final class ChildProcess: Sendable {
  let wire: Wire
  let identifier: pid_t
  private let reaped = Mutex<Int32?>(nil)

  /// The executable that SwiftPM builds beside the test bundle.
  static var executable: URL {
    URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
      .appendingPathComponent("boundary-trial-child")
  }

  init(file: String, slot: String) throws {
    var ends: [Int32] = [-1, -1]
    guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
      throw Failure.exhausted("socketpair: \(String(cString: strerror(errno)))")
    }
    defer { close(ends[1]) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // A dup2 onto itself would leave close-on-exec set; the socket is never descriptor 3 in a running test process.
    posix_spawn_file_actions_adddup2(&actions, ends[1], Child.socketDescriptor)
    let path = ChildProcess.executable.path
    var arguments = [path, file, slot].map { (text: String) in strdup(text) } + [nil]
    var environment = ProcessInfo.processInfo.environment
    // The backtracer of a crashing child would cost seconds and hold the socket open.
    environment["SWIFT_BACKTRACE"] = "enable=no"
    var variables = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { for text in arguments + variables { free(text) } }
    var identifier: pid_t = 0
    let status = posix_spawn(&identifier, path, &actions, nil, &arguments, &variables)
    guard status == 0 else {
      close(ends[0])
      throw Failure.unavailable("\(path) could not be started: \(String(cString: strerror(status)))")
    }
    self.identifier = identifier
    wire = Wire(ends[0])
  }

  deinit { close(wire.descriptor) }

  /// Ends the socket; the child reads the end of it and leaves.
  func hangUp() { shutdown(wire.descriptor, Int32(SHUT_RDWR)) }

  /// Waits for the end: the signal that ended it, or 0. Call when the socket is at its end.
  func wait() -> Int32 {
    reaped.withLock { reaped in
      if let reaped { return reaped }
      var status: Int32 = 0
      while waitpid(identifier, &status, 0) < 0 && errno == EINTR {}
      reaped = status & 0x7F
      return status & 0x7F
    }
  }
}
