import PluginAPI
import PluginTestHost

/// The rules of state.h, of a plugin that offers backplane.state/1. What is in the stream is the plugin's business, so it
/// is judged by what the successor answers.
struct StateChecks {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let mutationsCount = 60

  func run() async {
    guard await table() else { return }
    await phases()
    await versions()
    guard bench.plugin.kinds.contains("backend") else { return }
    await handover()
    await abandoned()
    await starved()
    await torn()
  }

  private func table() async -> Bool {
    guard let host = try? bench.created() else { return false }
    defer { host.destroy() }
    let offered = host.extensionTable("backplane.state/1", as: bp_state.self)
    guard offered != nil || bench.plugin.stateVersion != nil else { return false }
    return await bench.recording.check("state.table") {
      guard let table = offered?.pointee else {
        throw Problem(
          "the manifest's state_version is \(bench.plugin.stateVersion!), but extension(\"backplane.state/1\") is NULL")
      }
      try require(
        table.export_state != nil && table.import_state != nil, "export_state or import_state is NULL; both must be")
      try require(
        table.format_version >= 1 && (1...table.format_version).contains(table.format_version_oldest),
        "format_version is \(table.format_version) and format_version_oldest \(table.format_version_oldest); both begin "
          + "at 1, and the oldest is not the newer")
      try require(host.plugin.pointee.grant != nil, "bp_plugin.grant is NULL, so an export could never go on")
      try require(
        bench.plugin.stateVersion == table.format_version,
        "format_version is \(table.format_version) and the manifest's state_version is "
          + "\(bench.plugin.stateVersion.map { "\($0)" } ?? "absent"); they must be the same")
      return "format \(table.format_version), reads from \(table.format_version_oldest)"
    }
  }

  // MARK: Of every kind

  private func phases() async {
    await bench.recording.check("state.phases") {
      try await bench.serving { host in
        try await expect(BP_FAILED_PRECONDITION, "a rest that no snapshot came before") {
          _ = try await exported(host, .rest)
        }
        try await abandon(host)
        _ = try await exported(host, .snapshot)
        try await abandon(host)
        try await expect(BP_FAILED_PRECONDITION, "a rest after the handover was abandoned") {
          _ = try await exported(host, .rest)
        }
        _ = try await exported(host, .snapshot)
        _ = try await exported(host, .snapshot)
        _ = try await exported(host, .rest)
      }
      return ""
    }
    await bench.recording.check("state.empty") {
      try await pair { old, new in try await old.handOverState(to: new) }
      return ""
    }
  }

  private func versions() async {
    await bench.recording.check("state.versions") {
      guard let (writes, readsFrom) = try bench.versions() else { return "" }
      for version in [writes + 1, readsFrom - 1, .max] {
        try await bench.serving { host in
          try await expect(BP_UNIMPLEMENTED, "state of version \(version)") {
            try await host.importState([1, 2, 3], .snapshot, sequence: 0, isLast: true, formatVersion: version)
          }
        }
      }
      return ""
    }
  }

  // MARK: Of backends

  private func handover() async {
    await bench.recording.check("state.handover") {
      for round in 0..<2 {
        try await pair { old, new in
          var writer = try StateWrites(old, seed: bench.seed &+ UInt64(round))
          try await writer.write(80)
          try await moveSnapshot(old, new, credits: round == 0 ? 1 : 4, &writer)
          try await writer.write(40)
          try await old.moveState(.rest, to: new, credits: 1)
          try await writer.compare(new, "the successor")
          try await writer.compare(old, "the instance that handed over")
          // The successor's successor.
          try await writer.goOn(on: new)
          try await bench.serving { third in
            try await new.handOverState(to: third) { try await writer.write(40) }
            try await writer.compare(third, "the successor's successor")
          }
        }
      }
      return "2 handovers under writes, and 2 more of what they handed over"
    }
  }

  /// Moves a snapshot, with writes between its chunks.
  private func moveSnapshot(
    _ old: TestHost, _ new: TestHost, credits: UInt32, _ writer: inout StateWrites
  ) async throws {
    let export = try old.beginExport(.snapshot, credits: credits)
    var sequence: UInt64 = 0
    for await chunk in export.chunks {
      try await new.importState(chunk, .snapshot, sequence: sequence, isLast: false)
      sequence += 1
      try await writer.write(10)
      export.grant(1)
    }
    if let failure = await export.value { throw failure }
    try await new.importState([], .snapshot, sequence: sequence, isLast: true)
  }

  private func abandoned() async {
    await bench.recording.check("state.abandon") {
      try await pair { old, new in
        var writer = try StateWrites(old, seed: bench.seed)
        try await writer.write(60)
        try await bench.serving { lost in
          try await old.moveState(.snapshot, to: lost)
          try await writer.write(20)
        }
        try await abandon(old)
        try await writer.write(20)
        try await writer.compare(old, "the instance whose handover was abandoned")
        // Also after a rest that was asked for: the successor may fail to take it.
        _ = try await exported(old, .snapshot)
        try await writer.write(20)
        _ = try await exported(old, .rest)
        try await abandon(old)
        try await writer.write(20)
        try await old.handOverState(to: new) { try await writer.write(20) }
        try await writer.compare(new, "the successor of a second handover")
      }
      return ""
    }
  }

  private func starved() async {
    await bench.recording.check("state.credits") {
      var remark = ""
      try await pair { old, new in
        var writer = try StateWrites(old, seed: bench.seed)
        try await writer.write(60)
        let export = try old.beginExport(.snapshot, credits: 1)
        // No grant: what is asked of it meanwhile is answered all the same.
        try await writer.write(20)
        try await writer.compare(old, "an instance whose export waits for credit")
        if export.isCompleted { remark = "all it held fitted one chunk: nothing had to wait" }
        export.cancel()
        let end = await export.value
        try require(
          end == nil || end?.code == BP_CANCELLED,
          "a cancelled export ended with code \(end?.code ?? 0) instead of BP_CANCELLED: \(end?.message ?? "")")
        try await abandon(old)
        try await old.handOverState(to: new, credits: 1) { try await writer.write(20) }
        try await writer.compare(new, "the successor after a cancelled export")
      }
      return remark
    }
  }

  private func torn() async {
    await bench.recording.check("state.torn") {
      var random = SeededGenerator(seed: bench.seed)
      let whole = try await bench.serving { host in
        var writer = try StateWrites(host, seed: bench.seed, dataBytesMax: 200)
        try await writer.write(30)
        return try await exported(host, .snapshot).flatMap { $0 }
      }
      let garbage = random.bytes(1_000)
      let isTaken = try await taken(garbage)
      try require(!isTaken, "1,000 random bytes were taken for state")
      // What an importer cannot know to be wrong it may take; it must answer.
      for _ in 0..<StateChecks.mutationsCount {
        var bytes = whole
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes.removeSubrange(Int.random(in: 0..<bytes.count, using: &random)...)
        case 1: bytes.removeSubrange(..<Int.random(in: 0..<bytes.count, using: &random))
        case 2: bytes.insert(contentsOf: random.bytes(9), at: Int.random(in: 0..<bytes.count, using: &random))
        default:
          // The beginning is where the numbers are.
          for _ in 0..<3 {
            let place = Int.random(in: 0..<(random.oneIn(2) ? min(64, bytes.count) : bytes.count), using: &random)
            bytes[place] = UInt8.random(in: 0...255, using: &random)
          }
        }
        _ = try await taken(bytes)
      }
      return "\(StateChecks.mutationsCount) damaged streams"
    }
  }

  /// Whether an instance takes `bytes` for a snapshot.
  private func taken(_ bytes: [UInt8]) async throws -> Bool {
    try await bench.serving { host in
      do {
        let half = bytes.count / 2
        try await host.importState(Array(bytes[..<half]), .snapshot, sequence: 0, isLast: false)
        try await host.importState(Array(bytes[half...]), .snapshot, sequence: 1, isLast: true)
        return true
      } catch let failure as Failure {
        try require(!failure.message.isEmpty, "damaged state was refused with code \(failure.code) and no sentence")
        return false
      }
    }
  }

  // MARK: Means

  private func pair(_ body: (TestHost, TestHost) async throws -> Void) async throws {
    try await bench.serving { old in try await bench.serving { new in try await body(old, new) } }
  }

  private func exported(_ host: TestHost, _ phase: StatePhase) async throws -> [[UInt8]] {
    try await host.exportState(phase)
  }

  private func abandon(_ host: TestHost) async throws { try await host.abandonState() }

  private func expect(_ code: bp_code, _ what: String, _ body: () async throws -> Void) async throws {
    do {
      try await body()
    } catch let failure as Failure {
      try require(
        failure.code == code, "\(what) was answered with code \(failure.code) (\(failure.message)); \(code) is right")
      try require(!failure.message.isEmpty, "\(what) was refused without a sentence")
      return
    }
    throw Problem("\(what) was answered with BP_OK; code \(code) is right")
  }
}

extension Workbench {
  fileprivate func versions() throws -> (writes: UInt32, readsFrom: UInt32)? {
    let host = try created()
    defer { host.destroy() }
    return host.stateVersions
  }
}
