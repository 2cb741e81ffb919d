import BackplaneABI
import Synchronization
import Testing

@testable import Kernel

struct CallSlabTests {
  private final class Fixture {
    let node = WalkNode()
    let instance: Instance
    let other: Instance

    init() {
      instance = node.instance("one", .backend, ScriptedBackend(.direct))
      other = node.instance("two", .backend, ScriptedBackend(.direct))
    }
    deinit { _ = node.shutDown() }
  }

  private final class Counter: Sendable {
    let calls = Atomic<Int>(0)
    let lastCode = Atomic<UInt32>(.max)
    var pointer: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }
    static let handler: CallHandler = { context, result in
      let counter = Unmanaged<Counter>.fromOpaque(context!).takeUnretainedValue()
      counter.calls.add(1, ordering: .relaxed)
      counter.lastCode.store(result!.pointee.code, ordering: .relaxed)
    }
  }

  private static func complete(
    _ slab: CallSlab, _ handle: bp_instance, _ token: bp_token, _ code: bp_code = BP_OK
  ) -> Bool {
    withUnsafePointer(to: ScriptedPlugin.result(code, bp_result.self)) { slab.complete(handle, token, $0) }
  }

  @Test func aTokenIsCompletedOnceAndByItsOwnInstance() {
    let (fixture, slab, counter) = (Fixture(), CallSlab(capacity: 4), Counter())
    let (mine, other) = (fixture.instance, fixture.other)
    func open() -> bp_token {
      slab.open(
        mine, .apply, context: counter.pointer, handler: Counter.handler, startNs: Clock.monotonicNs())
    }
    let token = open()
    #expect(token != 0)
    #expect(mine.inFlight.load(ordering: .acquiring) == 1)
    #expect(slab.openTokens(of: mine) == [token])
    // Foreign, unknown, and out of every range.
    #expect(!CallSlabTests.complete(slab, other.handle, token))
    #expect(!CallSlabTests.complete(slab, mine.handle, 0))
    #expect(!CallSlabTests.complete(slab, mine.handle, token + 1))
    #expect(!CallSlabTests.complete(slab, mine.handle, .max))
    #expect(counter.calls.load(ordering: .acquiring) == 0)
    #expect(CallSlabTests.complete(slab, mine.handle, token, BP_NOT_FOUND))
    #expect(counter.lastCode.load(ordering: .acquiring) == BP_NOT_FOUND)
    #expect(mine.inFlight.load(ordering: .acquiring) == 0)
    // Twice, and stale: the record serves another call now, the old token does not reach it.
    #expect(!CallSlabTests.complete(slab, mine.handle, token))
    let next = open()
    #expect(next != token)
    #expect(!CallSlabTests.complete(slab, mine.handle, token))
    #expect(slab.openTokens(of: mine) == [next])
    // Revoked by the host: a late completion is ignored.
    withUnsafePointer(to: ScriptedPlugin.result(BP_UNAVAILABLE, bp_result.self)) { #expect(slab.revoke(next, $0)) }
    #expect(!CallSlabTests.complete(slab, mine.handle, next))
    #expect(counter.calls.load(ordering: .acquiring) == 2)
    #expect(slab.ignoredCompletions.load(ordering: .acquiring) == 7)
    #expect(slab.openTokens(of: mine).isEmpty)
    // A chunk for a call that has ended, or has no stream.
    var chunk = bp_chunk(size: UInt32(MemoryLayout<bp_chunk>.size), count: 1, bytes: .empty)
    #expect(slab.emit(mine.handle, next, &chunk) == BP_CLOSED)
    let last = open()
    #expect(slab.emit(mine.handle, last, &chunk) == BP_UNIMPLEMENTED)
    #expect(slab.emit(other.handle, last, &chunk) == BP_CLOSED)
    #expect(CallSlabTests.complete(slab, mine.handle, last))
  }

  @Test func aFullSlabGivesNoToken() {
    let (fixture, slab, counter) = (Fixture(), CallSlab(capacity: 3), Counter())
    func open() -> bp_token {
      slab.open(
        fixture.instance, .read, context: counter.pointer, handler: Counter.handler, startNs: Clock.monotonicNs())
    }
    let tokens = (0..<3).map { _ in open() }
    #expect(Set(tokens).count == 3 && !tokens.contains(0))
    #expect(open() == 0)
    #expect(fixture.instance.inFlight.load(ordering: .acquiring) == 3)
    #expect(CallSlabTests.complete(slab, fixture.instance.handle, tokens[1]))
    let again = open()
    #expect(again != 0 && !tokens.contains(again))
    #expect(open() == 0)
    for token in [tokens[0], tokens[2], again] {
      #expect(CallSlabTests.complete(slab, fixture.instance.handle, token))
    }
  }

  /// Eight threads open calls and leave the tokens in boxes that others empty, so that most calls end on another thread
  /// than they began on; every token is completed twice, by two threads at once now and then.
  @Test func noCompletionIsLostOrDoubled() {
    let (fixture, slab) = (Fixture(), CallSlab(capacity: 64))
    let (threads, calls) = (8, 100_000)
    let counter = Counter()
    let completed = Atomic<Int>(0)
    let opened = Atomic<Int>(0)
    let boxes = Boxes(16)
    let (handle, instance) = (fixture.instance.handle, fixture.instance)
    let end: @Sendable (bp_token) -> Void = { token in
      guard token != 0 else { return }
      let first = CallSlabTests.complete(slab, handle, token)
      let second = CallSlabTests.complete(slab, handle, token)
      completed.add((first ? 1 : 0) + (second ? 1 : 0), ordering: .relaxed)
    }
    onThreads(threads) { thread in
      var random = UInt64(thread + 1)
      for _ in 0..<calls {
        random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let token = slab.open(
          instance, .read, context: counter.pointer, handler: Counter.handler, startNs: Clock.monotonicNs())
        guard token != 0 else {
          // Full for the moment: never with 16 boxes and 8 threads.
          continue
        }
        opened.add(1, ordering: .relaxed)
        let earlier = boxes.swap(Int(random >> 60), token)
        end(earlier)
        // Somebody else may be completing this one right now.
        if random >> 40 & 7 == 0 {
          completed.add(CallSlabTests.complete(slab, handle, token) ? 1 : 0, ordering: .relaxed)
        }
      }
    }
    for index in 0..<16 { end(boxes.swap(index, 0)) }
    #expect(opened.load(ordering: .acquiring) == threads * calls)
    #expect(completed.load(ordering: .acquiring) == threads * calls)
    #expect(counter.calls.load(ordering: .acquiring) == threads * calls)
    #expect(instance.inFlight.load(ordering: .acquiring) == 0)
    #expect(instance.statistics.snapshot(.read).count == UInt64(threads * calls))
    #expect(slab.openTokens(of: instance).isEmpty)
    // The list of free records is whole.
    let all = (0..<64).map { _ in
      slab.open(instance, .read, context: counter.pointer, handler: Counter.handler, startNs: Clock.monotonicNs())
    }
    #expect(Set(all).count == 64 && !all.contains(0))
    #expect(
      slab.open(instance, .read, context: counter.pointer, handler: Counter.handler, startNs: Clock.monotonicNs()) == 0)
    for token in all { #expect(CallSlabTests.complete(slab, handle, token)) }
  }

  private final class Boxes: @unchecked Sendable {
    // @unchecked: atomics in plain memory, allocated once.
    private let boxes: UnsafeMutablePointer<Atomic<UInt64>>
    private let count: Int
    init(_ count: Int) {
      self.count = count
      boxes = .allocate(capacity: count)
      for index in 0..<count { (boxes + index).initialize(to: Atomic(0)) }
    }
    deinit { boxes.deallocate() }
    func swap(_ index: Int, _ token: bp_token) -> bp_token {
      boxes[index].exchange(token, ordering: .acquiringAndReleasing)
    }
  }

  @Test func fiveSlowDirectCallsWithinAMinuteDemoteTheOperation() {
    let (fixture, slab, counter) = (Fixture(), CallSlab(capacity: 4), Counter())
    let instance = fixture.instance
    func call(_ operation: Operation, tookNs: UInt64) {
      let token = slab.open(
        instance, operation, context: counter.pointer, handler: Counter.handler,
        startNs: Clock.monotonicNs() - tookNs)
      #expect(CallSlabTests.complete(slab, instance.handle, token))
    }
    for _ in 0..<20 { call(.read, tookNs: 0) }
    for _ in 0..<4 { call(.read, tookNs: 2_000_000) }
    #expect(instance.directness.mode(.read) == BP_MODE_DIRECT)
    #expect(instance.demotedOperations.isEmpty)
    call(.read, tookNs: 2_000_000)
    #expect(instance.directness.mode(.read) == BP_MODE_BLOCKING)
    #expect(instance.demotedOperations == [.read])
    // Others keep their promise.
    #expect(instance.directness.mode(.apply) == BP_MODE_DIRECT)
    #expect(instance.directness.slowCalls.load(ordering: .acquiring) >= 5)
  }

  @Test func slowCallsThatAreFarApartDemoteNothing() {
    let directness = Directness()
    directness.declare(.scan, BP_MODE_DIRECT)
    let apartNs = Directness.windowNs / 4 + 1
    for index in 1...20 { #expect(!directness.wasSlow(.scan, nowNs: UInt64(index) * apartNs)) }
    #expect(directness.mode(.scan) == BP_MODE_DIRECT)
    // The fifth within one window does it, and only once.
    let nowNs = 100 * apartNs
    #expect(
      (0..<6).map { directness.wasSlow(.scan, nowNs: nowNs + UInt64($0)) } == [false, false, false, false, true, false])
    // What was declared asynchronous is never demoted.
    let patient = Directness()
    #expect((0..<9).allSatisfy { _ in !patient.wasSlow(.apply, nowNs: 1) })
  }
}
