import PluginAPI

/// Runs a trace on a backend and on the model, and compares at every step.
struct TraceRun {
  let driver: BackendDriver
  private(set) var model: Model

  /// Every URI of the suite begins with one of these, so that a store that is shared with others is left alone.
  static let roots = ["mutable://conformance", "link://conformance"]
  private let traits: BackendTraits

  init(_ driver: BackendDriver) {
    self.driver = driver
    traits = driver.traits
    model = Model(keepsVersions: driver.traits.keepsVersions)
  }

  struct Mismatch: Error {
    /// From 0.
    var step: Int
    var sentence: String
  }

  /// Throws `Mismatch` at the first difference.
  mutating func run(_ trace: Trace) async throws(Mismatch) {
    do { try await TraceRun.clear(driver) } catch { throw Mismatch(step: 0, sentence: "\(error)") }
    for (index, step) in trace.steps.enumerated() {
      do { try await run(step) } catch { throw Mismatch(step: index, sentence: "\(error)") }
    }
  }

  private mutating func run(_ step: Step) async throws {
    switch step {
    case .apply(let ops, let stamp):
      let answer = try await driver.apply(ops, stamp: stamp)
      // Another node may have no conditions to offer.
      if traits.isRemote, answer.code == BP_UNIMPLEMENTED, ops.contains(where: { $0.condition != .any }) { return }
      try compare(answer, model.apply(ops, stamp: stamp))
    case .read(let uri): try compare(try await driver.read(uri), model.records[uri], uri)
    case .readWithoutData(let uri):
      var wanted = model.records[uri]
      let got = try await driver.read(uri, withoutData: true)
      // Leaving the data out is advice.
      if got?.data.isEmpty == true { wanted?.data = [] }
      try compare(got, wanted, uri)
    case .scan(let prefix, let credits):
      // Another node lists one program at a time.
      guard !traits.isRemote || ListCase.isWithinProgram(prefix) else { return }
      try await scan(prefix, credits)
    case .list(let list): try await list.check(driver, model)
    }
  }

  private func compare(_ got: BackendDriver.WriteAnswer, _ wanted: Model.Outcome) throws {
    let outcome: Model.Outcome
    switch got.code {
    case BP_OK: outcome = .applied(absentCount: Int(got.absentCount))
    case BP_FAILED_PRECONDITION: outcome = .preconditionFailed(op: Int(got.failedOp))
    case BP_UNIMPLEMENTED: outcome = .unimplemented
    default: throw Problem("apply failed with code \(got.code): \(got.message)")
    }
    try require(outcome == wanted, "apply answered \(outcome); \(wanted) is right")
  }

  private func compare(_ got: Record?, _ wanted: Record?, _ uri: String) throws {
    if let difference = TraceRun.difference(got, wanted, traits) {
      throw Problem("read of \(BackendDriver.shown(uri)) \(difference)")
    }
  }

  /// What is wrong with a record that was read, or nil: `found nothing; there is a record`.
  static func difference(_ got: Record?, _ wanted: Record?, _ traits: BackendTraits) -> String? {
    guard let wanted else { return got == nil ? nil : "found a record; there is none" }
    guard let got else { return "found nothing; there is a record" }
    var differences: [String] = []
    if !got.data.isSame(as: wanted.data) { differences.append("\(shown(got.data)) instead of \(shown(wanted.data))") }
    if got.content != wanted.content { differences.append("content \(got.content) instead of \(wanted.content)") }
    if !traits.isRemote, got.timestampMs != wanted.timestampMs {
      differences.append("ts_ms \(got.timestampMs) instead of \(wanted.timestampMs)")
    }
    if got.version != wanted.version { differences.append("version \(got.version) instead of \(wanted.version)") }
    return differences.isEmpty ? nil : "answered \(differences.joined(separator: ", "))"
  }

  private func scan(_ prefix: String, _ credits: UInt32) async throws {
    let wanted = model.below(prefix)
    func ours(_ items: [ScanPage.Item]) -> [ScanPage.Item] {
      items.filter { item in TraceRun.roots.contains { item.uri.utf8.starts(with: $0.utf8) } || !prefix.isEmpty }
    }
    let items = ours(try await driver.scan(prefix: prefix, credits: credits, itemsMax: wanted.count + 10_000))
    let found = Set(items.map(\.uri))
    let missing = wanted.keys.filter { !found.contains($0) }.sorted()
    let extra = found.filter { wanted[$0] == nil }.sorted()
    let what = "a scan of '\(BackendDriver.shown(prefix))' by \(credits)"
    try require(missing.isEmpty, "\(what) misses \(missing.count) records, \(BackendDriver.shown(missing.first ?? ""))")
    try require(extra.isEmpty, "\(what) lists \(extra.count) too many, \(BackendDriver.shown(extra.first ?? ""))")
    try require(found.count == items.count, "\(what) lists \(items.count - found.count) records twice")
    for item in items {
      guard let record = wanted[item.uri], !traits.isRemote else { continue }
      let isRight =
        item.timestampMs == record.timestampMs && item.version == record.version && item.content == record.content
        && item.sizeBytes == record.data.count
      try require(
        isRight,
        "\(what) says of \(BackendDriver.shown(item.uri)): ts_ms \(item.timestampMs), version \(item.version), "
          + "\(item.content), \(item.sizeBytes) bytes; the record has ts_ms \(record.timestampMs), version "
          + "\(record.version), \(record.content), \(record.data.count) bytes")
    }
    let whole = ours(try await driver.scan(prefix: prefix, credits: 65_536, itemsMax: wanted.count + 10_000))
    try require(
      whole.map(\.uri) == items.map(\.uri), "\(what) has another order than one in a single page: order must be stable")
  }

  static func shown(_ data: [UInt8]) -> String {
    let text = String(decoding: data.prefix(24), as: UTF8.self)
    let isPlain = text.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f }
    return "\(data.count) bytes" + (isPlain && !data.isEmpty ? " \"\(text)\(data.count > 24 ? "..." : "")\"" : "")
  }
}
