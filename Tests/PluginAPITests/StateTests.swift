import PluginAPI
import PluginTestHost
import Synchronization
import Testing

/// A schema that keeps bytes, to show that any kind may hand state over. `chunks` are what it writes, `reads` how it
/// reads.
private final class Keeper: Schema, HandsOverState {
  struct Configuration: Decodable, Sendable {
    var size: Int?
    var reads: String?
  }

  static let stateVersion: UInt32 = 3
  static let stateVersionOldest: UInt32 = 2

  private let size: Int
  private let reads: String
  let kept = Mutex<[UInt8]>([])
  let abandoned = Mutex(0)

  init(_ configuration: Configuration, _ context: Context) {
    size = configuration.size ?? 10
    reads = configuration.reads ?? "all"
  }

  var programs: [Program] { [Program("mutable://open")] }
  func judge(_ message: Message, _ reader: JudgeReader) async throws -> Verdict { .accept }

  /// The byte at a place of what it writes.
  static func byte(_ index: Int) -> UInt8 { UInt8(truncatingIfNeeded: index &* 31 &+ index >> 8) }

  func exportState(_ phase: StatePhase, to writer: StateWriter) async throws {
    guard phase == .snapshot else { return }
    let bytes = (0..<size).map(Self.byte)
    // Every way to write: in place, as an array, as borrowed bytes.
    let third = size / 3
    for index in 0..<third {
      writer.append(1) { $0[0] = bytes[index] }
      if writer.isFull { try await writer.drain() }
    }
    try await writer.write(Array(bytes[third..<(2 * third)]))
    let rest = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: size - 2 * third)
    defer { rest.deallocate() }
    _ = rest.initialize(from: bytes[(2 * third)...])
    try await writer.write(BorrowedBytes(rest))
  }

  func importState(_ phase: StatePhase, from reader: StateReader) async throws {
    switch reads {
    case "half":
      _ = try await reader.read(5)
    case "fails":
      _ = try await reader.next()
      throw Failure.exhausted("size_max is 1 and 10 bytes were handed over; raise size_max")
    case "exactly":
      while let bytes = try await reader.read(7) { kept.withLock { $0 += bytes } }
    default:
      while let bytes = try await reader.next() { kept.withLock { $0 += bytes } }
    }
    if reader.formatVersion != 3 { kept.withLock { $0.append(UInt8(reader.formatVersion)) } }
  }

  func abandonState() { abandoned.withLock { $0 += 1 } }
}

private let keeper = PluginEntry(Keeper.self, id: "org.example.keeper", version: "1.0.0") { Keeper.create($0, $1, $2) }

private func started(_ configuration: String = "{}") async throws -> TestHost {
  let host = try TestHost(entry: keeper.pointer, configuration: configuration)
  try await host.start()
  return host
}

private func end(_ hosts: TestHost...) async throws {
  for host in hosts {
    try await host.stop()
    host.destroy()
    #expect(host.violations.isEmpty, "\(host.violations)")
  }
}

@Suite(.timeLimit(.minutes(1))) struct StateTests {
  @Test func everyByteArrivesWhateverTheSize() async throws {
    for size in [0, 1, 3, 262_143, 262_144, 262_145, 3_000_001] {
      let old = try await started(#"{"size":\#(size)}"#)
      let chunks = try await old.exportState(.snapshot, credits: 1)
      #expect(chunks.allSatisfy { !$0.isEmpty && $0.count <= Int(BP_STATE_CHUNK_BYTES_MAX) })
      #expect(chunks.flatMap { $0 } == (0..<size).map(Keeper.byte))
      #expect(try await old.exportState(.rest) == [])
      let new = try await started()
      try await old.handOverState(to: new, credits: 2)
      try await end(old, new)
    }
  }

  @Test func aReaderAsksForWhatItNeedsAndATornEndIsAFailure() async throws {
    for (size, isTorn) in [(0, false), (7, false), (70, false), (20, true)] {
      let bytes = (0..<size).map(Keeper.byte)
      for cut in [1, 3, 7, 100] {
        let new = try await started(#"{"reads":"exactly"}"#)
        let chunks = stride(from: 0, to: size, by: cut).map { Array(bytes[$0..<min($0 + cut, size)]) }
        if isTorn {
          let failure = await #expect(throws: Failure.self) { try await new.importState(chunks, .snapshot) }
          #expect(failure?.code == BP_DATA_LOSS && failure?.message.contains("torn") == true)
        } else {
          try await new.importState(chunks, .snapshot)
        }
        try await end(new)
      }
    }
  }

  @Test func whatAnImporterLeavesUnreadIsAFailureAndSoIsWhatItThrows() async throws {
    let half = try await started(#"{"reads":"half"}"#)
    let left = await #expect(throws: Failure.self) { try await half.importState([[1, 2, 3], [4, 5, 6]], .snapshot) }
    #expect(left?.code == BP_DATA_LOSS)
    let fails = try await started(#"{"reads":"fails"}"#)
    let thrown = await #expect(throws: Failure.self) { try await fails.importState([[1], [2], [3]], .snapshot) }
    #expect(thrown?.code == BP_RESOURCE_EXHAUSTED && thrown?.message.contains("size_max") == true)
    try await end(half, fails)
  }

  @Test func versionsBetweenTheOldestAndItsOwnAreRead() async throws {
    for (version, isRead) in [(1, false), (2, true), (3, true), (4, false)] as [(UInt32, Bool)] {
      let host = try await started()
      do {
        try await host.importState([[9]], .snapshot, formatVersion: version)
        #expect(isRead)
      } catch let failure as Failure {
        #expect(!isRead && failure.code == BP_UNIMPLEMENTED)
        #expect(failure.message == "state of version \(version) is not read by this plugin, which reads 2 to 3")
      }
      try await end(host)
    }
  }

  @Test func oneExportAtATimeAndAbandoningEndsIt() async throws {
    let host = try await started(#"{"size":3000000}"#)
    let export = try host.beginExport(.snapshot, credits: 1)
    let second = await #expect(throws: Failure.self) { _ = try await host.exportState(.snapshot) }
    #expect(second?.code == BP_FAILED_PRECONDITION)
    try await host.abandonState()
    // The host cancels first; a plugin that is told to abandon need not wait for that.
    #expect(await export.value?.code == BP_CANCELLED)
    let rest = await #expect(throws: Failure.self) { _ = try await host.exportState(.rest) }
    #expect(rest?.code == BP_FAILED_PRECONDITION)
    #expect(try await host.exportState(.snapshot).flatMap { $0 }.count == 3_000_000)
    try await end(host)
  }

  @Test func stopEndsWhatWaits() async throws {
    let old = try await started(#"{"size":3000000}"#)
    let export = try old.beginExport(.snapshot, credits: 1)
    let new = try await started()
    try await new.importState([1], .snapshot, sequence: 0, isLast: false)
    try await end(old, new)
    #expect(await export.value?.code == BP_CANCELLED)
  }

  @Test func aCancelledImportEnds() async throws {
    let new = try await started(#"{"reads":"exactly"}"#)
    // Six of seven bytes: the reader holds the chunk until the next one comes.
    try await new.importState([1, 2, 3], .snapshot, sequence: 0, isLast: false)
    let waiting = try new.beginImport([4, 5, 6], .snapshot, sequence: 1, isLast: false)
    #expect(await waiting.value == nil)
    try await end(new)
  }

  @Test func recordsAreReadAsTheyWereWritten() async throws {
    let (old, new) = (try await RecordsKeeper.started(), try await RecordsKeeper.started())
    try await old.handOverState(to: new)
    let stream = try await new.exportState(.snapshot).flatMap { $0 }
    #expect(try await old.exportState(.snapshot).flatMap { $0 } == stream)
    // Damaged anywhere it is refused or read, and nobody traps.
    for place in stream.indices.prefix(200) {
      var bytes = stream
      bytes[place] ^= 0xff
      let other = try await RecordsKeeper.started()
      _ = try? await other.importState([bytes], .snapshot)
      try await end(other)
    }
    for count in [1, 28, 29, 30, 45] {
      let other = try await RecordsKeeper.started()
      let failure = await #expect(throws: Failure.self) {
        try await other.importState([Array(stream[..<count])], .snapshot)
      }
      #expect(failure?.code == BP_DATA_LOSS)
      try await end(other)
    }
    try await end(old, new)
  }
}

/// Hands over what it was given, or three records of its own.
private final class RecordsKeeper: Schema, HandsOverState {
  struct Configuration: Decodable, Sendable {}
  static let stateVersion: UInt32 = 1
  private let records = Mutex<[(String, Record?)]>([
    ("mutable://open/a", Record(data: [1, 2, 3], content: .bytes, timestampMs: 1_700_000_000_000, version: 7)),
    ("mutable://open/é", Record(data: Array(#""é""#.utf8), content: .json, timestampMs: .max, version: .max)),
    ("mutable://open/gone", nil),
    ("mutable://open/empty", Record(data: [], content: .json, timestampMs: 0, version: 0)),
  ])

  init(_ configuration: Configuration, _ context: Context) {}
  var programs: [Program] { [Program("mutable://open")] }
  func judge(_ message: Message, _ reader: JudgeReader) async throws -> Verdict { .accept }

  func exportState(_ phase: StatePhase, to writer: StateWriter) async throws {
    guard phase == .snapshot else { return }
    for (uri, record) in records.withLock({ $0 }) { try await writer.write(uri, record) }
  }

  func importState(_ phase: StatePhase, from reader: StateReader) async throws {
    if phase == .snapshot { records.withLock { $0 = [] } }
    while let (uri, record) = try await reader.nextRecord() { records.withLock { $0.append((uri, record)) } }
  }

  func abandonState() {}

  static let entry = PluginEntry(RecordsKeeper.self, id: "org.example.records", version: "1.0.0") {
    RecordsKeeper.create($0, $1, $2)
  }
  static func started() async throws -> TestHost {
    let host = try TestHost(entry: entry.pointer)
    try await host.start()
    return host
  }
}
