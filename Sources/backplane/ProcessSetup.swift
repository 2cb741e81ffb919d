import Foundation

/// What a node sets up before anything else of its process, and the signals it waits for: they are blocked before any
/// other thread starts, so that every thread inherits it and none is interrupted.
enum ProcessSetup {
  /// Raises the soft limit of open descriptors to the hard one: the usual soft limit of 1,024 is for programs that use
  /// select(2), and a node has thousands of connections.
  static func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  private static let watched = [SIGHUP, SIGUSR1, SIGTERM, SIGINT]

  /// Call first thing in main, when a node is to run.
  static func block() {
    var set = makeSet()
    pthread_sigmask(SIG_BLOCK, &set, nil)
    signal(SIGPIPE, SIG_IGN)
  }

  /// Waits for the next watched signal.
  static func next() -> Int32 {
    var set = makeSet()
    var number: Int32 = 0
    while sigwait(&set, &number) != 0 {}
    return number
  }

  private static func makeSet() -> sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for signal in watched { sigaddset(&set, signal) }
    return set
  }
}
