import Foundation
import SystemShims

/// The process that is to take this one's place. Named by a pidfd, and not reaped by anybody but us: no other process is
/// ever meant.
final class SuccessorProcess: Sendable {
  let pid: pid_t
  let descriptor: Int32
  let channel: UpgradeChannel

  struct Failure: Error {
    let sentence: String
  }

  private static let upgradeTarget: Int32 = 3
  private static let shepherdTarget: Int32 = 4

  private init(_ pid: pid_t, _ descriptor: Int32, _ channel: UpgradeChannel) {
    self.pid = pid
    self.descriptor = descriptor
    self.channel = channel
  }

  deinit { close(descriptor) }

  /// Starts it as this process was started; it lives on when this one ends.
  ///
  /// - Parameter shepherd: its end of the line to the shepherd; stays the caller's.
  static func start(_ origin: ProcessOrigin, executable: String?, shepherd: Int32?) throws(Failure) -> SuccessorProcess
  {
    var pair: [Int32] = [-1, -1]
    guard bp_shim_socket_pair(&pair) == 0 else {
      throw Failure(sentence: "no descriptor is free: \(String(cString: strerror(errno)))")
    }
    defer { close(pair[1]) }
    let channel = UpgradeChannel(pair[0])
    // Out of the way of the targets.
    let sources = [pair[1], shepherd ?? -1].map { $0 < 0 ? -1 : fcntl($0, F_DUPFD_CLOEXEC, shepherdTarget + 1) }
    defer { for source in sources where source >= 0 { close(source) } }
    var environment = origin.environment
    environment[ProcessOrigin.upgradeVariable] = "\(upgradeTarget)"
    if shepherd != nil { environment[ProcessOrigin.shepherdVariable] = "\(shepherdTarget)" }
    // systemd's is for the process that it started; the new one is told by it to be the main one.
    environment["WATCHDOG_PID"] = nil

    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, sources[0], upgradeTarget)
    if sources[1] >= 0 { posix_spawn_file_actions_adddup2(&actions, sources[1], shepherdTarget) }
    bp_shim_spawn_closes_from(&actions, sources[1] >= 0 ? shepherdTarget + 1 : shepherdTarget)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigdefault(&attributes, &all)
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    var flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK
    if shepherd != nil {
      // What is sent to the group reaches it through the shepherd, once.
      posix_spawnattr_setpgroup(&attributes, 0)
      flags |= POSIX_SPAWN_SETPGROUP
    }
    posix_spawnattr_setflags(&attributes, Int16(flags))
    let path = executable ?? origin.executable
    var pid = pid_t()
    let error = withCStrings(origin.arguments) { argv in
      withCStrings(environment.map { "\($0.key)=\($0.value)" }) { envp in
        posix_spawn(&pid, path, &actions, &attributes, argv, envp)
      }
    }
    guard error == 0 else {
      throw Failure(sentence: "\(Wording.printable(path)) cannot be started: \(String(cString: strerror(error)))")
    }
    let descriptor = bp_shim_pidfd_open(pid)
    guard descriptor >= 0 else {
      Glibc.kill(pid, SIGKILL)
      waitpid(pid, nil, 0)
      throw Failure(sentence: "the system has no pidfd: \(String(cString: strerror(errno)))")
    }
    return SuccessorProcess(pid, descriptor, channel)
  }

  func signal(_ number: Int32) { _ = bp_shim_pidfd_kill(descriptor, number) }

  /// Kills it and waits for its end: what it held is free then. How it ended, when it had by itself.
  @discardableResult
  func end(patienceMs: Int32 = 0) -> String {
    // It may be about to say by its status why it is gone.
    var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    let isGone = poll(&polled, 1, patienceMs) > 0
    if !isGone { signal(SIGKILL) }
    var (signal, status): (Int32, Int32) = (0, 0)
    _ = bp_shim_pidfd_wait(descriptor, &signal, &status)
    guard isGone else { return "" }
    return Child.Ending(output: [], errors: [], signal: signal, status: status, isTimedOut: false).cause
  }

  private static func withCStrings<R>(_ texts: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> R) -> R {
    let copies = texts.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    return body(copies + [nil])
  }
}
