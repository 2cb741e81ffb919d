import PluginAPI
import PluginTestHost

/// The same writes, reads, scans and deletes again and again: memory, descriptors and threads stay as they are.
struct GrowthCheck {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let root = "\(TraceRun.roots[0])/growth"
  private static let recordsCount = 40
  /// What may be lost over all cycles: caches and tables that grow once more after the warm-up, and the pieces that
  /// malloc's arenas fall into. Less than 8 bytes for each call is less than the smallest thing that can be lost in each.
  private static let heapBytesOnce = 128 << 10
  private static let heapBytesOfCall = 8
  private static let callsOfCycle = 3 * recordsCount
  /// Mappings, and what an allocator keeps because it is in pieces: a plugin may have an allocator of its own, of which
  /// malloc knows nothing.
  private static let residentBytesMax = 24 << 20

  func run() async {
    // Others would be counted too.
    guard bench.ownsProcess else { return }
    await bench.recording.check("backend.growth") {
      let count = bench.extent.growthCyclesCount
      let kibibytes = try await bench.servingNothing { host in
        let driver = try BackendDriver(host, hasDeadlines: false)
        // As long as what is measured: a table that grows by doubling has reached its size.
        try await cycles(count, driver)
        host.forgetObservations()
        let (counts, memory) = (ProcessCounts.now(), ProcessMemory.now())
        try await cycles(count, driver)
        host.forgetObservations()
        return try await grown(from: counts, memory)
      }
      return "\(count) cycles of \(GrowthCheck.callsOfCycle) calls: \(kibibytes) KiB more from malloc"
    }
  }

  private func grown(from counts: ProcessCounts, _ before: ProcessMemory) async throws -> Int {
    let now = ProcessMemory.now()
    let (heap, resident) = (now.heapBytes - before.heapBytes, now.residentBytes - before.residentBytes)
    let cyclesCount = bench.extent.growthCyclesCount
    let what = "over \(cyclesCount) cycles of the same \(GrowthCheck.callsOfCycle) writes, reads, scans and deletes"
    let calls = cyclesCount * GrowthCheck.callsOfCycle
    try require(
      heap < GrowthCheck.heapBytesOnce + calls * GrowthCheck.heapBytesOfCall,
      "memory from malloc grew by \(heap >> 10) KiB \(what)")
    try require(
      resident < GrowthCheck.residentBytesMax, "resident memory grew by \(resident >> 20) MiB \(what)")
    if let grown = await counts.growth(ofAtLeast: 5) { throw Problem("\(grown) \(what)") }
    return heap >> 10
  }

  private func cycles(_ count: Int, _ driver: BackendDriver) async throws {
    let uris = (0..<GrowthCheck.recordsCount).map { "\(GrowthCheck.root)/\($0)" }
    for cycle in 1...UInt64(count) {
      let data = [UInt8](repeating: UInt8(truncatingIfNeeded: cycle), count: 1_000)
      try await apply(driver, uris.map { .put($0, data, .bytes) }, cycle)
      // What fails costs nothing either.
      _ = try await driver.apply([.put(uris[0], data, .bytes, if: .absent)], stamp: cycle)
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
