import Foundation
import Testing

/// Reloads under fire, on threads and time of the simulator's (docs/simulation.md). `BACKPLANE_SIMULATION_RUNS` says how
/// many seeds are tried, `BACKPLANE_SIMULATION_SEED` which one is tried alone, with everything that happens.
@Suite(.serialized) struct Simulation {
  /// Found something once; what they do changes with the simulator, so this is no more than a beginning.
  static let seedsWithAPast: [UInt64] = [
    1, 13, 37, 51, 81, 86, 100, 113, 127, 147, 154, 353, 354, 484, 622, 1002, 1055, 1765, 2589,
  ]

  @Test func noSeedViolatesAnInvariant() throws {
    let environment = ProcessInfo.processInfo.environment
    if let seed = environment["BACKPLANE_SIMULATION_SEED"] {
      let run = try simulator(["--seed", seed, "--trace"])
      print(run.output)
      #expect(run.status == 0, "seed \(seed) violates an invariant: see above")
      return
    }
    let runs = environment["BACKPLANE_SIMULATION_RUNS"] ?? "1000"
    // Never the same ones, but for the seconds that it takes: a failure names its seed.
    let first = UInt64(Date().timeIntervalSince1970) * 1000
    let run = try simulator(["--seed", "\(first)", "--runs", runs, "--seconds", "45", "--jobs", "2"])
    #expect(run.status == 0, "\(run.output)")
    #expect(run.output.contains(" 0 failed"), "\(run.output)")
  }

  @Test func seedsWithAPastPass() throws {
    for seed in Simulation.seedsWithAPast {
      let run = try simulator(["--seed", "\(seed)", "--runs", "1"])
      #expect(run.status == 0, "\(run.output)")
    }
  }

  /// What makes a failing seed worth having: it does the same again, in whatever process.
  @Test(arguments: [3, 20, 41, 1000]) func aSeedReproduces(seed: Int) throws {
    let first = try simulator(["--seed", "\(seed)", "--trace"])
    let second = try simulator(["--seed", "\(seed)", "--trace"])
    #expect(first.status == 0)
    #expect(first.output == second.output)
    #expect(first.output.contains("checksum"))
  }

  /// A simulator that finds nothing when something is wrong would be worth nothing: with each of these the world itself
  /// breaks a promise that the kernel relies on.
  @Test(arguments: ["half-moved", "forgotten-records", "lost-hint", "early-stop"])
  func aBrokenWorldIsNoticed(defect: String) throws {
    let run = try simulator(["--seed", "1", "--runs", "300", "--jobs", "2", "--defect", defect])
    #expect(run.status == 1)
    #expect(run.output.contains("violated: "), "\(run.output)")
    #expect(run.output.contains("BACKPLANE_SIMULATION_SEED="), "\(run.output)")
  }

  private func simulator(_ arguments: [String]) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = try #require(Simulation.executable)
    process.arguments = arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: output, as: UTF8.self))
  }

  /// It lies beside the test bundle.
  private static var executable: URL? {
    let folders =
      [Bundle.main.bundleURL] + CommandLine.arguments.map { URL(fileURLWithPath: $0).deletingLastPathComponent() }
      + [URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()]
    return folders.map { $0.appendingPathComponent("simulator") }
      .first { FileManager.default.isExecutableFile(atPath: $0.path) }
  }
}
