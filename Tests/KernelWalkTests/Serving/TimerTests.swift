import BackplaneABI
import Synchronization
import Testing

@testable import Kernel

/// backplane.timer/1 in front of the kernel's own thread.
@Suite struct TimerTests {
  /// What a timer of a test ended with, and when.
  private final class Bell: Sendable {
    let ended = Inbox<(code: bp_code, atNs: UInt64)>()

    var completion: bp_completion {
      bp_completion(
        context: Unmanaged.passRetained(self).toOpaque(),
        complete: { context, result in
          // Kept for ever, so that a second end would be seen instead of crashing.
          let bell = Unmanaged<Bell>.fromOpaque(context!).takeUnretainedValue()
          bell.ended.put((result!.pointee.code, Clock.monotonicNs()))
        }, chunk: nil)
    }
  }

  private func after(_ instance: Instance, _ dueNs: UInt64, _ bell: Bell) -> bp_token {
    TimerTable.pointer.pointee.after(instance.handle, dueNs, bell.completion)
  }

  @Test func eachComesWhenItIsDueAndNotBefore() throws {
    let node = WalkNode()
    let nowNs = Clock.monotonicNs()
    let dues = [0, nowNs, nowNs + 80_000_000, nowNs + 40_000_000, nowNs + 3_600_000_000_000]
    let bells = dues.map { _ in Bell() }
    let tokens = zip(dues, bells).map { after(node.caller, $0, $1) }
    #expect(Set(tokens).count == tokens.count && tokens.allSatisfy { Timers.isOurs($0) })
    for (due, bell) in zip(dues.dropLast(), bells) {
      let end = try #require(bell.ended.next())
      #expect(end.code == BP_OK && end.atNs >= due)
    }
    #expect(eventually { node.context.timers.count == 1 && node.caller.outgoing.load(ordering: .relaxed) == 1 })
    // The last goes with its instance.
    #expect(node.shutDown())
    #expect(bells[4].ended.takeAll().map(\.code) == [BP_CANCELLED])
    #expect(bells[0..<4].allSatisfy { $0.ended.takeAll().isEmpty })
  }

  @Test func itsOwnerAloneGivesItUpAndThenItHasEnded() throws {
    let node = WalkNode()
    let stranger = node.instance("stranger", .transport, ScriptedTransport())
    let bell = Bell()
    let token = after(node.caller, Clock.monotonicNs() + 3_600_000_000_000, bell)
    HostTable.pointer.pointee.cancel(stranger.handle, token)
    HostTable.pointer.pointee.cancel(node.caller.handle, token + 1)
    #expect(node.context.timers.count == 1)
    HostTable.pointer.pointee.cancel(node.caller.handle, token)
    HostTable.pointer.pointee.cancel(node.caller.handle, token)
    #expect(bell.ended.takeAll().map(\.code) == [BP_CANCELLED])
    #expect(node.context.timers.count == 0 && node.caller.timers.load(ordering: .relaxed) == 0)
    #expect(node.shutDown())
  }

  @Test func anInstanceHasSoManyAndNoMore() {
    let node = WalkNode()
    let other = node.instance("other", .transport, ScriptedTransport())
    let far = Clock.monotonicNs() + 3_600_000_000_000
    let bells = (0..<Timers.instanceTimersMax).map { _ in Bell() }
    let tokens = bells.map { after(node.caller, far, $0) }
    #expect(!tokens.contains(0))
    let refused = Bell()
    #expect(after(node.caller, far, refused) == 0)
    #expect(refused.ended.takeAll().map(\.code) == [BP_RESOURCE_EXHAUSTED])
    #expect(node.context.timers.refused.load(ordering: .relaxed) == 1)
    // Another's are its own, and a place that is free again is given again.
    #expect(after(other, far, Bell()) != 0)
    HostTable.pointer.pointee.cancel(node.caller.handle, tokens[7])
    #expect(after(node.caller, far, Bell()) != 0)
    #expect(node.context.timers.count == Timers.instanceTimersMax + 1)
    #expect(KernelMetrics.text(node.context).contains("\nbackplane_timers_refused_total 1\n"))
    #expect(node.shutDown())
    #expect(bells.allSatisfy { $0.ended.takeAll().map(\.code) == [BP_CANCELLED] })
    #expect(node.context.timers.count == 0)
  }

  @Test func manyThreadsSetAndGiveUpAndEachEndsOnce() {
    let node = WalkNode()
    let caller = node.caller!
    let counted = bp_completion(
      context: nil, complete: { _, _ in TimerTests.ends.add(1, ordering: .relaxed) }, chunk: nil)
    TimerTests.ends.store(0, ordering: .relaxed)
    let handle = caller.handle
    let completion = Unchecked(counted)
    onThreads(4) { thread in
      var random = SplitMix(seed: UInt64(thread))
      var mine: [bp_token] = []
      for _ in 0..<2000 {
        let due = Clock.monotonicNs() + random.next() % 20_000_000
        mine.append(TimerTable.pointer.pointee.after(handle, due, completion.value))
        if random.next() % 2 == 0 {
          HostTable.pointer.pointee.cancel(handle, mine.remove(at: Int(random.next() % UInt64(mine.count))))
        }
      }
    }
    #expect(eventually { caller.outgoing.load(ordering: .relaxed) == 0 })
    #expect(TimerTests.ends.load(ordering: .relaxed) == 8000)
    #expect(node.context.timers.count == 0 && caller.timers.load(ordering: .relaxed) == 0)
    #expect(node.shutDown())
  }

  private static let ends = Atomic<Int>(0)

  private struct Unchecked<Value>: @unchecked Sendable {
    // @unchecked: a C struct with a function that is constant.
    let value: Value
    init(_ value: Value) { self.value = value }
  }

  @Test(arguments: 0..<20) func theLeastOfAHeapComesFirst(seed: Int) {
    var random = SplitMix(seed: UInt64(seed))
    var heap = MinimumHeap<UInt64>((0..<random.next() % 20).map { _ in random.next() % 50 })
    var model = heap.elements.sorted()
    for _ in 0..<500 {
      if random.next() % 3 != 0 {
        let value = random.next() % 50
        heap.insert(value)
        model.append(value)
        model.sort()
      } else if !model.isEmpty {
        #expect(heap.first == model.first)
        heap.removeFirst()
        model.removeFirst()
      }
      #expect(heap.count == model.count && heap.first == model.first)
    }
  }
}

/// Numbers that are the same at every run.
private struct SplitMix {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
