import Foundation
import SystemShims

/// A process that the runner has started, and the end of the pipe with what it prints. Used on the runner's thread alone.
final class RunnerChild {
  let plan: ServicePlan
  /// Names the process and no other; readable when it has ended.
  let process: Int32
  let startedNs: UInt64
  private(set) var output: Int32
  private var line: [UInt8] = []

  /// Longer lines are printed in pieces.
  private static let lineSizeBytesMax = 64 << 10

  /// Starts it. Call it on a thread that lives as long as the runner: the child dies with the thread.
  init(_ plan: ServicePlan, executable: String) throws {
    let files = FileManager.default
    try files.createDirectory(
      atPath: plan.directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    try Data(plan.configuration.utf8).write(to: URL(fileURLWithPath: plan.directory + "/backplane.yaml"))
    var pipe: [Int32] = [-1, -1]
    guard bp_shim_pipe(&pipe) == 0 else {
      throw CommandFailure(.unavailable, "no descriptor is free: \(String(cString: strerror(errno)))")
    }
    defer { close(pipe[1]) }
    let started = Self.spawn(
      executable,
      Leash.arguments(parent: getpid(), directory: plan.directory, executable: executable),
      plan.environment.map { "\($0)=\($1)" }, output: pipe[1])
    guard let process = started.process else {
      close(pipe[0])
      throw CommandFailure(
        .unavailable, "\(plan.name) cannot be started: \(String(cString: strerror(started.error))).")
    }
    _ = fcntl(pipe[0], F_SETFL, O_NONBLOCK)
    self.plan = plan
    self.process = process
    output = pipe[0]
    startedNs = Self.nowNs()
  }

  deinit {
    if output >= 0 { close(output) }
    close(process)
  }

  static func nowNs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  func signal(_ number: Int32) { _ = bp_shim_pidfd_kill(process, number) }

  /// Prints what there is to read, in whole lines.
  func forward() {
    guard output >= 0 else { return }
    var buffer = [UInt8](repeating: 0, count: Self.lineSizeBytesMax)
    let count = buffer.withUnsafeMutableBytes { read(output, $0.baseAddress, $0.count) }
    if count < 0, errno == EAGAIN || errno == EINTR { return }
    guard count > 0 else {
      finishOutput()
      return
    }
    for byte in buffer[..<count] {
      if byte == 0x0A || line.count >= Self.lineSizeBytesMax { printLine() }
      if byte != 0x0A { line.append(byte) }
    }
  }

  /// How it ended, in words; reaps it. Call it when `process` is readable.
  func reap() -> String {
    // What it said last is still in the pipe.
    while output >= 0 {
      var polled = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
      guard poll(&polled, 1, 0) > 0 else { break }
      forward()
    }
    finishOutput()
    var (signal, status): (Int32, Int32) = (0, 0)
    _ = bp_shim_pidfd_wait(process, &signal, &status)
    return signal == 0 ? "ended with status \(status)" : "was ended by signal \(signal)"
  }

  private func finishOutput() {
    if !line.isEmpty { printLine() }
    if output >= 0 { close(output) }
    output = -1
  }

  private func printLine() {
    Output.bytes(Array("[\(plan.name)] ".utf8) + line + [0x0A])
    line.removeAll(keepingCapacity: true)
  }

  private static func spawn(
    _ executable: String, _ arguments: [String], _ environment: [String], output: Int32
  ) -> (process: Int32?, error: Int32) {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO)
    bp_shim_spawn_closes_from(&actions, 3)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigdefault(&attributes, &all)
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    // A group of its own: the terminal's Ctrl-C is for the runner, which ends its children in order. To them it would be
    // the first signal and the runner's the second, at which they end at once.
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
      &attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP))
    var process = pid_t()
    let error = withCStrings(arguments) { argv in
      withCStrings(environment) { envp in posix_spawn(&process, executable, &actions, &attributes, argv, envp) }
    }
    guard error == 0 else { return (nil, error) }
    let descriptor = bp_shim_pidfd_open(process)
    guard descriptor >= 0 else { return (nil, errno) }
    return (descriptor, 0)
  }

  private static func withCStrings<R>(_ texts: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> R) -> R {
    let copies = texts.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    return body(copies + [nil])
  }
}
