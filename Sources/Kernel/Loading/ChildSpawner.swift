import Foundation
import Synchronization
import SystemShims

/// Starts children from one thread that never ends: a child's PR_SET_PDEATHSIG fires when the thread that spawned it
/// does, not the process.
final class ChildSpawner: Sendable {
  static let shared = ChildSpawner()

  private let worker = WorkerPool(name: "bp-spawner", threads: 1, queueMax: 1024)

  struct Failure: Error {
    let sentence: String
  }

  /// Starts `executable`, with pipes for its standard input, output and error; nothing else is inherited.
  func spawn(_ executable: String, _ arguments: [String]) -> Result<Child, Failure> {
    let promise = Promise<Result<Child, Failure>>()
    guard worker.submit({ promise.set(ChildSpawner.start(executable, arguments)) }) else {
      return .failure(Failure(sentence: "too many children are being started"))
    }
    return promise.get()
  }

  private static func start(_ executable: String, _ arguments: [String]) -> Result<Child, Failure> {
    var input: [Int32] = [-1, -1]
    var output: [Int32] = [-1, -1]
    var errors: [Int32] = [-1, -1]
    func closeAll() { for descriptor in input + output + errors where descriptor >= 0 { close(descriptor) } }
    guard bp_shim_pipe(&input) == 0, bp_shim_pipe(&output) == 0, bp_shim_pipe(&errors) == 0 else {
      closeAll()
      return .failure(Failure(sentence: "no descriptor is free: \(String(cString: strerror(errno)))"))
    }
    let started = start(executable, arguments, descriptors: [(input[0], 0), (output[1], 1), (errors[1], 2)])
    for descriptor in [input[0], output[1], errors[1]] { close(descriptor) }
    switch started {
    case .success(let descriptor):
      return .success(Child(descriptor: descriptor, input: input[1], output: output[0], errors: errors[0]))
    case .failure(let failure):
      for descriptor in [input[1], output[0], errors[0]] { close(descriptor) }
      return .failure(failure)
    }
  }

  /// Starts `executable` with the given descriptors under the given numbers, and no others. The sources stay the
  /// caller's. Answers a pidfd.
  func spawn(
    _ executable: String, _ arguments: [String], descriptors: [(source: Int32, target: Int32)]
  ) -> Result<Int32, Failure> {
    let promise = Promise<Result<Int32, Failure>>()
    let isTaken = worker.submit {
      promise.set(ChildSpawner.start(executable, arguments, descriptors: descriptors))
    }
    guard isTaken else { return .failure(Failure(sentence: "too many children are being started")) }
    return promise.get()
  }

  private static func start(
    _ executable: String, _ arguments: [String], descriptors: [(source: Int32, target: Int32)]
  ) -> Result<Int32, Failure> {
    // Out of the way of the targets, so that none is overwritten before it is copied.
    let away = (descriptors.map(\.target).max() ?? 2) + 1
    let sources = descriptors.map { fcntl($0.source, F_DUPFD_CLOEXEC, away) }
    defer { for source in sources where source >= 0 { close(source) } }
    guard sources.allSatisfy({ $0 >= 0 }) else {
      return .failure(Failure(sentence: "no descriptor is free: \(String(cString: strerror(errno)))"))
    }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (source, descriptor) in zip(sources, descriptors) {
      posix_spawn_file_actions_adddup2(&actions, source, descriptor.target)
    }
    // What a plugin in this process has opened without close-on-exec is none of the child's business.
    bp_shim_spawn_closes_from(&actions, away)
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // Signals that the kernel blocks or handles are the child's to have by default.
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigdefault(&attributes, &all)
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))

    // The runtime's backtracer would hold a dying child for hundreds of milliseconds. Secrets of our environment stay
    // with us.
    var environment = ["SWIFT_BACKTRACE=enable=no"]
    for name in ["PATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "TZ"] {
      if let value = getenv(name) { environment.append("\(name)=\(String(cString: value))") }
    }
    var process = pid_t()
    let error = withCStrings([executable] + arguments) { argv in
      withCStrings(environment) { envp in posix_spawn(&process, executable, &actions, &attributes, argv, envp) }
    }
    guard error == 0 else {
      return .failure(Failure(sentence: "\(executable) cannot be started: \(String(cString: strerror(error)))"))
    }
    let descriptor = bp_shim_pidfd_open(process)
    guard descriptor >= 0 else {
      return .failure(Failure(sentence: "the system has no pidfd: \(String(cString: strerror(errno)))"))
    }
    return .success(descriptor)
  }

  private static func withCStrings<R>(_ texts: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> R) -> R {
    let copies = texts.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    return body(copies + [nil])
  }
}

/// A running child. Named by a pidfd, so that no other process is ever killed in its place.
final class Child: Sendable {
  private let descriptor: Int32
  private let input: Int32
  private let output: Int32
  private let errors: Int32

  init(descriptor: Int32, input: Int32, output: Int32, errors: Int32) {
    self.descriptor = descriptor
    self.input = input
    self.output = output
    self.errors = errors
  }

  struct Ending: Sendable {
    var output: [UInt8]
    var errors: [UInt8]
    /// The signal that ended it, or 0.
    var signal: Int32
    var status: Int32
    var isTimedOut: Bool
  }

  /// Writes `bytes` to its standard input, gathers what it writes (at most 1 MiB of each), and reaps it; kills it at
  /// `deadlineNs`.
  func run(_ bytes: [UInt8], untilNs deadlineNs: UInt64) -> Ending {
    for pipe in [input, output, errors] { _ = fcntl(pipe, F_SETFL, O_NONBLOCK) }
    signal(SIGPIPE, SIG_IGN)
    var ending = Ending(output: [], errors: [], signal: 0, status: 0, isTimedOut: false)
    var written = 0
    var inputIsOpen = true
    var outputIsOpen = true
    var errorsAreOpen = true
    var buffer = [UInt8](repeating: 0, count: 65_536)
    func drain(_ descriptor: Int32, _ into: inout [UInt8]) -> Bool {
      let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
      if count > 0, into.count < 1 << 20 { into.append(contentsOf: buffer[0..<count]) }
      return count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR))
    }
    while outputIsOpen || errorsAreOpen {
      var polled = [
        pollfd(fd: outputIsOpen ? output : -1, events: Int16(POLLIN), revents: 0),
        pollfd(fd: errorsAreOpen ? errors : -1, events: Int16(POLLIN), revents: 0),
        pollfd(fd: inputIsOpen ? input : -1, events: Int16(POLLOUT), revents: 0),
      ]
      let now = Clock.monotonicNs()
      guard now < deadlineNs else {
        ending.isTimedOut = true
        break
      }
      _ = poll(&polled, 3, Int32(clamping: (deadlineNs - now) / 1_000_000 + 1))
      if polled[0].revents != 0 { outputIsOpen = drain(output, &ending.output) }
      if polled[1].revents != 0 { errorsAreOpen = drain(errors, &ending.errors) }
      if polled[2].revents != 0 {
        let count = bytes[written...].withUnsafeBytes { write(input, $0.baseAddress, $0.count) }
        if count > 0 { written += count }
        if written == bytes.count || (count < 0 && errno != EAGAIN && errno != EINTR) {
          close(input)
          inputIsOpen = false
        }
      }
    }
    if ending.isTimedOut { _ = bp_shim_pidfd_kill(descriptor, SIGKILL) }
    // Both pipes are closed: it has ended, or is about to. It gets what is left of its time.
    var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    let now = Clock.monotonicNs()
    if !ending.isTimedOut, poll(&polled, 1, Int32(clamping: (max(deadlineNs, now) - now) / 1_000_000 + 100)) == 0 {
      ending.isTimedOut = true
      _ = bp_shim_pidfd_kill(descriptor, SIGKILL)
    }
    _ = bp_shim_pidfd_wait(descriptor, &ending.signal, &ending.status)
    if inputIsOpen { close(input) }
    close(output)
    close(errors)
    close(descriptor)
    return ending
  }
}
