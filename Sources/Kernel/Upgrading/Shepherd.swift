import Glibc
import SystemShims

/// What is left of the first process of a node without a service manager when another has taken its place: whoever started
/// it sees it live for as long as the node does, and end as the node ends.
///
/// It hands SIGTERM, SIGINT, SIGHUP and SIGUSR1 on. A kernel that takes the place of a later one is adopted when that has
/// ended, so there are never more than two processes for long.
public enum Shepherd {
  public static let argument = "--shepherd"

  /// Goes on in this process, which it replaces. Returns when that is not possible.
  static func become(_ line: Int32, current: pid_t, executable: String) {
    _ = fcntl(line, F_SETFD, 0)
    // Kernels see by this that there is a shepherd, and end when it is gone.
    shutdown(line, Int32(SHUT_WR))
    let arguments = [CommandLine.arguments[0], argument, "\(line)", "\(current)"]
    let copies = arguments.map { strdup($0) } + [nil]
    // The executable of the new process, since this one's may be gone.
    execv(executable, copies)
    execv("/proc/self/exe", copies)
    for copy in copies { free(copy) }
  }

  /// The whole life of the shepherd: call it first thing in main.
  public static func main() -> Never {
    let arguments = CommandLine.arguments
    guard arguments.count == 4, let line = Int32(arguments[2]), var current = Int32(arguments[3]),
      bp_shim_adopt_orphans() == 0
    else { _exit(64) }
    _ = fcntl(line, F_SETFD, FD_CLOEXEC)
    var set = sigset_t()
    sigemptyset(&set)
    for signal in [SIGHUP, SIGUSR1, SIGTERM, SIGINT, SIGCHLD] { sigaddset(&set, signal) }
    pthread_sigmask(SIG_BLOCK, &set, nil)
    while true {
      follow(line, &current)
      reap(&current, line)
      var number: Int32 = 0
      guard sigwait(&set, &number) == 0 else { continue }
      if number == SIGCHLD { continue }
      follow(line, &current)
      // Not reaped by anybody but us, and only above: the number is still its own.
      kill(current, number)
    }
  }

  /// Who was announced last.
  static func follow(_ line: Int32, _ current: inout pid_t) {
    var next: Int32 = 0
    while recv(line, &next, MemoryLayout<Int32>.size, Int32(MSG_DONTWAIT)) == MemoryLayout<Int32>.size {
      current = next
    }
  }

  /// Reaps whoever has ended; ends like the kernel when that has.
  private static func reap(_ current: inout pid_t, _ line: Int32) {
    var status: Int32 = 0
    while true {
      let ended = waitpid(-1, &status, WNOHANG)
      guard ended != 0 else { return }
      // No child at all: there is nothing to look after.
      guard ended > 0 else { if errno == ECHILD { _exit(70) } else { return } }
      // It may have announced its successor in between.
      follow(line, &current)
      if ended == current { end(status) }
    }
  }

  private static func end(_ status: Int32) -> Never {
    let signal = status & 0x7f
    guard signal != 0 else { _exit((status >> 8) & 0xff) }
    var limit = rlimit(rlim_cur: 0, rlim_max: 0)
    setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit)
    var set = sigset_t()
    sigemptyset(&set)
    sigaddset(&set, signal)
    Glibc.signal(signal, SIG_DFL)
    pthread_sigmask(SIG_UNBLOCK, &set, nil)
    kill(getpid(), signal)
    // The first process of a container does not die of a signal of its own.
    _exit(128 + signal)
  }
}
