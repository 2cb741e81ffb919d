import PluginAPI
import PluginTestHost

extension TraceRun {
  private static let programs = roots.flatMap { [$0, $0 + "-b"] }

  /// Deletes what an earlier check left in a store that outlives the instance.
  static func clear(_ driver: BackendDriver) async throws {
    let isRemote = driver.traits.isRemote
    let prefixes = isRemote ? programs.map { $0 + "/" } : roots
    var left: [String] = isRemote ? programs : []
    for prefix in prefixes {
      left += try await driver.scan(prefix: prefix, credits: 1_000, itemsMax: 1_000_000).map(\.uri)
    }
    for start in stride(from: 0, to: left.count, by: 500) {
      let units = left[start..<min(left.count, start + 500)].map { (ops: [Op.delete($0)], stamp: 1 as UInt64) }
      for answer in try await driver.apply(units: units) {
        try require(answer.code == BP_OK, "a delete failed with code \(answer.code): \(answer.message)")
      }
    }
  }
}

extension Workbench {
  /// `serving`, with no records of the suite's in the store.
  func servingNothing<R>(in given: String? = nil, _ body: (TestHost) async throws -> R) async throws -> R {
    try await serving(in: given) { host in
      try await TraceRun.clear(try BackendDriver(host))
      return try await body(host)
    }
  }
}
