import Foundation

/// Signals, waited for by a thread. They are blocked before any other thread starts, so that every thread inherits it
/// and none is interrupted.
enum Signals {
  private static let watched = [SIGHUP, SIGTERM, SIGINT]

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
