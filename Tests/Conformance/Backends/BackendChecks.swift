import PluginAPI
import PluginTestHost

/// The rules of backend.h: each by a trace that names it, then all together at random.
struct BackendChecks {
  let bench: Workbench
  private let traces: NamedTraces

  init(_ bench: Workbench) {
    self.bench = bench
    traces = NamedTraces(bench)
  }

  private static let modelRuns = 6
  private static let modelSteps = 300

  func run() async {
    await table()
    // Without a table nothing else can be asked.
    guard let traits = try? traits() else { return }
    await RecordChecks(traces).run(traits)
    await UnitChecks(traces).run(traits)
    await ContentChecks(traces).run()
    await ScanChecks(traces).run()
    await ListChecks(traces).run(traits)
    await model(traits)
    await ManyRecords(bench).run(traits)
    await BackendBatches(bench).run(traits)
    await BackendConcurrency(bench).run(traits)
    await FreshnessCheck(bench).run(traits)
    await DurabilityChecks(bench).run()
    await CrashChecks(bench).run(traits)
    await GrowthCheck(bench).run()
  }

  private func traits() throws -> BackendTraits {
    let host = try bench.created()
    defer { host.destroy() }
    return try BackendDriver(host).traits
  }

  private func table() async {
    await bench.recording.check("backend.table") {
      let host = try bench.created()
      defer { host.destroy() }
      let table = try BackendDriver(host).table
      try require(table.size >= UInt32.size(of: bp_backend.self), "bp_backend.size is \(table.size)")
      for (name, mode) in [("apply", table.apply_mode), ("read", table.read_mode), ("scan", table.scan_mode)] {
        try require(CallMode(rawValue: mode) != nil, "\(name)_mode is \(mode), which is no BP_MODE")
      }
      try require(
        table.apply != nil && table.read != nil && table.scan != nil, "apply, read or scan is NULL; all three must be")
      try require(
        (BP_DURABILITY_MEMORY...BP_DURABILITY_QUORUM).contains(table.durability_max),
        "durability_max is \(table.durability_max), which is no BP_DURABILITY that an acknowledgement can have")
      return ""
    }
  }

  private func model(_ traits: BackendTraits) async {
    await bench.recording.check("backend.model") {
      for run in 0..<UInt64(BackendChecks.modelRuns) {
        let trace = RandomTrace.make(stepsCount: BackendChecks.modelSteps, traits, seed: bench.seed &+ run)
        do {
          try await traces.shrinker.expect(trace, seed: bench.seed)
        } catch let problem as Problem {
          throw Problem("\(problem) (run \(run + 1) of \(BackendChecks.modelRuns))")
        }
      }
      return "\(BackendChecks.modelRuns * BackendChecks.modelSteps) steps"
    }
  }
}
