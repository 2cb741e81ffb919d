#if SIMULATION
import Glibc
import SimulatedSystem

@testable import Kernel

/// Forks a process for each seed, several at a time: each begins alike, and a trap costs one run.
final class Runner {
  private let arguments: Arguments
  private struct Child {
    let seed: UInt64
    let process: pid_t
    let output: Int32
  }
  private var total = Simulation.Outcome()
  private var passed = 0
  private var failed: [UInt64] = []
  /// Longer than any run takes.
  private static let secondsMax: UInt32 = 60

  init(_ arguments: Arguments) { self.arguments = arguments }

  func run() {
    // What every run needs is made before, once.
    Simulation.prepare()
    var running: [Child] = []
    var next = arguments.seed
    let end = arguments.seed + UInt64(arguments.runs)
    let begun = time(nil)
    while next < end || !running.isEmpty {
      let isLate = arguments.secondsMax > 0 && time(nil) - begun >= arguments.secondsMax
      if isLate || failed.count >= 3 { next = end }
      while next < end, running.count < arguments.jobs {
        running.append(fork(next, arguments.steps))
        next += 1
      }
      guard !running.isEmpty else { break }
      var status: Int32 = 0
      let process = waitpid(-1, &status, 0)
      guard let index = running.firstIndex(where: { $0.process == process }) else { continue }
      let child = running.remove(at: index)
      let text = read(child.output)
      if status == 0, let outcome = Simulation.Outcome(text) {
        total.add(outcome)
        passed += 1
      } else {
        failed.append(child.seed)
        Report.write("seed \(child.seed) failed (\(describe(status))): \(text)")
      }
    }
    print(
      "\(passed) seeds passed, \(failed.count) failed; \(total.steps) steps, \(total.switches) switches, "
        + "\(total.requests) requests, \(total.receipts) receipts, checksum \(String(total.checksum, radix: 16)), "
        + "\(time(nil) - begun) s")
    guard let first = failed.first else { exit(0) }
    let steps = shrink(first)
    print("seed \(first) fails within \(steps) steps; again, with everything that happens:")
    print("  BACKPLANE_SIMULATION_SEED=\(first) swift test --filter Simulation")
    print("  simulator --seed \(first) --steps \(steps) --trace")
    exit(1)
  }

  /// The fewest steps with which the seed fails: of several numbers of steps that fail, a small one.
  private func shrink(_ seed: UInt64) -> Int {
    var most = arguments.steps ?? 300
    var least = 0
    while least < most {
      let middle = (least + most) / 2
      let child = fork(seed, middle)
      var status: Int32 = 0
      waitpid(child.process, &status, 0)
      _ = read(child.output)
      if status == 0 { least = middle + 1 } else { most = middle }
    }
    return most
  }

  private func fork(_ seed: UInt64, _ steps: Int?) -> Child {
    var ends: [Int32] = [0, 0]
    pipe(&ends)
    let process = simulation_fork()
    if process == 0 {
      dup2(ends[1], STDOUT_FILENO)
      dup2(ends[1], STDERR_FILENO)
      close(ends[0])
      alarm(Runner.secondsMax)
      let outcome = Simulation.run(seed: seed, steps: steps)
      Report.write(outcome.text)
      _exit(0)
    }
    close(ends[1])
    return Child(seed: seed, process: process, output: ends[0])
  }

  private func read(_ descriptor: Int32) -> String {
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      guard count > 0 else { break }
      bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private func describe(_ status: Int32) -> String {
    if status & 0x7f == 0 { return "exit \(status >> 8)" }
    return status & 0x7f == SIGALRM ? "it hangs" : "signal \(status & 0x7f)"
  }
}

extension Simulation.Outcome {
  var text: String { "passed \(steps) \(switches) \(requests) \(receipts) \(checksum)" }

  init?(_ text: String) {
    guard let line = text.split(separator: "\n").last(where: { $0.hasPrefix("passed ") }) else { return nil }
    let numbers = line.split(separator: " ").dropFirst().compactMap { UInt64($0) }
    guard numbers.count == 5 else { return nil }
    steps = Int(numbers[0])
    switches = numbers[1]
    requests = Int(numbers[2])
    receipts = Int(numbers[3])
    checksum = numbers[4]
  }

  mutating func add(_ other: Simulation.Outcome) {
    steps += other.steps
    switches += other.switches
    requests += other.requests
    receipts += other.receipts
    // Runs end in any order.
    checksum = checksum &+ other.checksum
  }
}

extension Simulation {
  static func prepare() {
    _ = NodeConfiguration.standard
    _ = CallSlab.shared
    _ = InstanceRegistry.shared
    _ = MarkTable.shared
  }
}
#endif
