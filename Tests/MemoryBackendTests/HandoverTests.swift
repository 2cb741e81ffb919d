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
  @Test(arguments: 1...10 as ClosedRange<UInt64>)
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

/// What is wrong with a stream, a limit or an order of events.
@Suite(.timeLimit(.minutes(2))) struct HandoverRefusalTests {
  private func filled(_ seed: UInt64 = 1, units: Int = 200) async throws -> TestHost {
    let host = try await started()
    var writer = Writer(seed: seed)
    try await writer.write(units, to: host)
    return host
  }

  /// Imports a phase and says what was refused; nil: nothing.
  private func refusal(_ host: TestHost, _ chunks: [[UInt8]], _ phase: StatePhase = .snapshot) async throws -> Failure?
  {
    do {
      try await host.importState(chunks, phase)
      return nil
    } catch let failure as Failure { return failure }
  }

  @Test func aTornStreamIsRefusedWithASentence() async throws {
    let chunks = try await filled(units: 500).exportState(.snapshot)
    try #require(chunks.count >= 4)
    var damaged: [[[UInt8]]] = []
    for index in chunks.indices {
      damaged.append(Array(chunks[..<index]))
      damaged.append(Array(chunks[..<index] + chunks[(index + 1)...]))
      damaged.append(Array(chunks[...index] + chunks[index...]))
    }
    damaged.append(chunks.reversed())
    damaged.append(chunks + [[0]])
    damaged.append([[UInt8]("not state at all".utf8)])
    damaged.append([])
    for stream in damaged {
      let failure = try #require(try await refusal(started(), stream))
      #expect(failure.code == BP_DATA_LOSS && failure.message.contains("handed over"), "\(failure)")
    }
    #expect(try await refusal(started(), chunks) == nil)
  }

  /// Any byte of it.
  @Test func aDamagedByteIsNoticed() async throws {
    let old = try await started()
    for number in 0..<10 {
      try await old.apply(.put("mutable://open/\(number % 3)/\(number)", [UInt8](repeating: 1, count: 300)))
    }
    try await old.apply(.delete("mutable://open/0/0"))
    let whole = try await old.exportState(.snapshot).flatMap { $0 }
    var random = Generator(state: 3)
    let headers = Array(0..<120)
    for place in headers + (0..<200).map({ _ in Int.random(in: 0..<whole.count, using: &random) }) {
      var bytes = whole
      bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      let host = try await started()
      #expect(try await refusal(host, [bytes]) != nil, "byte \(place) was changed and nobody noticed")
      try await host.stop()
      #expect(host.violations.isEmpty)
    }
  }

  @Test func chunksMeanNothing() async throws {
    let old = try await filled(units: 60)
    let whole = try await old.exportState(.snapshot).flatMap { $0 }
    let rest = try await old.exportState(.rest)
    for size in [1, 7, 47, 48, 49, 1_000] {
      let new = try await started()
      // Byte by byte through the first frames is enough.
      let fine = size < 1_000 ? min(whole.count, size * 300) : whole.count
      var chunks = stride(from: 0, to: fine, by: size).map { Array(whole[$0..<min($0 + size, fine)]) }
      if fine < whole.count { chunks.append(Array(whole[fine...])) }
      try await new.importState(chunks, .snapshot)
      try await new.importState(rest, .rest)
      #expect(try await contents(new) == contents(old))
    }
  }

  @Test func theSuccessorsLimitsHold() async throws {
    let old = try await started()
    for number in 0..<5 { try await old.apply(.put("mutable://open/\(number)", [UInt8](repeating: 1, count: 100))) }
    for (configuration, words) in [
      (#"{"records_max":4}"#, ["holds 5 records", "records_max is 4"]),
      (#"{"size_bytes_max":1000}"#, ["holds 1940 bytes", "size_bytes_max is 1000"]),
    ] {
      let small = try await started(configuration)
      let failure = await #expect(throws: Failure.self) { try await old.handOverState(to: small) }
      #expect(failure?.code == BP_RESOURCE_EXHAUSTED)
      for word in words { #expect(failure?.message.contains(word) == true, "\(failure?.message ?? "")") }
    }
    // The old one serves on, and a successor that just holds it takes it.
    try await old.apply(.put("mutable://open/0", [2]))
    let fitting = try await started(#"{"records_max":5}"#)
    try await old.handOverState(to: fitting) {
      // For a while both the old and the new record are on their way.
      try await old.apply(.delete("mutable://open/1"))
      try await old.apply(.put("mutable://open/new", [3]))
    }
    #expect(try await contents(fitting) == contents(old))
    // What came after the snapshot counts too.
    let late = try await started(#"{"records_max":5}"#)
    let failure = await #expect(throws: Failure.self) {
      try await old.handOverState(to: late) { try await old.apply(.put("mutable://open/late", [4])) }
    }
    #expect(failure?.code == BP_RESOURCE_EXHAUSTED)
  }

  @Test func anExportThatWaitsForCreditHoldsNobodyUp() async throws {
    let old = try await filled(units: 800)
    let export = try old.beginExport(.snapshot, credits: 1)
    var writer = Writer(seed: 9)
    try await writer.write(300, to: old)
    #expect(!export.isCompleted)
    _ = try await contents(old)
    export.cancel()
    #expect(await export.value?.code == BP_CANCELLED)
    // Abandoned: nothing is noted any more, and the next handover is whole.
    try await old.abandonState()
    try await writer.write(50, to: old)
    let new = try await started()
    try await old.handOverState(to: new, credits: 1) { try await writer.write(50, to: old) }
    #expect(try await contents(new) == contents(old))
    // Stop ends an export that waits.
    let outstanding = try old.beginExport(.snapshot, credits: 1)
    try await old.stop()
    #expect(await outstanding.value?.code == BP_CANCELLED)
    old.destroy()
    #expect(old.violations.isEmpty, "\(old.violations)")
  }

  @Test func aWriteAfterTheFenceRefusesTheHandover() async throws {
    let old = try await filled(units: 800)
    _ = try await old.exportState(.snapshot)
    var writer = Writer(seed: 5)
    try await writer.write(400, to: old)
    let rest = try old.beginExport(.rest, credits: 1)
    var chunks = rest.chunks.makeAsyncIterator()
    _ = await chunks.next()
    try #require(!rest.isCompleted)
    try await old.apply(.put("mutable://open/late", [1]))
    while rest.isCompleted == false {
      rest.grant(64)
      if await chunks.next() == nil { break }
    }
    let failure = await rest.value
    #expect(failure?.code == BP_INTERNAL && failure?.message.contains("after the fence") == true, "\(failure as Any)")
    #expect(try await old.read("mutable://open/late") != nil)
  }

  @Test func phasesHaveTheirOrder() async throws {
    let host = try await filled()
    for _ in 0..<2 {
      let failure = await #expect(throws: Failure.self) { _ = try await host.exportState(.rest) }
      #expect(failure?.code == BP_FAILED_PRECONDITION)
      // Nothing to abandon is no fault.
      try await host.abandonState()
    }
    let snapshot = try await host.exportState(.snapshot)
    let again = try await host.exportState(.snapshot)
    #expect(snapshot == again)
    let second = await #expect(throws: Failure.self) { try await host.importState(snapshot, .snapshot) }
    #expect(second?.code == BP_FAILED_PRECONDITION, "an instance that holds records took a snapshot")
    for version: UInt32 in [0, 2, .max] {
      let new = try await started()
      let failure = await #expect(throws: Failure.self) {
        try await new.importState(snapshot[0], .snapshot, sequence: 0, isLast: false, formatVersion: version)
      }
      #expect(failure?.code == BP_UNIMPLEMENTED && failure?.message.contains("\(version)") == true)
      // It is as it was: a cold start.
      #expect(try await contents(new) == [])
      try await new.apply(.put("mutable://open/a", [1]))
    }
  }

  @Test func chunksOutOfTurnAreRefused() async throws {
    let chunks = try await filled(units: 800).exportState(.snapshot)
    let new = try await started()
    let early = await #expect(throws: Failure.self) {
      try await new.importState(chunks[1], .snapshot, sequence: 1, isLast: false)
    }
    #expect(early?.code == BP_INVALID_ARGUMENT)
    try await new.importState(chunks[0], .snapshot, sequence: 0, isLast: false)
    let skipped = await #expect(throws: Failure.self) {
      try await new.importState(chunks[2], .snapshot, sequence: 2, isLast: false)
    }
    #expect(skipped?.code == BP_INVALID_ARGUMENT)
    // The successor goes, half full as it is.
    try await new.stop()
    new.destroy()
    #expect(new.violations.isEmpty, "\(new.violations)")
  }
}
