import PluginAPI
import PluginTestHost
import Synchronization

/// A backend under many threads at once.
struct BackendConcurrency {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let root = "\(TraceRun.roots[0])/threads"
  private static let threadsCount = 8

  func run(_ traits: BackendTraits) async {
    await bench.recording.check("backend.write-once") {
      if traits.isRemote { return "not asked: its records are another node's, which may have no conditions" }
      for round in 1...5 { try await bench.servingNothing { try await writeOnce(try BackendDriver($0), round) } }
      return "64 first writes at once, 5 times"
    }
    await bench.recording.check("backend.threads") {
      try await bench.servingNothing { host in try await hammer(try BackendDriver(host), traits) }
      return "\(BackendConcurrency.threadsCount) threads"
    }
  }

  /// Sixty-four concurrent first writes to a write-once URI: exactly one is accepted.
  private func writeOnce(_ driver: BackendDriver, _ round: Int) async throws {
    let uri = "\(BackendConcurrency.root)/once"
    let calls = Mutex<[TestCall<BackendDriver.WriteAnswer>]>([])
    try await OwnThreads.run(BackendConcurrency.threadsCount) { thread in
      for index in 0..<8 {
        let number = UInt64(thread * 8 + index + 1)
        let call = try driver.beginApply([.put(uri, Array("\(number)".utf8), if: .absent)], stamp: number)
        calls.withLock { $0.append(call) }
      }
    }
    var accepted: [BackendDriver.WriteAnswer] = []
    for call in calls.withLock({ $0 }) {
      let answer = await call.value
      if answer.code == BP_OK { accepted.append(answer) }
      try require(
        answer.code == BP_OK || answer.code == BP_FAILED_PRECONDITION,
        "one of 64 concurrent first writes failed with code \(answer.code): \(answer.message)")
    }
    try require(
      accepted.count == 1, "\(accepted.count) of 64 concurrent first writes were accepted; exactly one may be")
    let record = try await driver.read(uri)
    try require(record != nil, "a first write was accepted, but there is no record")
    if driver.traits.keepsVersions, let record {
      try require(
        record.data == Array("\(record.version)".utf8),
        "the record has the data of one write and the version of another")
    }
  }

  /// Each thread: its own record read back at once, a pair of records that is written whole, and a counter that is
  /// raised by version.
  private func hammer(_ driver: BackendDriver, _ traits: BackendTraits) async throws {
    let root = BackendConcurrency.root
    let stamps = Counter()
    let raised = Counter()
    let first = try await driver.apply([.put("\(root)/counter", Array("0".utf8))], stamp: stamps.next())
    try require(first.code == BP_OK, "apply failed with code \(first.code): \(first.message)")
    let seed = bench.seed
    try await OwnThreads.run(BackendConcurrency.threadsCount) { thread in
      var random = SeededGenerator(seed: seed &+ UInt64(thread))
      let own = "\(root)/own/\(thread)"
      for round in 0..<60 {
        let text = Array("\"\(thread):\(round)\"".utf8)
        let written = try Waiting.apply(driver, [.put(own, text)], stamps.next())
        try require(written.code == BP_OK, "apply failed with code \(written.code): \(written.message)")
        let read = try BackendDriver.record(Waiting.read(driver, own), own)
        try require(
          read?.data == text,
          "thread \(thread) read back something else than it had written last to \(own): a read "
            + "sees every unit that was completed before it was submitted")
        if traits.isAtomic {
          let tag = Array(String(repeating: "\(thread),\(round);", count: Int.random(in: 1...200, using: &random)).utf8)
          let pair = ["left", "right"].map { Op.put("\(root)/\($0)", tag, .bytes) }
          let answer = try Waiting.apply(driver, random.oneIn(2) ? pair : pair.reversed(), stamps.next())
          try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
        }
        guard traits.keepsVersions else { continue }
        let counter = try BackendDriver.record(Waiting.read(driver, "\(root)/counter"), "\(root)/counter")
        guard let counter, let value = Int(String(decoding: counter.data, as: UTF8.self)) else {
          throw Problem("the counter was gone or torn while 8 threads raised it")
        }
        let raise = Op.put("\(root)/counter", Array("\(value + 1)".utf8), if: .version(counter.version))
        let answer = try Waiting.apply(driver, [raise], stamps.next())
        if answer.code == BP_OK { _ = raised.next() }
        try require(
          answer.code == BP_OK || answer.code == BP_FAILED_PRECONDITION,
          "apply failed with code \(answer.code): \(answer.message)")
      }
    }
    if traits.isAtomic {
      let (left, right) = (try await driver.read("\(root)/left"), try await driver.read("\(root)/right"))
      try require(left == right, "two records that are only ever written together differ after 8 threads wrote them")
    }
    if traits.keepsVersions {
      let value = try await driver.read("\(root)/counter").map { String(decoding: $0.data, as: UTF8.self) }
      let count = raised.count
      try require(
        value == "\(count)",
        "a counter was raised \(count) times by version and is \(value ?? "gone"): writes were lost")
    }
  }
}
