import BackplaneABI
import Foundation
import Synchronization
import Testing

@testable import Kernel

/// Goes with its last reference.
private final class TemporaryFolder {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent("repair-" + UUID().uuidString).path
  init() throws { try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// The repair journal's files: what is in them after a crash, and what damage does.
@Suite struct RepairJournalTests {
  private static func record(_ number: UInt64, _ data: [UInt8] = Array("\"text\"".utf8)) -> [UInt8] {
    let uri = Array("mutable://open/\(number)".utf8)
    return uri.withUnsafeBufferPointer { uri in
      data.withUnsafeBufferPointer { data in
        var put = bp_op()
        put.verb = BP_VERB_PUT
        put.content = BP_CONTENT_JSON
        put.uri = bp_view(uri)
        put.data = bp_view(data)
        var delete = bp_op()
        delete.verb = BP_VERB_DELETE
        delete.uri = bp_view(uri)
        return [put, delete].withUnsafeBufferPointer {
          MissedUnit.record($0, timestampMs: 1_000 + number, version: number)
        }
      }
    }
  }

  private static func versions(_ path: String) throws -> [UInt64] {
    var found: [UInt64] = []
    _ = try JournalSegment(opening: path) { unit, _ in found.append(unit.version) }
    return found
  }

  @Test func aUnitIsReadAsItWasWritten() throws {
    let data = Array(0...255) as [UInt8]
    let record = Self.record(7, data)
    let head = try #require(MissedUnit.head(Array(record[..<MissedUnit.headSize])))
    #expect(head.payloadSize == record.count - MissedUnit.headSize)
    let unit = try #require(MissedUnit(payload: Array(record[MissedUnit.headSize...])))
    #expect(unit.version == 7 && unit.timestampMs == 1_007 && unit.ops.count == 2)
    #expect(unit.ops[0].verb == BP_VERB_PUT && unit.ops[1].verb == BP_VERB_DELETE)
    #expect(String(decoding: unit.ops[0].uri, as: UTF8.self) == "mutable://open/7")
    #expect(Array(unit.payload[unit.ops[0].data]) == data && unit.ops[1].data.isEmpty)
  }

  @Test func noPayloadMakesItCrash() {
    let whole = Array(Self.record(1)[MissedUnit.headSize...])
    for count in 0..<whole.count { #expect(MissedUnit(payload: Array(whole[..<count])) == nil) }
    #expect(MissedUnit(payload: whole + [0]) == nil)
    var random = SystemRandomNumberGenerator()
    for _ in 0..<2_000 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      // Whatever it is taken for, it lies within its bytes.
      if let unit = MissedUnit(payload: bytes) {
        #expect(unit.ops.allSatisfy { $0.data.upperBound <= bytes.count })
      }
    }
  }

  /// A crash may cut the file anywhere: what was whole is kept, what was not is cut off, and the next is appended there.
  @Test func aTornEndIsCutOff() throws {
    let folder = try TemporaryFolder()
    defer { withExtendedLifetime(folder) {} }
    let path = "\(folder.path)/a.journal"
    do {
      let segment = try JournalSegment(creating: path)
      try segment.write([Self.record(1)])
      try segment.write([Self.record(2), Self.record(3)])
    }
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    let recordSize = Self.record(1).count
    let first = JournalSegment.firstRecord
    for count in 0...whole.count {
      try whole.prefix(count).write(to: URL(fileURLWithPath: path))
      let kept = count < first ? 0 : (count - first) / recordSize
      #expect(try Self.versions(path) == (0..<kept).map { UInt64($0) + 1 }, "\(count) bytes")
      let segment = try JournalSegment(opening: path) { _, _ in }
      try segment.write([Self.record(9)])
      #expect(try Self.versions(path).last == 9)
      #expect(try Self.versions(path).count == kept + 1)
    }
  }

  @Test func damageInTheMiddleIsNotTakenForATornEnd() throws {
    let folder = try TemporaryFolder()
    defer { withExtendedLifetime(folder) {} }
    let path = "\(folder.path)/a.journal"
    try JournalSegment(creating: path).write([Self.record(1), Self.record(2), Self.record(3)])
    var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    bytes[JournalSegment.firstRecord + Self.record(1).count + MissedUnit.headSize + 30] ^= 1
    try bytes.write(to: URL(fileURLWithPath: path))
    do {
      _ = try Self.versions(path)
      Issue.record("a damaged journal was taken for a whole one")
    } catch let problem as JournalProblem {
      #expect(problem.sentence.contains("damaged at byte"), "\(problem.sentence)")
    }
    // Nothing is lost of what there is.
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == bytes)
    try Data("something else altogether".utf8).write(to: URL(fileURLWithPath: path))
    #expect(throws: JournalProblem.self) { try Self.versions(path) }
  }

  // MARK: A backlog

  /// Calls back at once, as the registry's writer does.
  private final class Recorded: Sendable {
    private let state = Mutex((count: 0, failed: 0))
    var count: Int { state.withLock { $0.count } }
    var failed: Int { state.withLock { $0.failed } }
    func ended(_ problem: JournalProblem?) {
      state.withLock { state in
        if problem == nil { state.count += 1 } else { state.failed += 1 }
      }
    }
  }

  private static func miss(
    _ backlog: Backlog, _ number: UInt64, _ recorded: Recorded, max: Int = 1 << 20,
    _ passage: Backlog.Passage = .live
  ) {
    backlog.missed(
      record(number), timestampMs: 1_000 + number, reason: "it was away", passage, journalSizeMax: max
    ) { recorded.ended($0) }
  }

  @Test func whatIsMissedComesInOrderAndThenWritesGoThrough() throws {
    let folder = try TemporaryFolder()
    defer { withExtendedLifetime(folder) {} }
    let backlog = Backlog(slot: "far", directory: "\(folder.path)/repair/far")
    let recorded = Recorded()
    #expect(backlog.enter() == .live)
    #expect(backlog.enter() == .live)
    Self.miss(backlog, 1, recorded)
    #expect(backlog.isBehind && recorded.count == 0)
    // From here on everything takes its place at the end.
    #expect(backlog.enter() == .deferred)
    backlog.flush()
    #expect(recorded.count == 1)
    // Two calls are under way: one could overtake what is replayed.
    #expect(try backlog.nextBatch(unitsMax: 10, bytesMax: 1 << 20) == nil)
    #expect(backlog.report?.callsWaitedFor == 2)
    backlog.leave()
    backlog.leave()
    let first = try #require(try backlog.nextBatch(unitsMax: 10, bytesMax: 1 << 20))
    #expect(first.units.map(\.version) == [1])
    Self.miss(backlog, 2, recorded, .deferred)
    backlog.consume(first)
    #expect(!backlog.level(), "one is queued")
    backlog.flush()
    let second = try #require(try backlog.nextBatch(unitsMax: 10, bytesMax: 1 << 20))
    #expect(second.units.map(\.version) == [2])
    backlog.consume(second)
    #expect(try #require(try backlog.nextBatch(unitsMax: 10, bytesMax: 1 << 20)).isEmpty)
    #expect(backlog.enter() == .deferred)
    #expect(!backlog.level(), "one may still be acknowledged")
    backlog.release()
    #expect(backlog.level())
    #expect(backlog.enter() == .live)
    #expect(!backlog.isBehind && backlog.report == nil)
    #expect(try FileManager.default.contentsOfDirectory(atPath: backlog.directory).isEmpty)
    let replayed = backlog.replayed.load(ordering: .relaxed)
    #expect(replayed == 2)
  }

  @Test func anotherProcessFindsWhatIsLeft() throws {
    let folder = try TemporaryFolder()
    defer { withExtendedLifetime(folder) {} }
    let directory = "\(folder.path)/repair/far"
    let recorded = Recorded()
    do {
      let backlog = Backlog(slot: "far", directory: directory)
      for number in 1...5 as ClosedRange<UInt64> {
        Self.miss(backlog, number, recorded)
        backlog.flush()
      }
      #expect(recorded.count == 5)
    }
    let backlog = Backlog(slot: "far", directory: directory)
    backlog.hold()
    #expect(backlog.enter() == .deferred)
    // Written by this process before it has looked at what the other one left: it comes after that.
    Self.miss(backlog, 6, recorded, .deferred)
    backlog.flush()
    backlog.load(try FileManager.default.contentsOfDirectory(atPath: directory))
    var versions: [UInt64] = []
    while let batch = try backlog.nextBatch(unitsMax: 2, bytesMax: 1 << 20), !batch.isEmpty {
      #expect(batch.units.count <= 2)
      versions += batch.units.map(\.version)
      backlog.consume(batch)
    }
    #expect(versions == [1, 2, 3, 4, 5, 6])
    #expect(backlog.level())
  }

  @Test func aFullJournalSaysSoAndWhatIsInItIsStillReplayed() throws {
    let folder = try TemporaryFolder()
    defer { withExtendedLifetime(folder) {} }
    let directory = "\(folder.path)/repair/far"
    let backlog = Backlog(slot: "far", directory: directory)
    let recorded = Recorded()
    let max = Self.record(1).count * 2
    for number in 1...4 as ClosedRange<UInt64> { Self.miss(backlog, number, recorded, max: max) }
    backlog.flush()
    #expect(recorded.count == 4)
    let report = try #require(backlog.report)
    #expect(report.units == 2 && report.bytes == max)
    #expect(report.incomplete?.contains("repair.journal_size_bytes_max is \(max) bytes") == true)
    let batch = try #require(try backlog.nextBatch(unitsMax: 10, bytesMax: 1 << 20))
    #expect(batch.units.map(\.version) == [1, 2])
    backlog.consume(batch)
    // Writes go through again, but it is not read from: also not after a restart.
    #expect(backlog.level())
    #expect(backlog.enter() == .live && backlog.isBehind)
    #expect(backlog.report?.phase == .incomplete)
    let next = Backlog(slot: "far", directory: directory)
    next.load(try FileManager.default.contentsOfDirectory(atPath: directory))
    #expect(next.isBehind && next.report?.incomplete == report.incomplete)
    #expect(next.accept())
    #expect(!next.isBehind && !next.accept())
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)
  }

  @Test func whatCannotBeRecordedIsSaid() throws {
    let folder = try TemporaryFolder()
    defer { withExtendedLifetime(folder) {} }
    // A file stands where the directory should be.
    try Data().write(to: URL(fileURLWithPath: "\(folder.path)/repair"))
    let backlog = Backlog(slot: "far", directory: "\(folder.path)/repair/far")
    let recorded = Recorded()
    Self.miss(backlog, 1, recorded)
    backlog.flush()
    #expect(recorded.failed == 1)
    // It was not acknowledged, so nothing is missing.
    #expect(backlog.level())
    #expect(!backlog.isBehind)
  }

  @Test func whatArrivedByItselfIsNotReplayed() throws {
    let folder = try TemporaryFolder()
    defer { withExtendedLifetime(folder) {} }
    let backlog = Backlog(slot: "far", directory: "\(folder.path)/repair/far")
    let recorded = Recorded()
    for number in 1...3 as ClosedRange<UInt64> { Self.miss(backlog, number, recorded) }
    backlog.flush()
    backlog.arrived(2)
    let batch = try #require(try backlog.nextBatch(unitsMax: 10, bytesMax: 1 << 20))
    #expect(batch.units.map(\.version) == [1, 3])
    backlog.consume(batch)
    #expect(backlog.level())
  }

  @Test func aLongJournalIsSeveralFilesAndEachGoesWhenItIsDone() throws {
    let folder = try TemporaryFolder()
    defer { withExtendedLifetime(folder) {} }
    let backlog = Backlog(slot: "far", directory: "\(folder.path)/repair/far")
    let recorded = Recorded()
    let big = [UInt8](repeating: 0x61, count: 1 << 20)
    for number in 1...30 as ClosedRange<UInt64> {
      backlog.missed(
        Self.record(number, big), timestampMs: number, reason: "", .live, journalSizeMax: 1 << 30
      ) { recorded.ended($0) }
      backlog.flush()
    }
    func files() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: backlog.directory).count }
    let most = try files()
    #expect(most >= 3)
    var versions: [UInt64] = []
    while let batch = try backlog.nextBatch(unitsMax: 100, bytesMax: 4 << 20), !batch.isEmpty {
      versions += batch.units.map(\.version)
      backlog.consume(batch)
    }
    #expect(versions == Array(1...30))
    #expect(try files() == 1)
    #expect(backlog.level())
    #expect(try files() == 0)
  }
}
