import BackplaneABI
import Synchronization
import Testing

@testable import Kernel

struct StatisticsTests {
  @Test func bucketsDoubleFrom256Nanoseconds() {
    #expect([0, 1, 255].map { Statistics.bucket($0) } == [0, 0, 0])
    #expect([256, 511, 512, 1023, 1024].map { Statistics.bucket($0) } == [1, 1, 2, 2, 3])
    for bucket in 0..<Statistics.bucketCount - 1 {
      // A bound is the first value of the next bucket.
      let boundNs = UInt64(256) << UInt64(bucket)
      #expect(Statistics.bucket(boundNs - 1) == bucket)
      #expect(Statistics.bucket(boundNs) == bucket + 1)
      #expect(Statistics.boundSeconds(bucket) == Double(boundNs) / 1e9)
    }
    #expect(Statistics.bucket(1_000_000_000) == 22 && Statistics.bucket(2_000_000_000) == 23)
    #expect(Statistics.bucket(.max) == Statistics.bucketCount - 1)
  }

  @Test func operationsAndCodesAreCountedApart() {
    let statistics = Statistics()
    for _ in 0..<3 { statistics.record(.read, BP_OK, elapsedNs: 300) }
    statistics.record(.read, BP_NOT_FOUND, elapsedNs: 5_000_000_000)
    statistics.record(.apply, 4_000_000_000, elapsedNs: 0)
    let reads = statistics.snapshot(.read)
    #expect(reads.count == 4 && reads.buckets[1] == 3 && reads.buckets[23] == 1)
    #expect(reads.codes[Int(BP_OK)] == 3 && reads.codes[Int(BP_NOT_FOUND)] == 1)
    #expect(abs(reads.sumSeconds - 5.0000009) < 1e-9)
    // A code that nobody knows is in the last place, not beyond the table.
    #expect(statistics.snapshot(.apply).codes[Statistics.codeCount - 1] == 1)
    #expect(statistics.snapshot(.scan).count == 0 && statistics.snapshot(.judge).count == 0)
  }
}

struct WorkerPoolTests {
  @Test func theQueueIsBoundedAndRunsToItsEnd() {
    let pool = WorkerPool(name: "test", threads: 1, queueMax: 3)
    let (started, gate) = (Promise<Bool>(), Promise<Bool>())
    let ran = Atomic<Int>(0)
    #expect(
      pool.submit {
        started.set(true)
        _ = gate.get()
      })
    #expect(started.soon() == true)
    for _ in 0..<3 { #expect(pool.submit { ran.add(1, ordering: .relaxed) }) }
    #expect(!pool.submit { ran.add(100, ordering: .relaxed) })
    gate.set(true)
    pool.shutDown()
    #expect(ran.load(ordering: .acquiring) == 3)
    #expect(!pool.submit { ran.add(100, ordering: .relaxed) })
  }

  private final class Token: Sendable {}

  @Test func aJobIsLetGoWhenItHasRun() {
    let pool = WorkerPool(name: "test", threads: 1, queueMax: 100)
    let (first, second, third) = (Promise<Bool>(), Promise<Bool>(), Promise<Bool>())
    let inThird = Promise<Bool>()
    weak var seen: Token?
    do {
      let token = Token()
      seen = token
      _ = pool.submit { _ = first.get() }
      _ = pool.submit { withExtendedLifetime(token) { _ = second.get() } }
    }
    _ = pool.submit {
      inThird.set(true)
      _ = third.get()
    }
    // The queue is not empty before this one has run.
    _ = pool.submit {}
    #expect(seen != nil)
    first.set(true)
    second.set(true)
    #expect(inThird.soon() == true)
    #expect(seen == nil)
    third.set(true)
    pool.shutDown()
  }

  @Test func everyJobRunsOnceAndInOrderOnOneThread() {
    let pool = WorkerPool(name: "test", threads: 1, queueMax: 10_000)
    let order = Mutex<[Int]>([])
    for index in 0..<5000 { #expect(pool.submit { order.withLock { $0.append(index) } }) }
    pool.shutDown()
    #expect(order.withLock { $0 } == Array(0..<5000))
  }
}

struct VersionClockTests {
  @Test func versionsRiseAndAreUniqueAcrossThreads() {
    let clock = VersionClock()
    let all = Mutex<[UInt64]>([])
    onThreads(8) { _ in
      var mine: [UInt64] = []
      for _ in 0..<20_000 { mine.append(clock.next(nowMs: Clock.wallMs())) }
      if !zip(mine, mine.dropFirst()).allSatisfy({ $0 < $1 }) { Issue.record("a version did not rise") }
      all.withLock { $0 += mine }
    }
    #expect(Set(all.withLock { $0 }).count == 160_000)
    // A clock that jumps back does not take them back.
    let last = all.withLock { $0.max()! }
    #expect(clock.next(nowMs: 0) > last)
    #expect(VersionClock().next(nowMs: 5) == 5 << 20)
  }
}

struct RequestTableTests {
  private final class Request: PendingRequest, @unchecked Sendable {
    // @unchecked: written in init only.
    let deadlineNs: UInt64
    let caller: Instance
    let givenUp = Inbox<bp_code>()
    init(_ caller: Instance, deadlineNs: UInt64 = 0) {
      self.caller = caller
      self.deadlineNs = deadlineNs
    }
    func giveUp(_ code: bp_code, _ message: StaticString) { givenUp.put(code) }
  }

  @Test func aDeadlineGivesARequestUpOnceAndTakesItOut() {
    let node = WalkNode()
    let table = RequestTable()
    let nowNs = Clock.monotonicNs()
    let past = Request(node.caller, deadlineNs: nowNs - 1)
    let soon = Request(node.caller, deadlineNs: nowNs + 30_000_000)
    let never = Request(node.caller)
    let far = Request(node.caller, deadlineNs: nowNs + 3_600_000_000_000)
    let tokens = [past, soon, never, far].map { table.add($0) }
    #expect(Set(tokens).count == 4)
    #expect(past.givenUp.next() == BP_DEADLINE_EXCEEDED)
    #expect(soon.givenUp.next() == BP_DEADLINE_EXCEEDED)
    #expect(Clock.monotonicNs() >= nowNs + 30_000_000)
    // Taken out although the requests themselves did not ask for it.
    #expect(eventually { table.count == 2 })
    table.remove(tokens[3])
    #expect(table.count == 1)
    table.shutDown()
    #expect(node.shutDown())
  }

  @Test func onlyTheCallerCancels() {
    let node = WalkNode()
    let table = RequestTable()
    let stranger = node.instance("stranger", .transport, ScriptedTransport())
    let (first, second, other) = (Request(node.caller), Request(node.caller), Request(stranger))
    let token = table.add(first)
    _ = table.add(second)
    _ = table.add(other)
    table.cancel(stranger, token)
    table.cancel(node.caller, token + 17)
    #expect(table.count == 3)
    table.cancel(node.caller, token)
    #expect(first.givenUp.next() == BP_CANCELLED)
    #expect(table.count == 2)
    table.cancelAll(of: node.caller)
    #expect(second.givenUp.next() == BP_CANCELLED)
    #expect(table.count == 1)
    table.shutDown()
    _ = node.shutDown()
  }
}
