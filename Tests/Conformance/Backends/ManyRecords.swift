import PluginAPI
import PluginTestHost

/// A store with many records in it: put in batches, scanned by several credits and prefixes, read, changed and emptied.
struct ManyRecords {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let root = "\(TraceRun.roots[0])/many"
  /// The records lie below so many directories.
  private static let directoriesCount = 97
  private static let unitOps = 100
  private static let batchOps = 1_000
  private static let samplesCount = 300

  func run(_ traits: BackendTraits) async {
    await bench.recording.check("backend.many-records") {
      let count = bench.extent.recordsCount
      try await bench.servingNothing { host in
        let driver = try BackendDriver(host)
        try await fill(driver, traits, count)
        try await scan(driver, count)
        try await change(driver, traits, count)
        try await empty(driver, traits, count)
      }
      return "\(count) records"
    }
  }

  private func uri(_ index: Int) -> String { "\(ManyRecords.root)/\(index % ManyRecords.directoriesCount)/\(index)" }
  private func data(_ index: Int) -> [UInt8] { Array("{\"number\":\(index)}".utf8) }
  /// Of the record with that number; 1 is what an emptied store is left with.
  private func stamp(_ index: Int) -> UInt64 { UInt64(index + 2) }

  private func fill(_ driver: BackendDriver, _ traits: BackendTraits, _ count: Int) async throws {
    try await batches(driver, traits, 0..<count) { .put(uri($0), data($0)) }
  }

  /// One op for each number, a thousand to a call.
  private func batches(
    _ driver: BackendDriver, _ traits: BackendTraits, _ numbers: Range<Int>, _ op: (Int) -> Op
  ) async throws {
    let opsMax = traits.isAtomic ? ManyRecords.unitOps : 1
    var start = numbers.lowerBound
    while start < numbers.upperBound {
      let end = min(numbers.upperBound, start + ManyRecords.batchOps)
      let units = stride(from: start, to: end, by: opsMax).map { first in
        (ops: (first..<min(end, first + opsMax)).map(op), stamp: stamp(first))
      }
      for answer in try await driver.apply(units: units) {
        try require(
          answer.code == BP_OK,
          "a unit of records \(start) to \(end) of \(numbers.upperBound) failed with code \(answer.code): \(answer.message)"
        )
      }
      start = end
    }
  }

  private func scan(_ driver: BackendDriver, _ count: Int) async throws {
    let directory = 13
    let inDirectory = (0..<count).count { $0 % ManyRecords.directoriesCount == directory }
    let all = [("\(ManyRecords.root)/", 65_536 as UInt32, count), ("\(ManyRecords.root)/", 1_000, count)]
    let some = [7, 100].map { ("\(ManyRecords.root)/\(directory)/", $0 as UInt32, inDirectory) }
    for (prefix, credits, wanted) in all + some {
      let items = try await driver.scan(prefix: prefix, credits: credits, itemsMax: wanted)
      let found = Set(items.map(\.uri))
      try require(
        items.count == wanted && found.count == wanted,
        "a scan of '\(prefix)' by \(credits) has \(items.count) items of \(found.count) records; there are \(wanted)")
      let stranger = found.first { !$0.hasPrefix(prefix) }
      try require(stranger == nil, "a scan of '\(prefix)' has \(stranger ?? ""), which is not below it")
    }
  }

  private func change(_ driver: BackendDriver, _ traits: BackendTraits, _ count: Int) async throws {
    var random = SeededGenerator(seed: bench.seed)
    for sample in 0..<min(count, ManyRecords.samplesCount) {
      let index = Int.random(in: 0..<count, using: &random)
      // Every third one is changed first.
      let isChanged = sample % 3 == 0
      let wanted = isChanged ? Array("\"changed \(sample)\"".utf8) : data(index)
      if isChanged {
        let answer = try await driver.apply([.put(uri(index), wanted)], stamp: stamp(count + sample))
        try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
      }
      let record = try await driver.read(uri(index))
      guard record?.data != wanted else {
        if isChanged { try await restore(driver, index) }
        continue
      }
      throw Problem(
        "of \(count) records, \(uri(index)) is \(record.map { TraceRun.shown($0.data) } ?? "absent"); "
          + "\(TraceRun.shown(wanted)) is right. Seed \(bench.seed).")
    }
  }

  /// The samples that come later may be the same ones.
  private func restore(_ driver: BackendDriver, _ index: Int) async throws {
    let answer = try await driver.apply([.put(uri(index), data(index))], stamp: stamp(index))
    try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
  }

  private func empty(_ driver: BackendDriver, _ traits: BackendTraits, _ count: Int) async throws {
    try await batches(driver, traits, 0..<count) { .delete(uri($0)) }
    let left = try await driver.scan(prefix: "\(ManyRecords.root)/", credits: 1_000, itemsMax: count)
    try require(left.isEmpty, "\(left.count) of \(count) records were there after all were deleted")
  }
}
