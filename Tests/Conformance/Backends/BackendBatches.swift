import PluginAPI
import PluginTestHost

/// What a backend is asked for at once: reads that come with one call, and queries (backend_query.h), compared with what
/// scans give.
struct BackendBatches {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let root = "mutable://conformance"
  private static let rounds = 3
  private static let changesOfRound = 80

  func run(_ traits: BackendTraits) async {
    await bench.recording.check("backend.batched-reads") { try await bench.servingNothing { try await reads(of: $0) } }
    let offersQueries = (try? bench.created()).map { host in
      defer { host.destroy() }
      return host.answersQueries
    }
    guard offersQueries == true else { return }
    await bench.recording.check("backend.query") {
      try await bench.servingNothing { try await queries(of: $0, traits) }
    }
  }

  /// Each read of a call is answered with its own record, whatever else came with it.
  private func reads(of host: TestHost) async throws -> String {
    let driver = try BackendDriver(host)
    let held = 100
    for number in 0..<held {
      let answer = try await driver.apply(
        [.put("\(BackendBatches.root)/\(number)", Array("[\(number)]".utf8))], stamp: UInt64(number + 1))
      try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
    }
    var random = SeededGenerator(seed: bench.seed)
    for count in [1, 2, 50, 256] {
      // Some of them twice, some that are not there.
      let numbers = (0..<count).map { _ in Int.random(in: 0..<held * 5 / 4, using: &random) }
      let records = try await host.read(
        numbers.map { "\(BackendBatches.root)/\($0)" }, deadline: BackendDriver.callLimit)
      for (number, record) in zip(numbers, records) {
        let found = record.map { String(decoding: $0.data, as: UTF8.self) }
        let right = number < held ? "[\(number)]" : nil
        try require(
          found == right,
          "of \(count) reads of one call that of \(BackendBatches.root)/\(number) was answered with \(found ?? "no record")"
            + "; \(right ?? "no record") is right")
      }
    }
    return ""
  }

  /// After changes at random, every prefix, offset and limit: the page and the total of a query are those of a scan.
  private func queries(of host: TestHost, _ traits: BackendTraits) async throws -> String {
    let driver = try BackendDriver(host)
    var random = SeededGenerator(seed: bench.seed)
    var stamp: UInt64 = 0
    var compared = 0
    var scanned = 0
    for round in 1...BackendBatches.rounds {
      for _ in 0..<BackendBatches.changesOfRound {
        stamp += 1
        let uri = BackendBatches.uri(&random)
        let op: Op = random.oneIn(4) ? .delete(uri) : .put(uri, Array("\(stamp)".utf8))
        let answer = try await driver.apply([op], stamp: stamp)
        try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
      }
      let prefixes = ["", "/", "/b/", "/b/b/", "/none/"].map { $0.isEmpty ? "" : BackendBatches.root + $0 }
      for prefix in prefixes where !traits.isRemote || ListCase.isWithinProgram(prefix) {
        let all = try await host.scan(prefix: prefix)
        for offset in [0, 1, all.count / 2, max(0, all.count - 1), all.count, Int.max] {
          for limit in [0, 7, 1000] as [UInt32] {
            guard let page = try await host.query(prefix: prefix, offset: UInt64(offset), limit: limit) else {
              scanned += 1
              continue
            }
            compared += 1
            let asked = "a query of '\(prefix)' with offset \(offset) and limit \(limit), in round \(round),"
            try require(
              page.total == all.count, "\(asked) says there are \(page.total) records; a scan gives \(all.count)")
            let right = all.dropFirst(offset).prefix(Int(limit))
            try require(
              page.items.map(\.uri) == right.map(\.uri),
              "\(asked) gives \(page.items.map(\.uri)); a scan gives \(right.map(\.uri))")
            try require(
              zip(page.items, right).allSatisfy {
                $0.timestampMs == $1.timestampMs && $0.version == $1.version && $0.sizeBytes == $1.sizeBytes
                  && $0.content == $1.content
              }, "\(asked) says of its items something else than a scan")
          }
        }
      }
    }
    try require(compared > 0, "every query was answered with BP_UNIMPLEMENTED; leave the extension out")
    return "\(compared) queries" + (scanned == 0 ? "" : ", \(scanned) left to a scan")
  }

  /// A tree with branches that are records, and branches that are none.
  private static func uri(_ random: inout SeededGenerator) -> String {
    let depth = Int.random(in: 1...4, using: &random)
    let names = ["a", "b", "c", "ab", "%C3%A9", "x-1", "x-2", "x-3", "x-4", "x-5"]
    return root + (0..<depth).map { _ in "/" + names.randomElement(using: &random)! }.joined()
  }
}
