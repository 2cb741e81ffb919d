import PluginAPI
import PluginTestHost
import Synchronization

/// Reads and scans while others write the same records: each sees something that was written, and nothing older than
/// what had been acknowledged before it began.
struct FreshnessCheck {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let root = "\(TraceRun.roots[0])/fresh"
  private static let ownersCount = 4
  /// Written by two at once, each by the version that it has read.
  private static let sharedCount = 2
  private static let readersCount = 3

  func run(_ traits: BackendTraits) async {
    await bench.recording.check("backend.reads-under-writes") {
      try await bench.servingNothing { host in
        let run = FreshnessRun(
          driver: try BackendDriver(host), traits: traits, writesCount: bench.extent.contendedWritesCount,
          seed: bench.seed)
        try await run.run()
      }
      return "\(bench.extent.contendedWritesCount) writes of each of \(FreshnessCheck.ownersCount) writers and more"
    }
  }

  private struct FreshnessRun: Sendable {
    let driver: BackendDriver
    let traits: BackendTraits
    let writesCount: Int
    let seed: UInt64
    private let records = (0..<ownersCount + sharedCount).map { Slot(uri: "\(root)/\($0)") }
    private let writersLeft = Left()

    init(driver: BackendDriver, traits: BackendTraits, writesCount: Int, seed: UInt64) {
      self.driver = driver
      self.traits = traits
      self.writesCount = writesCount
      self.seed = seed
    }

    func run() async throws {
      let sharers = traits.keepsVersions ? 2 * sharedCount : 0
      let writers = ownersCount + sharers
      writersLeft.count.store(writers, ordering: .sequentiallyConsistent)
      async let scans: Void = scanOnAndOn()
      try await OwnThreads.run(writers + readersCount) { thread in
        if thread >= writers { return try readOnAndOn(thread) }
        defer { writersLeft.count.subtract(1, ordering: .sequentiallyConsistent) }
        if thread < ownersCount {
          try own(records[thread])
        } else {
          try share(records[ownersCount + thread % sharedCount])
        }
      }
      try await scans
    }

    private func own(_ slot: Slot) throws {
      for number in 1...UInt64(writesCount) {
        let answer = try write(slot, number, .any)
        try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
      }
    }

    private func share(_ slot: Slot) throws {
      for _ in 0..<writesCount {
        let version = try BackendDriver.record(Waiting.read(driver, slot.uri), slot.uri)?.version
        let answer = try write(slot, (version ?? 0) + 1, version.map { .version($0) } ?? .absent)
        try require(
          answer.code == BP_OK || answer.code == BP_FAILED_PRECONDITION,
          "apply failed with code \(answer.code): \(answer.message)")
      }
    }

    /// The number is the record's stamp and its data.
    private func write(_ slot: Slot, _ number: UInt64, _ condition: Condition) throws -> BackendDriver.WriteAnswer {
      slot.begun.max(number, ordering: .sequentiallyConsistent)
      let data = Array("[\(number),\"\(String(repeating: "x", count: Int(number % 300)))\"]".utf8)
      return try Waiting.apply(driver, [.put(slot.uri, data, if: condition)], number) { answer in
        // At once: from here on a read must see it.
        if answer.code == BP_OK { slot.acknowledged.max(number, ordering: .sequentiallyConsistent) }
      }
    }

    private func readOnAndOn(_ thread: Int) throws {
      var random = SeededGenerator(seed: seed &+ UInt64(thread))
      var seen: [String: UInt64] = [:]
      while writersLeft.count.load(ordering: .sequentiallyConsistent) > 0 {
        let slot = records.randomElement(using: &random)!
        let oldest = slot.acknowledged.load(ordering: .sequentiallyConsistent)
        let record = try BackendDriver.record(Waiting.read(driver, slot.uri), slot.uri)
        let newest = slot.begun.load(ordering: .sequentiallyConsistent)
        let number = try record.map { try self.number(of: $0, slot) } ?? 0
        try check(number, oldest, newest, "a read of \(slot.uri)")
        try require(
          number >= seen[slot.uri] ?? 0,
          "a read of \(slot.uri) found write \(number) after one read before it had found \(seen[slot.uri] ?? 0)")
        seen[slot.uri] = number
      }
    }

    private func number(of record: Record, _ slot: Slot) throws -> UInt64 {
      let text = String(decoding: record.data, as: UTF8.self)
      guard let number = UInt64(text.dropFirst().prefix { $0.isNumber }),
        text == "[\(number),\"\(String(repeating: "x", count: Int(number % 300)))\"]"
      else { throw Problem("a read of \(slot.uri) found what nobody wrote: \(TraceRun.shown(record.data))") }
      try require(
        !traits.keepsVersions || record.version == number,
        "a read of \(slot.uri) found the data of write \(number) and the version of \(record.version)")
      try require(
        traits.isRemote || record.timestampMs == BackendDriver.timestampMs(number),
        "a read of \(slot.uri) found the data of write \(number) and the ts_ms of another")
      return number
    }

    private func check(_ number: UInt64, _ oldest: UInt64, _ newest: UInt64, _ what: String) throws {
      try require(
        number >= oldest,
        "\(what) found \(number == 0 ? "no record" : "write \(number)"); \(oldest) had been acknowledged before it began"
      )
      try require(number <= newest, "\(what) found write \(number); only \(newest) had been begun")
    }

    private func scanOnAndOn() async throws {
      while writersLeft.count.load(ordering: .sequentiallyConsistent) > 0 {
        let oldest = records.map { $0.acknowledged.load(ordering: .sequentiallyConsistent) }
        let items = try await driver.scan(prefix: root + "/", credits: 2, itemsMax: records.count)
        let newest = records.map { $0.begun.load(ordering: .sequentiallyConsistent) }
        for (index, slot) in records.enumerated() {
          let found = items.filter { $0.uri == slot.uri }
          try require(found.count <= 1, "a scan lists \(slot.uri) \(found.count) times while it is written")
          guard !traits.isRemote || found.isEmpty else { continue }
          let ms = found.first?.timestampMs ?? BackendDriver.timestampMs(0)
          let number = (ms &- BackendDriver.timestampMs(0)) / 7
          try check(number, oldest[index], newest[index], "a scan, at \(slot.uri),")
        }
      }
    }
  }

  /// One record, and how far its writes are.
  private final class Slot: Sendable {
    let uri: String
    let begun = Atomic<UInt64>(0)
    let acknowledged = Atomic<UInt64>(0)
    init(uri: String) { self.uri = uri }
  }

  private final class Left: Sendable { let count = Atomic<Int>(0) }
}
