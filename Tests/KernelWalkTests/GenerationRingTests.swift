import Glibc
import BackplaneABI
import Synchronization
import Testing

@testable import Kernel

struct GenerationRingTests {
  private static func generation(_ number: UInt64) -> Generation {
    Generation(number: number, slots: [], programs: [], fallback: nil, writePolicy: .all)
  }

  @Test func leasesAreCountedForTheirOwnGeneration() {
    let ring = GenerationRing()
    #expect(ring.acquire() == nil)
    #expect(ring.nextNumber() == 1)
    ring.publish(GenerationRingTests.generation(1))
    let first = ring.acquire()!
    let second = ring.extend(first)
    #expect(first.generation.number == 1 && ring.leases(1) == 2)
    ring.publish(GenerationRingTests.generation(2))
    let third = ring.acquire()!
    #expect(third.number == 2 && ring.leases(1) == 2 && ring.leases(2) == 1)
    ring.release(first)
    ring.release(second)
    #expect(ring.leases(1) == 0)
    ring.retire(1)
    ring.release(third)
    ring.close()
    #expect(ring.acquire() == nil)
    ring.retire(2)
  }

  @Test func aRingFullOfHeldGenerationsHasNoNextNumber() {
    let ring = GenerationRing()
    for number in 1...UInt64(GenerationRing.capacity) {
      #expect(ring.nextNumber() == number)
      ring.publish(GenerationRingTests.generation(number))
    }
    #expect(ring.nextNumber() == nil)
    ring.retire(7)
    // The entry of 7 is the only free one: numbers that others' entries hold are skipped.
    #expect(ring.nextNumber() == 7 + UInt64(GenerationRing.capacity))
  }

  /// One thread publishes and retires as a reload and the reaper do; six take leases as requests do.
  @Test func nobodyHoldsARetiredGeneration() {
    let ring = GenerationRing()
    let count: UInt64 = 4000
    let retired = Flags(Int(count) + 1)
    let isOver = Atomic<Bool>(false)
    let breaches = Atomic<Int>(0)
    let leases = Atomic<Int>(0)
    ring.publish(GenerationRingTests.generation(1))
    onThreads(7) { thread in
      guard thread == 0 else {
        while !isOver.load(ordering: .relaxed) {
          guard let lease = ring.acquire() else { continue }
          let again = ring.extend(lease)
          let isWrong =
            lease.generation.number != lease.number || retired.isSet(Int(lease.number))
            || ring.leases(lease.number) < 2
          ring.release(lease)
          if isWrong || retired.isSet(Int(again.number)) || again.generation.number != again.number {
            breaches.add(1, ordering: .relaxed)
          }
          ring.release(again)
          leases.add(1, ordering: .relaxed)
        }
        return
      }
      // A busy machine may run this thread alone for a while.
      while leases.load(ordering: .acquiring) == 0 { usleep(100) }
      var held: [UInt64] = [1]
      while held.last! < count {
        if let next = ring.nextNumber(), held.count < 64 {
          ring.publish(GenerationRingTests.generation(next))
          held.append(next)
        }
        for number in held.dropLast() where ring.leases(number) == 0 {
          retired.set(Int(number))
          ring.retire(number)
          held.removeAll { $0 == number }
        }
      }
      isOver.store(true, ordering: .relaxed)
    }
    #expect(breaches.load(ordering: .acquiring) == 0)
    #expect(leases.load(ordering: .acquiring) > 0)
    #expect((1...count).allSatisfy { ring.leases($0) == 0 })
  }

  private final class Flags: @unchecked Sendable {
    // @unchecked: atomics in plain memory, allocated once.
    private let flags: UnsafeMutablePointer<Atomic<Bool>>
    init(_ count: Int) {
      flags = .allocate(capacity: count)
      for index in 0..<count { (flags + index).initialize(to: Atomic(false)) }
    }
    deinit { flags.deallocate() }
    func set(_ index: Int) { flags[index].store(true, ordering: .sequentiallyConsistent) }
    func isSet(_ index: Int) -> Bool { flags[index].load(ordering: .sequentiallyConsistent) }
  }

  /// What status shows is asked for while generations come and go.
  @Test func whatIsHeldIsToldWhileItChanges() {
    let node = WalkNode()
    let backend = node.instance("one", .backend, ScriptedBackend(.direct))
    let schema = node.instance("two", .schema, ScriptedSchema())
    let isOver = Atomic<Bool>(false)
    let context = node.context
    let reaper = Reaper(context)
    onThreads(2) { thread in
      if thread == 0 {
        for number in 1...UInt64(2000) {
          // Never published, so nothing of it is retired: only the list matters here.
          reaper.supersede(GenerationRingTests.generation(number + 10), leaving: [])
        }
        isOver.store(true, ordering: .releasing)
      } else {
        while !isOver.load(ordering: .acquiring) { #expect(reaper.held().allSatisfy { $0.ageMs >= 0 }) }
      }
    }
    #expect(reaper.drain(untilNs: Clock.monotonicNs() + patienceNs))
    reaper.shutDown()
    node.publish(schema: schema, backends: [backend])
    #expect(node.shutDown())
  }
}
