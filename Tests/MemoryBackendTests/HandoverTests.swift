import MemoryBackend
import PluginAPI
import PluginTestHost
import Testing

private let entry = PluginEntry(MemoryBackend.self, id: "org.backplane.memory", version: "0.1.0") {
  MemoryBackend.create($0, $1, $2)
}

private func started(_ configuration: String = "{}") async throws -> TestHost {
  let host = try TestHost(entry: entry.pointer, configuration: configuration)
  try await host.start()
  return host
}

/// Everything a client can see, in the backend's order.
private func contents(_ host: TestHost) async throws -> [String] {
  var lines: [String] = []
  for item in try await host.scan(pageSize: 1000) {
    let record = try #require(try await host.read(item.uri))
    #expect(record.data.count == item.sizeBytes && record.content == item.content)
    #expect(record.timestampMs == item.timestampMs && record.version == item.version)
    lines.append(
      "\(item.uri) \(record.content) \(record.timestampMs) \(record.version) \(record.data.count) \(record.data.hashValue)"
    )
  }
  return lines
}

private struct Generator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// Random writes over few URIs, so that records are overwritten, deleted and put again, and branches come and go.
private struct Writer {
  var random: Generator
  var version: UInt64 = 1

  init(seed: UInt64) { random = Generator(state: seed) }

  private mutating func uri() -> String {
    var uri = "mutable://open\(Int.random(in: 0..<2, using: &random))"
    for _ in 0..<Int.random(in: 0..<4, using: &random) { uri += "/\(Int.random(in: 0..<6, using: &random))" }
    return uri
  }

  private mutating func op() -> Op {
    if Int.random(in: 0..<3, using: &random) == 0 { return .delete(uri()) }
    let size = [0, 1, 50, 3_000, 20_000, 400_000].randomElement(using: &random)!
    let count = size < 400_000 ? size : Int.random(in: 0..<4, using: &random) == 0 ? size : 100
    let fill = UInt8.random(in: 0...255, using: &random)
    return .put(uri(), [UInt8](repeating: fill, count: count), Bool.random(using: &random) ? .json : .bytes)
  }

  mutating func write(_ units: Int, to host: TestHost) async throws {
    for _ in 0..<units {
      var ops = [op()]
      if Int.random(in: 0..<4, using: &random) == 0 { for _ in 0..<3 { ops.append(op()) } }
      try await host.apply(ops, timestampMs: version * 10, version: version)
      version += 1
    }
  }
}

@Suite(.timeLimit(.minutes(2))) struct HandoverTests {
  @Test(arguments: 1...20 as ClosedRange<UInt64>)
  func theSuccessorIsTheSame(_ seed: UInt64) async throws {
    var writer = Writer(seed: seed)
    let old = try await started()
    try await writer.write(600, to: old)
    let new = try await started()

    // The snapshot, with writes between the chunks.
    let export = try old.beginExport(.snapshot, credits: 1)
    var sequence: UInt64 = 0
    for await chunk in export.chunks {
      try await new.importState(chunk, .snapshot, sequence: sequence, isLast: false)
      sequence += 1
      try await writer.write(40, to: old)
      export.grant(1)
    }
    #expect(await export.value == nil)
    #expect(sequence > 2)
    try await new.importState([], .snapshot, sequence: sequence, isLast: true)
    try await writer.write(200, to: old)
    try await old.moveState(.rest, to: new, credits: 1)

    #expect(try await contents(new) == contents(old))
    // A page that was begun on the old instance goes on on the new one.
    let page = try await old.scanPage(prefix: "", limit: 7)
    let (left, right) = (
      try await old.scanPage(prefix: "", after: page.cursor ?? [], limit: 100),
      try await new.scanPage(prefix: "", after: page.cursor ?? [], limit: 100)
    )
    #expect(left.items.map(\.uri) == right.items.map(\.uri) && left.cursor == right.cursor)

    // And on: the order of what comes later is the same, and so is a third generation's.
    var again = writer
    try await writer.write(100, to: old)
    try await again.write(100, to: new)
    #expect(try await contents(new) == contents(old))
    let third = try await started()
    try await new.handOverState(to: third) { try await again.write(100, to: new) }
    try await writer.write(100, to: old)
    #expect(try await contents(third) == contents(old))
    for host in [old, new, third] {
      try await host.stop()
      host.destroy()
      #expect(host.violations.isEmpty, "\(host.violations)")
    }
  }
}
