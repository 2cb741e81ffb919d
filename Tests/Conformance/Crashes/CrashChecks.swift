import PluginAPI
import PluginTestHost
import Synchronization

/// A process that serves the backend is killed at any moment, and runs out of room: what it had acknowledged is there
/// afterwards, and nothing is there by half.
struct CrashChecks {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  func run(_ traits: BackendTraits) async {
    // Whoever runs the suite has to say how a process is started, and a volatile backend promises nothing.
    guard let command = bench.plugin.crashCommand, !bench.plugin.isVolatile else { return }
    await bench.recording.check("backend.crash") {
      let directory = try bench.makeDirectory()
      defer { bench.remove(directory) }
      try await bench.servingNothing(in: directory) { _ in }
      var random = SeededGenerator(seed: bench.seed)
      var from = [Int](repeating: 0, count: CrashPlan.writersCount)
      var acknowledged = 0
      for round in 1...bench.extent.killsCount {
        let order = CrashOrder(work: .writeForEver(from: from), seed: bench.seed, stateDirectory: directory)
        // In the beginning, and in the middle of whatever is done now and then.
        let linesMax = random.oneIn(3) ? Int.random(in: 1...8, using: &random) : Int.random(in: 9...400, using: &random)
        let ending = try await CrashChecks.killed(command(order), after: linesMax)
        acknowledged += ending.lines.count
        if CrashChecks.isInMemory(ending.lines) { return "not judged: writes were acknowledged with durability memory" }
        do {
          from = try await patientLook(ending.lines, from, directory, traits)
        } catch let problem as Problem {
          throw Problem("\(problem) (after kill \(round), at \(linesMax) acknowledgements. Seed \(bench.seed).)")
        }
      }
      return "\(bench.extent.killsCount) kills, \(acknowledged) acknowledged units"
    }
    await bench.recording.check("backend.no-room") { try await noRoom(command) }
  }

  private static func killed(_ command: CrashCommand, after linesMax: Int) async throws -> WriterProcess.Ending {
    let left = Atomic<Int>(linesMax)
    let ending = try await WriterProcess.run(command) { line in
      guard case .acknowledged = line else { return false }
      return left.subtract(1, ordering: .relaxed).newValue <= 0
    }
    for case .failed(let reason) in ending.lines { throw Problem("the process that writes ended by itself: \(reason)") }
    try require(ending.signal == 9, "the process that writes was ended by signal \(ending.signal) instead of the kill")
    return ending
  }

  private static func isInMemory(_ lines: [CrashLine]) -> Bool {
    lines.contains { line in
      if case .acknowledged(_, _, let durability) = line { durability < BP_DURABILITY_OS } else { false }
    }
  }

  /// A server may still be at what the process had asked of it last: what is wrong then is right a moment later.
  private func patientLook(
    _ lines: [CrashLine], _ from: [Int], _ directory: String, _ traits: BackendTraits
  ) async throws -> [Int] {
    for _ in 0..<4 {
      do { return try await look(lines, from, directory, traits) } catch is Problem {}
      try await Task.sleep(for: .milliseconds(250))
    }
    return try await look(lines, from, directory, traits)
  }

  /// Compares a new instance with what was acknowledged. Returns where each writer goes on.
  private func look(
    _ lines: [CrashLine], _ from: [Int], _ directory: String, _ traits: BackendTraits
  ) async throws -> [Int] {
    var last = from.map { $0 - 1 }
    for case .acknowledged(let writer, let number, _) in lines { last[writer] = max(last[writer], number) }
    let acknowledged = last
    return try await bench.serving(in: directory) { host in
      let driver = try BackendDriver(host)
      let plan = CrashPlan(seed: bench.seed, traits: traits)
      var next: [Int] = []
      for writer in acknowledged.indices {
        next.append(try await look(driver, plan, writer, acknowledged[writer]))
      }
      return next
    }
  }

  /// The unit after the last acknowledged one may have happened or not, but not by half.
  private func look(_ driver: BackendDriver, _ plan: CrashPlan, _ writer: Int, _ last: Int) async throws -> Int {
    var happened: Bool?
    var present: Set<String> = []
    for slot in CrashPlan.slots {
      let (before, after) = (
        plan.record(writer, slot: slot, after: last), plan.record(writer, slot: slot, after: last + 1)
      )
      for uri in plan.uris(writer, slot: slot) {
        let got = try await driver.read(uri)
        if got != nil { present.insert(uri) }
        let differsFromBefore = TraceRun.difference(got, before, plan.traits)
        let differsFromAfter = TraceRun.difference(got, after, plan.traits)
        guard before != after else {
          if let differsFromBefore {
            throw Problem(
              "unit \(last) of writer \(writer) was acknowledged, and a read of \(uri) \(differsFromBefore)")
          }
          continue
        }
        guard differsFromBefore == nil || differsFromAfter == nil else {
          throw Problem(
            "unit \(last) of writer \(writer) was acknowledged and one more under way, and a read of \(uri) "
              + "\(differsFromBefore!)")
        }
        let isAfter = differsFromAfter == nil
        try require(
          happened == nil || happened == isAfter,
          "unit \(last + 1) of writer \(writer) was under way, and half of it happened: look at \(uri)")
        happened = isAfter
      }
    }
    let listed = try await driver.scan(prefix: CrashPlan.prefix(writer), credits: 100, itemsMax: 1_000).map(\.uri)
    try require(
      Set(listed) == present && listed.count == present.count,
      "a scan of '\(CrashPlan.prefix(writer))' has \(listed.count) records; \(present.count) can be read")
    return happened == true ? last + 2 : last + 1
  }

  // MARK: Room

  private func noRoom(_ command: @Sendable (CrashOrder) throws -> CrashCommand) async throws -> String {
    let directory = try bench.makeDirectory()
    defer { bench.remove(directory) }
    try await bench.servingNothing(in: directory) { _ in }
    let order = CrashOrder(work: .runOutOfRoom, seed: bench.seed, stateDirectory: directory)
    let ending = try await WriterProcess.run(command(order))
    var kept: Set<Int> = []
    var refusals: [String] = []
    for line in ending.lines {
      switch line {
      case .failed(let reason): throw Problem("while files could not grow: \(reason)")
      case .large(let number, BP_OK, _): kept.insert(number)
      case .large(_, let code, let message):
        try require(
          refusals.isEmpty, "a write failed with code \(code) although there was room again: \(message)")
        try require(
          [BP_RESOURCE_EXHAUSTED, BP_UNAVAILABLE].contains(code) && !message.isEmpty,
          "a write without room failed with code \(code) and '\(message)'; BP_RESOURCE_EXHAUSTED or BP_UNAVAILABLE and a "
            + "sentence are right")
        refusals.append(message)
      case .read(let code):
        try require(code == BP_OK, "a read while there was no room failed with code \(code); reads need none")
      case .stopped(let isHealthy):
        try require(isHealthy, "health was not healthy after a write had succeeded again")
      case .acknowledged: break
      }
    }
    try require(
      ending.signal == 0 && ending.lines.last.map { if case .stopped = $0 { true } else { false } } == true,
      "the process ended with signal \(ending.signal) while files could not grow")
    try await bench.serving(in: directory) { host in
      let driver = try BackendDriver(host)
      for (uri, data) in kept.sorted().map(NoRoomPlan.large) + [NoRoomPlan.small] {
        let record = try await driver.read(uri)
        try require(
          record?.data.isSame(as: data) == true,
          "\(uri) was acknowledged while room came to its end, and was not there after a new start")
      }
    }
    return refusals.first.map { "said: \($0)" } ?? "it needs no files of its own"
  }
}
