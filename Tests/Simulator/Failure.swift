#if SIMULATION
import Glibc
import SimulatedSystem

/// What a run says of itself.
enum Report {
  // nonisolated(unsafe): written before a run begins.
  nonisolated(unsafe) static var isTraced = false

  static func write(_ text: String) {
    var line = text + "\n"
    line.withUTF8 { _ = Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }

  /// One step, for whoever reads the run of a seed that failed.
  static func trace(_ text: @autoclosure () -> String) {
    guard isTraced else { return }
    let ms = Double(simulation_now_ns() % 1_000_000_000_000) / 1e6
    let microseconds = Int(ms * 1000)
    let thread = "\(simulation_thread()) \(String(cString: simulation_thread_name()))"
    write("\(microseconds / 1000).\(String(microseconds % 1000 + 1000).dropFirst()) ms [\(thread)] \(text())")
  }

  /// An invariant does not hold: the run ends here.
  static func violated(_ sentence: String) -> Never {
    trace("VIOLATED")
    write("violated: \(sentence)")
    _exit(1)
  }

  static func require(_ holds: Bool, _ sentence: @autoclosure () -> String) {
    if !holds { violated(sentence()) }
  }
}

/// What the world does wrong on purpose, so that a test can see it noticed.
enum Defect: String {
  /// What changed after the snapshot is not moved.
  case halfMoved = "half-moved"
  /// A backend takes records from its predecessor and does not keep them.
  case forgottenRecords = "forgotten-records"
  /// What is dropped is not always hinted at.
  case lostHint = "lost-hint"
  /// An instance is stopped though requests hold it.
  case earlyStop = "early-stop"

  // nonisolated(unsafe): written before a run begins.
  nonisolated(unsafe) static var present: Defect?
}
#endif
