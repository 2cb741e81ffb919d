import Glibc
import PluginAPI
import PluginTestHost

/// The same writes, reads, scans and deletes again and again: memory, descriptors and threads stay as they are.
struct GrowthCheck {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let root = "\(TraceRun.roots[0])/growth"
  private static let recordsCount = 40
  /// A cycle is some 100 calls, so at 80 cycles this is 32 bytes for each call: less than the smallest thing that is
  /// lost again and again. Caches and tables that are made once stay below it after the warm-up.
  private static let heapBytesMax = 256 << 10
  /// What an allocator keeps because it is in pieces, and mappings: a plugin may have an allocator of its own, of which
  /// malloc knows nothing.
  private static let residentBytesMax = 16 << 20

  func run() async {
    // Others would be counted too.
    guard bench.ownsProcess else { return }
    await bench.recording.check("backend.growth") {
      try await bench.serving { host in
        let driver = try BackendDriver(host, hasDeadlines: false)
        let count = bench.extent.growthCyclesCount
        try await cycles(max(40, count / 10), driver)
        let before = ProcessCounts.now()
        var grown: String?
        // What grew once and not again is no leak, so one round in three may grow.
        for round in 0..<3 {
          grown = try await growth { try await cycles(count, driver) }
          if grown == nil, getenv("GDBG") == nil { break }
          if round == 2 { throw Problem("\(grown!) over \(count) cycles of the same writes, reads, scans and deletes") }
        }
        if let grown = await before.growth(ofAtLeast: 5) {
          throw Problem("over \(count) cycles of the same writes, reads, scans and deletes \(grown)")
        }
      }
      return "\(bench.extent.growthCyclesCount) cycles"
    }
  }

  private func growth(_ body: () async throws -> Void) async throws -> String? {
    let before = ProcessMemory.now()
    try await body()
    let after = ProcessMemory.now()
    if getenv("GDBG") != nil { print("heap \(after.heapBytes - before.heapBytes) rss \(after.residentBytes - before.residentBytes)") }
    let (heap, resident) = (after.heapBytes - before.heapBytes, after.residentBytes - before.residentBytes)
    if heap > GrowthCheck.heapBytesMax { return "memory from malloc grew by \(heap >> 10) KiB" }
    if resident > GrowthCheck.residentBytesMax { return "resident memory grew by \(resident >> 20) MiB" }
    return nil
  }

  private func cycles(_ count: Int, _ driver: BackendDriver) async throws {
    let uris = (0..<GrowthCheck.recordsCount).map { "\(GrowthCheck.root)/\($0)" }
    for cycle in 1...UInt64(count) {
      let data = [UInt8](repeating: UInt8(truncatingIfNeeded: cycle), count: 1_000)
      try await apply(driver, uris.map { .put($0, data, .bytes) }, cycle)
      // What fails costs nothing either.
      _ = try await driver.apply([.put(uris[0], data, if: .absent)], stamp: cycle)
      for uri in uris {
        let record = try await driver.read(uri)
        try require(record?.data.isSame(as: data) == true, "a record was not read back in cycle \(cycle)")
      }
      _ = try await driver.read("\(GrowthCheck.root)/none")
      let items = try await driver.scan(prefix: GrowthCheck.root + "/", credits: 15, itemsMax: uris.count)
      try require(items.count == uris.count, "a scan had \(items.count) of \(uris.count) records in cycle \(cycle)")
      try await apply(driver, uris.map { .delete($0) }, cycle)
    }
  }

  private func apply(_ driver: BackendDriver, _ ops: [Op], _ stamp: UInt64) async throws {
    for answer in try await driver.apply(units: ops.map { ([$0], stamp) }) {
      try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
    }
  }
}
