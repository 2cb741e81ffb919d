import BackplaneABI
import Foundation
import Testing

@testable import Kernel

/// Goes with its last reference.
private final class TemporaryFolder {
  let path = FileManager.default.temporaryDirectory.appendingPathComponent("peers-" + UUID().uuidString).path
  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// One generator for a whole test, so that a failure can be had again.
private struct Seeded: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state ^ state >> 29
  }
}

/// The queue of one peer: order, bounds, files.
@Suite struct PushQueueTests {
  private static func record(_ number: UInt64, _ uris: [String] = ["mutable://open/a"], bytes: Int = 8) -> [UInt8] {
    let arena = Arena()
    let data = [UInt8](repeating: 0x31, count: bytes).withUnsafeBufferPointer { arena.copy(bp_view($0)) }
    let ops = uris.map { uri in
      var op = bp_op()
      op.verb = BP_VERB_PUT
      op.content = BP_CONTENT_JSON
      op.uri = Array(uri.utf8).withUnsafeBufferPointer { arena.copy(bp_view($0)) }
      op.data = data
      return op
    }
    return withExtendedLifetime(arena) {
      ops.withUnsafeBufferPointer { MissedUnit.record($0, timestampMs: 1_000 + number, version: number) }
    }
  }

  private static let log = KernelLog(NodeConfiguration.Log(level: .error, format: .text))

  private static func settings(units: Int = 1_000, bytes: Int = 1 << 20, durable: Bool = false) -> PeerSettings.Push {
    var push = PeerSettings.Push()
    (push.queueUnitsMax, push.queueSizeBytesMax, push.isDurable) = (units, bytes, durable)
    return push
  }

  private func queue(_ settings: PeerSettings.Push, in directory: String = "") -> PushQueue {
    let queue = PushQueue(slot: "peer", directory: directory)
    queue.configure(settings, Self.log)
    return queue
  }

  private func versions(_ queue: PushQueue) throws -> [UInt64] {
    let units = queue.take(unitsMax: .max, bytesMax: .max)
    defer { queue.giveBack(units) }
    return try units.map { try queue.load($0).version }
  }

  @Test func theOldestGoesWhenItIsFull() throws {
    let queue = queue(Self.settings(units: 3))
    for number in 1...5 { queue.put(Self.record(UInt64(number)), timestampMs: 1) }
    #expect(try versions(queue) == [3, 4, 5])
    #expect(queue.report.dropped == 2 && queue.report.droppedSinceLevel == 2)
    // By size too, and what is larger than all of it does not come in.
    let size = Self.record(1, bytes: 1_000).count
    let narrow = self.queue(Self.settings(bytes: 3 * size))
    for number in 1...5 { narrow.put(Self.record(UInt64(number), bytes: 1_000), timestampMs: 1) }
    #expect(try versions(narrow) == [3, 4, 5])
    narrow.put(Self.record(6, bytes: 10_000), timestampMs: 1)
    #expect(try versions(narrow) == [3, 4, 5])
    #expect(narrow.report.dropped == 3 && narrow.report.bytes == 3 * size)
    // What is level is said to be.
    for unit in narrow.take(unitsMax: .max, bytesMax: .max) { narrow.done(unit, .pushed) }
    #expect(narrow.report.droppedSinceLevel == 0 && narrow.report.units == 0 && narrow.report.pushed == 3)
  }

  @Test func aQueueWithoutASlotTakesNothingAndKeepsWhatItHas() throws {
    let queue = queue(Self.settings())
    queue.put(Self.record(1), timestampMs: 1)
    queue.configure(nil, Self.log)
    queue.put(Self.record(2), timestampMs: 1)
    #expect(queue.report.units == 1 && queue.take(unitsMax: 10, bytesMax: .max).isEmpty)
    queue.configure(Self.settings(), Self.log)
    #expect(try versions(queue) == [1])
    #expect(queue.accept() && queue.report.units == 0 && !queue.accept())
  }

  /// Whatever is taken, given back, done and put in between: what comes out is in order, and everything once.
  @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64]) func orderHolds(_ seed: UInt64) throws {
    var random = Seeded(state: seed)
    let folder = TemporaryFolder()
    try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
    let isDurable = seed % 2 == 0
    let directory = isDurable ? folder.path + "/peers/p" : ""
    try FileManager.default.createDirectory(atPath: folder.path + "/peers", withIntermediateDirectories: true)
    let queue = queue(Self.settings(units: 100_000, bytes: 1 << 30, durable: isDurable), in: directory)
    var (next, expected) = (UInt64(1), UInt64(1))
    var taken: [PushQueue.Unit] = []
    for _ in 0..<2_000 {
      switch Int.random(in: 0..<4, using: &random) {
      case 0, 1:
        for _ in 0..<Int.random(in: 1...5, using: &random) {
          queue.put(Self.record(next, bytes: Int.random(in: 1...200, using: &random)), timestampMs: next)
          next += 1
        }
      case 2:
        let more = queue.take(unitsMax: Int.random(in: 1...20, using: &random), bytesMax: .max)
        taken += more
      default:
        // The first few are done, the others wait again.
        let done = Int.random(in: 0...taken.count, using: &random)
        for unit in taken.prefix(done) {
          #expect(try queue.load(unit).version == expected)
          expected += 1
          queue.done(unit, .pushed)
        }
        queue.giveBack(Array(taken.dropFirst(done)).shuffled(using: &random))
        taken = []
      }
    }
    queue.giveBack(taken)
    #expect(try versions(queue) == Array(expected..<next))
    #expect(queue.report.pushed == expected - 1 && queue.report.units == Int(next - expected))
    guard isDurable else { return }
    // Another process finds what is not done, and nothing else.
    let other = self.queue(Self.settings(units: 100_000, bytes: 1 << 30, durable: true), in: directory)
    other.load(try FileManager.default.contentsOfDirectory(atPath: directory), Self.log)
    #expect(try versions(other) == Array(expected..<next))
    withExtendedLifetime(folder) {}
  }

  @Test func whatAnotherProcessLeftComesFirst() throws {
    let folder = TemporaryFolder()
    let directory = folder.path + "/p"
    try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
    let settings = Self.settings(durable: true)
    do {
      let before = queue(settings, in: directory)
      for number in 1...10 { before.put(Self.record(UInt64(number)), timestampMs: 1) }
      // Out of order: the third is done, the first is not.
      let units = before.take(unitsMax: 4, bytesMax: .max)
      before.done(units[2], .pushed)
      before.done(units[1], .pushed)
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: directory)
    let queue = queue(settings, in: directory)
    queue.put(Self.record(11), timestampMs: 1)
    queue.load(names, Self.log)
    #expect(try versions(queue) == Array(1...11))
    for unit in queue.take(unitsMax: .max, bytesMax: .max) { queue.done(unit, .pushed) }
    let last = self.queue(settings, in: directory)
    last.load(try FileManager.default.contentsOfDirectory(atPath: directory), Self.log)
    #expect(last.report.units == 0)
    withExtendedLifetime(folder) {}
  }

  /// A file that a machine's end has damaged gives what is whole before the damage, and the queue goes on.
  @Test func damageCutsAFileAndNothingElse() throws {
    let folder = TemporaryFolder()
    let directory = folder.path + "/p"
    try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: true)
    let settings = Self.settings(durable: true)
    let size = Self.record(1).count
    do {
      let before = queue(settings, in: directory)
      for number in 1...10 { before.put(Self.record(UInt64(number)), timestampMs: 1) }
    }
    let name = try #require(
      try FileManager.default.contentsOfDirectory(atPath: directory).first { $0.hasSuffix(".journal") })
    let path = "\(directory)/\(name)"
    var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    bytes[JournalSegment.firstRecord + 6 * size + 20] ^= 0xff
    try bytes.write(to: URL(fileURLWithPath: path))
    let queue = queue(settings, in: directory)
    queue.load([name], Self.log)
    #expect(try versions(queue) == Array(1...6))
    // Any bytes at all: no crash, and nothing that was never put.
    var random = Seeded(state: 42)
    for _ in 0..<200 {
      var noise = bytes
      for _ in 0..<Int.random(in: 1...8, using: &random) {
        noise[Int.random(in: 0..<noise.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      try noise.prefix(Int.random(in: 0...noise.count, using: &random)).write(to: URL(fileURLWithPath: path))
      let found = self.queue(settings, in: directory)
      found.load([name], Self.log)
      #expect(try versions(found).allSatisfy { (1...10).contains($0) })
      try? FileManager.default.removeItem(atPath: path + ".damaged")
    }
    withExtendedLifetime(folder) {}
  }
}

/// Which units may go out, and how often a peer is tried.
@Suite struct PushOrderTests {
  @Test(arguments: [11, 12, 13] as [UInt64]) func unitsOfOneRecordGoOneAfterTheOther(_ seed: UInt64) {
    var random = Seeded(state: seed)
    var order = PushOrder()
    var waiting: [Int64: Set<[UInt8]>] = [:]
    var inFlight: [Int64: Set<[UInt8]>] = [:]
    var sent: [[UInt8]: Int64] = [:]
    for sequence in 1...3_000 as ClosedRange<Int64> {
      let uris = Set(
        (0..<Int.random(in: 1...3, using: &random)).map { _ in [UInt8.random(in: 0..<20, using: &random)] })
      order.enter(sequence, uris)
      waiting[sequence] = uris
      for (candidate, uris) in waiting.sorted(by: { $0.key < $1.key }) where inFlight.count < 8 {
        guard order.isFirst(candidate, uris) else { continue }
        for uri in uris {
          #expect(sent[uri] ?? 0 < candidate)
          #expect(!inFlight.values.contains { $0.contains(uri) })
          sent[uri] = candidate
        }
        inFlight[candidate] = uris
        waiting[candidate] = nil
      }
      while inFlight.count > 4, let done = inFlight.keys.randomElement(using: &random) {
        order.leave(done, inFlight.removeValue(forKey: done)!)
      }
    }
    for (sequence, uris) in inFlight.merging(waiting, uniquingKeysWith: { $0.union($1) }) {
      order.leave(sequence, uris)
    }
    #expect(order.isEmpty)
  }

  @Test func anOutageIsProbedAndNotHammered() {
    var pace = PushPace()
    #expect(pace.isUp)
    let second: UInt64 = 1_000_000_000
    var now = 100 * second
    let isNews = pace.failed(nowNs: now, startNs: now - 5, retryAfterMs: 0)
    #expect(isNews && !pace.isUp && pace.resumeNs == now + PushPace.pauseNsMin)
    // Those that were on their way say nothing new.
    let moreNews = (0..<50).count { _ in pace.failed(nowNs: now + 10, startNs: now - 1, retryAfterMs: 0) }
    #expect(moreNews == 0 && pace.resumeNs == now + PushPace.pauseNsMin)
    var attempts = 0
    let end = now + 60 * second
    while now < end {
      now = pace.resumeNs
      let isNews = pace.failed(nowNs: now, startNs: now, retryAfterMs: 0)
      #expect(!isNews)
      attempts += 1
    }
    #expect(attempts < 25 && pace.resumeNs - now == PushPace.pauseNsMax)
    now = pace.resumeNs
    _ = pace.failed(nowNs: now, startNs: now, retryAfterMs: 20_000)
    #expect(pace.resumeNs == now + 20 * second)
    let (wasAway, isAway) = (pace.succeeded(), pace.succeeded())
    #expect(wasAway && pace.isUp && !isAway)
  }

  @Test func aPeerThatDoesNotAnswerReadsIsLeftAlone() {
    let record = PullRecord()
    var now: UInt64 = 1_000_000_000
    for _ in 0..<PullRecord.failuresMax {
      #expect(record.mayAsk(nowNs: now))
      record.ended(false, nowNs: now)
    }
    #expect(!record.mayAsk(nowNs: now) && record.isPaused)
    now += PullRecord.restNsMin
    // One at a time finds out.
    #expect(record.mayAsk(nowNs: now) && !record.mayAsk(nowNs: now))
    record.ended(nil, nowNs: now)
    #expect(record.mayAsk(nowNs: now))
    record.ended(false, nowNs: now)
    #expect(!record.mayAsk(nowNs: now + PullRecord.restNsMin))
    now += 2 * PullRecord.restNsMin
    #expect(record.mayAsk(nowNs: now))
    record.ended(true, nowNs: now)
    #expect(!record.isPaused && record.mayAsk(nowNs: now) && record.mayAsk(nowNs: now))
  }
}
