import BackplaneABI
import Glibc
import Synchronization
import Testing

@testable import Kernel

/// Several backends behind one node: what they agree on when writes are concurrent, when one fails, and when it returns.
struct CompositionWalkTests {
  private final class Walk: @unchecked Sendable {
    // @unchecked: the node is used by one thread but for `receive`, which any transport thread may call.
    let node = WalkNode()
    let backends: [ScriptedBackend]
    let instances: [Instance]

    init(_ styles: [ScriptedBackend.Style], _ policy: WritePolicy) {
      backends = styles.map { ScriptedBackend($0) }
      let node = node
      instances = backends.enumerated().map { node.instance("backend-\($0)", .backend, $1) }
      node.publish(schema: node.instance("envelopes", .schema, ScriptedSchema()), backends: instances, policy)
    }

    func write(_ uri: String, _ text: String) -> Message.Answer? { node.receive(uri, text).answer.soon() }

    var isLevel: Bool { instances.allSatisfy { !$0.isBehind } }

    /// Every backend has the same records, stamps and versions too.
    func expectAgreement() {
      for other in backends.dropFirst() { #expect(other.records == backends[0].records) }
    }
  }

  /// Sixty-four clients at once, all of them at the same few records, with deletions and envelopes of several records.
  @Test(arguments: [WritePolicy.all, .any, .quorum])
  func concurrentWritesLeaveTheSameEverywhere(_ policy: WritePolicy) throws {
    let walk = Walk([.direct, .ownThread, .ownThread], policy)
    let accepted = Atomic<Int>(0)
    onThreads(16) { thread in
      for round in 0..<40 {
        let text =
          round % 3 == 0
          ? "acct://toy/\(round % 5) \(thread)\nacct://toy/\((round + 1) % 5) \(thread)" : "acct://toy/x \(thread)"
        if walk.write("msg://open/\(round % 4)", text)?.code == BP_OK { accepted.add(1, ordering: .relaxed) }
      }
    }
    let acceptedCount = accepted.load(ordering: .relaxed)
    #expect(acceptedCount == 640)
    walk.expectAgreement()
    #expect(walk.isLevel)
    #expect(eventually { walk.node.context.writeOrder.count == 0 })
    #expect(walk.node.shutDown())
  }

  @Test func concurrentWritesComeInBatches() throws {
    let walk = Walk([.ownThread], .all)
    onThreads(8) { thread in
      for round in 0..<100 { _ = walk.node.receive("acct://toy/\(thread)/\(round)", "1") }
    }
    #expect(eventually { walk.backends[0].records.count == 800 })
    let batches = walk.backends[0].unitBatches
    #expect(batches.reduce(0, +) == 800)
    #expect(batches.allSatisfy { $0 >= 1 && $0 <= ApplyQueue.unitsMax })
    #expect(eventually { walk.node.context.requests.count == 0 })
    #expect(walk.node.shutDown())
  }

  /// One that fails misses what the others take; when it returns it gets that, and what came meanwhile, in order.
  @Test(arguments: [WritePolicy.any, .quorum])
  func whatOneMissesIsRepairedInOrder(_ policy: WritePolicy) throws {
    let walk = Walk([.direct, .ownThread, .ownThread], policy)
    let far = walk.backends[2]
    #expect(walk.write("acct://toy/before", "1")?.code == BP_OK)
    far.fail(BP_UNAVAILABLE)
    for number in 0..<50 { #expect(walk.write("acct://toy/\(number % 7)", "\(number)")?.code == BP_OK) }
    #expect(walk.instances[2].isBehind && walk.instances[2].backlog.report?.units == 50)
    #expect(far.records.count == 1)
    let orderBefore = far.order.count
    far.fail(nil)
    // Clients go on while it is repaired.
    onThreads(4) { thread in
      for number in 0..<50 { #expect(walk.write("acct://toy/\(thread)/\(number % 3)", "\(number)")?.code == BP_OK) }
    }
    #expect(eventually { walk.isLevel })
    walk.expectAgreement()
    // Each record's last write only, the older records first.
    let repaired = far.order[orderBefore...].prefix(7).map { $0 }
    #expect(repaired == [1, 2, 3, 4, 5, 6, 0].map { "acct://toy/\($0)" }.sorted { Self.last($0) < Self.last($1) })
    #expect(walk.write("acct://toy/after", "1")?.code == BP_OK)
    walk.expectAgreement()
    #expect(walk.node.shutDown())
  }

  /// The number of the last of fifty writes that went round seven records.
  private static func last(_ uri: String) -> Int {
    let record = Int(uri.split(separator: "/").last!)!
    return (0..<50).last { $0 % 7 == record }!
  }

  /// Of sixty-four first writes one is accepted, and every backend has that one, also when the first in order is away.
  @Test(arguments: [false, true])
  func aConditionIsDecidedOnce(_ isFirstAway: Bool) throws {
    let walk = Walk([.ownThread, .ownThread, .direct], .any)
    if isFirstAway { walk.backends[0].fail(BP_UNAVAILABLE) }
    let answers = Mutex<[bp_code]>([])
    onThreads(64) { thread in
      let code = walk.write("acct://toy/first", "once \(thread)")?.code
      answers.withLock { $0.append(code ?? BP_UNKNOWN) }
    }
    let codes = answers.withLock { $0 }
    #expect(codes.filter { $0 == BP_OK }.count == 1)
    #expect(codes.filter { $0 == BP_FAILED_PRECONDITION }.count == 63)
    if isFirstAway { walk.backends[0].fail(nil) }
    #expect(eventually { walk.isLevel })
    #expect(walk.backends[0].records.count == 1)
    walk.expectAgreement()
    #expect(walk.node.shutDown())
  }

  /// One that gives up while it is in line lets nobody past those before it.
  @Test func givingUpInLineKeepsTheLine() throws {
    let walk = Walk([.direct, .held], .all)
    let first = walk.node.receive("acct://toy/a", "1")
    let held = try #require(walk.backends[1].held.next())
    let second = walk.node.receive("acct://toy/a", "2", within: 50)
    let third = walk.node.receive("acct://toy/a", "3")
    #expect(second.answer.soon()?.code == BP_DEADLINE_EXCEEDED)
    // Another record's write overtakes them all: by then the third would have been sent, were it let through.
    let other = walk.node.receive("acct://toy/b", "1")
    let heldOther = try #require(walk.backends[1].held.next())
    #expect(heldOther.uris == ["acct://toy/b"])
    #expect(walk.backends[0].order == ["acct://toy/a", "acct://toy/b"])
    walk.backends[1].finish(held)
    walk.backends[1].finish(heldOther)
    #expect(first.answer.soon()?.code == BP_OK && other.answer.soon()?.code == BP_OK)
    let last = try #require(walk.backends[1].held.next())
    #expect(last.texts == ["3"])
    walk.backends[1].finish(last)
    #expect(third.answer.soon()?.code == BP_OK)
    walk.expectAgreement()
    #expect(eventually { walk.node.context.writeOrder.count == 0 })
    #expect(walk.node.shutDown())
  }

  /// More records than the slot takes calls at a time, in few messages.
  @Test func manyRecordsOfFewMessagesAreRepaired() throws {
    let walk = Walk([.direct, .ownThread], .any)
    walk.backends[1].fail(BP_UNAVAILABLE)
    for number in 0..<4 {
      let lines = (0..<1_500).map { "acct://toy/\(number)/\($0) \($0)" }.joined(separator: "\n")
      #expect(walk.write("msg://open/\(number)", lines)?.code == BP_OK)
    }
    walk.backends[1].fail(nil)
    #expect(eventually { walk.isLevel })
    #expect(walk.backends[1].records.count == 4 * 1_501)
    walk.expectAgreement()
    #expect(walk.node.shutDown())
  }

  @Test func underAllNothingIsMissedAndNothingIsRecorded() throws {
    let walk = Walk([.direct, .ownThread], .all)
    walk.backends[1].fail(BP_UNAVAILABLE)
    #expect(walk.write("acct://toy/a", "1")?.code == BP_UNAVAILABLE)
    #expect(walk.isLevel)
    walk.backends[1].fail(nil)
    #expect(walk.write("acct://toy/a", "2")?.code == BP_OK)
    walk.expectAgreement()
    #expect(walk.node.shutDown())
  }

  /// What it will never take does not keep it from the rest; but it is not taken for whole.
  @Test func whatABackendRefusesForGoodIsSaid() throws {
    let walk = Walk([.direct, .ownThread], .any)
    let far = walk.backends[1]
    far.fail(BP_UNAVAILABLE)
    #expect(walk.write("acct://toy/a", "1")?.code == BP_OK)
    far.fail(BP_INVALID_ARGUMENT)
    let backlog = walk.instances[1].backlog
    #expect(eventually { backlog.report?.phase == .incomplete })
    #expect(backlog.report?.incomplete?.contains("acct://toy/a") == true)
    let refusedCount = backlog.refused.load(ordering: .relaxed)
    #expect(refusedCount == 1)
    far.fail(nil)
    // It takes writes again, and is not read from.
    #expect(walk.write("acct://toy/b", "1")?.code == BP_OK)
    #expect(far.records["acct://toy/b"] != nil && walk.instances[1].isBehind)
    #expect(walk.node.context.repairs.accept("backend-1"))
    #expect(!walk.instances[1].isBehind)
    #expect(walk.node.shutDown())
  }

  /// A newer version that got there by another way is not overwritten by an older one.
  @Test func aRepairDoesNotUndoWhatIsNewer() throws {
    let walk = Walk([.direct, .ownThread], .any)
    let far = walk.backends[1]
    far.fail(BP_UNAVAILABLE)
    #expect(walk.write("acct://toy/a", "old")?.code == BP_OK)
    far.put("acct://toy/a", "newer", version: .max)
    far.fail(nil)
    #expect(eventually { walk.isLevel })
    #expect(far.records["acct://toy/a"]?.text == "newer")
    #expect(walk.node.shutDown())
  }

  /// The only backend has misses from before: nobody else could take the write.
  @Test func aLoneBackendTakesNoWritesUntilItIsRepaired() throws {
    let walk = Walk([.direct, .ownThread], .any)
    let (near, far) = (walk.instances[0], walk.instances[1])
    walk.backends[1].fail(BP_UNAVAILABLE)
    #expect(walk.write("acct://toy/a", "1")?.code == BP_OK)
    walk.node.publish(
      schema: walk.node.instance("other", .schema, ScriptedSchema()), backends: [far], .any)
    let refused = walk.write("acct://toy/a", "2")
    #expect(refused?.code == BP_UNAVAILABLE && refused?.text.contains("'backend-1' is being repaired") == true)
    walk.backends[1].fail(nil)
    #expect(eventually { !far.isBehind })
    #expect(walk.write("acct://toy/a", "3")?.code == BP_OK)
    #expect(walk.backends[1].records["acct://toy/a"]?.text == "3")
    let nearInFlight = near.inFlight.load(ordering: .relaxed)
    #expect(nearInFlight == 0)
    #expect(walk.node.shutDown())
  }
}
