import Foundation
import SystemShims

/// Runs an executable of ours as a child under a deadline: what it reads comes by a pipe, because arguments and
/// environment can be read by others.
public struct ChildRun: Sendable {
  public struct Ending: Sendable {
    /// What it wrote, at most 1 MiB of each.
    public var output: [UInt8]
    public var errors: [UInt8]
    /// It was still running at the deadline, and was killed.
    public var isTimedOut: Bool
    /// It ended by itself with status 0.
    public var isClean: Bool
    /// How it ended: `SIGSEGV`, `it ended with status 3`.
    public var cause: String
  }

  /// Why no child was started, as a clause: `/x/y cannot be started: …`.
  public struct Failure: Error, Sendable {
    public var sentence: String
  }

  /// Starts `executable` with `arguments` and our process id as the last one, for `ChildEntry`; blocks until it has
  /// ended, at most `timeoutMs`.
  public static func run(
    _ executable: String, _ arguments: [String], input: [UInt8], timeoutMs: Int
  ) throws(Failure) -> Ending {
    switch ChildSpawner.shared.spawn(executable, arguments + ["\(getpid())"]) {
    case .failure(let failure): throw Failure(sentence: failure.sentence)
    case .success(let child):
      let ending = child.run(input, untilNs: Clock.monotonicNs() + UInt64(max(1, timeoutMs)) * 1_000_000)
      return Ending(
        output: ending.output, errors: ending.errors, isTimedOut: ending.isTimedOut,
        isClean: !ending.isTimedOut && ending.signal == 0 && ending.status == 0, cause: ending.cause)
    }
  }
}

extension Child.Ending {
  var cause: String {
    guard signal != 0 else { return "it ended with status \(status)" }
    let names: [Int32: String] = [
      SIGSEGV: "SIGSEGV", SIGABRT: "SIGABRT", SIGILL: "SIGILL", SIGBUS: "SIGBUS", SIGFPE: "SIGFPE",
      SIGKILL: "SIGKILL", SIGTRAP: "SIGTRAP", SIGXCPU: "SIGXCPU", SIGTERM: "SIGTERM",
    ]
    return names[signal] ?? "signal \(signal)"
  }
}

/// The child's side: dies with its parent, keeps within limits, and has standard output for its answers alone.
public struct ChildEntry: Sendable {
  /// All that the parent sent.
  public let input: [UInt8]
  /// Where answers go. What the plugin prints goes to standard error.
  private let answers: Int32

  /// nil when this process is no child of the process that the last argument names. Call it before anything else; once.
  public init?(cpuSecondsMax: UInt, descriptorsMax: UInt) {
    guard let parent = CommandLine.arguments.last.flatMap({ Int32($0) }), bp_shim_die_with_parent(parent) == 0 else {
      return nil
    }
    func set(_ resource: __rlimit_resource, _ value: UInt) {
      var limit = rlimit(rlim_cur: value, rlim_max: value)
      setrlimit(__rlimit_resource_t(resource.rawValue), &limit)
    }
    set(RLIMIT_CORE, 0)
    set(RLIMIT_CPU, cpuSecondsMax)
    set(RLIMIT_NOFILE, descriptorsMax)
    set(RLIMIT_FSIZE, 1 << 30)
    input = Array(FileHandle.standardInput.readDataToEndOfFile())
    answers = fcntl(1, F_DUPFD_CLOEXEC, 3)
    dup2(2, 1)
  }

  /// Sends one line; the newline is added.
  public func send(_ line: [UInt8]) {
    let bytes = line + [0x0a]
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(answers, $0.baseAddress, $0.count) }
      if count < 0 {
        if errno == EINTR { continue }
        return
      }
      rest = rest.dropFirst(count)
    }
  }

  /// Ends the process without static destructors: a plugin's must not run (core.h, "Life cycle").
  public func end() -> Never { _exit(0) }
}
