import PluginAPI
import PluginTestHost

/// Random writes to a backend and to a model of it, over few URIs, so that records come, change and go.
struct StateWrites {
  private var driver: BackendDriver
  private var model: Model
  private var random: SeededGenerator
  private var stamp: UInt64 = 0
  private let dataBytesMax: Int

  /// `dataBytesMax`: of the large ones among the records. Unless told, they make a stream of several chunks.
  init(_ host: TestHost, seed: UInt64, dataBytesMax: Int = 150_000) throws {
    self.dataBytesMax = dataBytesMax
    driver = try BackendDriver(host)
    model = Model(keepsVersions: driver.traits.keepsVersions)
    random = SeededGenerator(seed: seed)
  }

  /// Another instance takes the writes from now on.
  mutating func goOn(on host: TestHost) throws { driver = try BackendDriver(host) }

  mutating func write(_ count: Int) async throws {
    for _ in 0..<count {
      stamp += 1
      let uri = RandomTrace.uris.randomElement(using: &random)!
      let size = random.oneIn(2) ? dataBytesMax : Int.random(in: 0..<200, using: &random)
      let op: Op =
        random.oneIn(3)
        ? .delete(uri)
        : random.oneIn(2)
          ? .put(uri, [UInt8](repeating: UInt8(truncatingIfNeeded: stamp), count: size), .bytes)
          : .put(uri, Array("\"\(String(repeating: "\(stamp % 10)", count: size))\"".utf8))
      let answer = try await driver.apply([op], stamp: stamp)
      try require(answer.code == BP_OK, "apply failed with code \(answer.code): \(answer.message)")
      _ = model.apply([op], stamp: stamp)
    }
  }

  /// Whether an instance holds what the model holds, no more and no less.
  func compare(_ host: TestHost, _ what: String) async throws {
    let other = try BackendDriver(host)
    for uri in RandomTrace.uris {
      let (found, expected) = (try await other.read(uri), model.records[uri])
      guard found != expected else { continue }
      func text(_ record: Record?) -> String {
        guard let record else { return "no record" }
        return "\(record.data.count) bytes of \(record.content), ts_ms \(record.timestampMs), version \(record.version)"
      }
      throw Problem(
        "\(what) has \(text(found)) at \(BackendDriver.shown(uri)); \(text(expected)) is right"
          + (found?.data != expected?.data && found?.data.count == expected?.data.count ? " (the bytes differ)" : ""))
    }
    let listed = try await host.scan(pageSize: 100).map(\.uri).sorted()
    let expected = model.records.keys.sorted()
    try require(
      listed.filter { RandomTrace.uris.contains($0) } == expected,
      "\(what) lists \(listed.count) records; there are \(expected.count)")
  }
}
