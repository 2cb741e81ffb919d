import BackplaneABI
import Synchronization
import Testing

@testable import Kernel

/// One envelope from end to end through the kernel itself: three outputs, a validator that reads while it judges, two
/// backends (the second on a thread of its own), a deadline, a cancel, a reload in the middle.
struct EnvelopeWalkTests {
  private let envelope = "acct://toy/a one\nacct://toy/b after acct://toy/a\nacct://toy/c after acct://toy/b"

  private struct Walk: @unchecked Sendable {
    // @unchecked: the node is used by the test's own thread; the rest is Sendable.
    let node = WalkNode()
    let near: ScriptedBackend
    let far: ScriptedBackend
    let schema: ScriptedSchema
    let nearInstance: Instance
    let farInstance: Instance
    let schemaInstance: Instance

    init(far style: ScriptedBackend.Style, _ policy: WritePolicy = .all, usesReadMulti: Bool = false) {
      near = ScriptedBackend(.direct, durability: BP_DURABILITY_DISK)
      far = ScriptedBackend(style)
      schema = ScriptedSchema(usesReadMulti: usesReadMulti)
      nearInstance = node.instance("near", .backend, near)
      farInstance = node.instance("far", .backend, far)
      schemaInstance = node.instance("envelopes", .schema, schema)
      node.publish(schema: schemaInstance, backends: [nearInstance, farInstance], policy)
    }

    var isFarBehind: Bool { farInstance.isBehind }

    /// Nothing of a request is left: memory, lease, open calls, the caller's count.
    func expectNothingLeft(_ message: Message, generation: UInt64 = 1) {
      #expect(message.released.soon() == true)
      #expect(eventually { node.context.ring.leases(generation) == 0 })
      #expect(node.context.requests.count == 0)
      #expect(nearInstance.inFlight.load(ordering: .acquiring) == 0)
      #expect(farInstance.inFlight.load(ordering: .acquiring) == 0)
      #expect(schemaInstance.inFlight.load(ordering: .acquiring) == 0)
      #expect(eventually { node.caller.outgoing.load(ordering: .acquiring) == 0 })
      #expect(message.answersCount.load(ordering: .acquiring) == 1)
    }
  }

  /// How a validator asks makes no difference: one record, or several at once.
  @Test(arguments: [false, true])
  func threeOutputsReachBothBackends(_ usesReadMulti: Bool) throws {
    let walk = Walk(far: .ownThread, usesReadMulti: usesReadMulti)
    let message = walk.node.receive("msg://open/1", envelope)
    // The least durable of those that count.
    #expect(message.answer.soon() == Message.Answer(code: BP_OK, durability: BP_DURABILITY_MEMORY))
    walk.expectNothingLeft(message)
    let uris = ["msg://open/1", "acct://toy/a", "acct://toy/b", "acct://toy/c"]
    let stamp = try #require(walk.near.records["msg://open/1"])
    for backend in [walk.near, walk.far] {
      #expect(Set(backend.records.keys) == Set(uris))
      #expect(backend.records["msg://open/1"]?.text == envelope)
      #expect(backend.records["acct://toy/c"]?.text == "after acct://toy/b")
      // One unit, one stamp.
      #expect(uris.allSatisfy { backend.records[$0]?.timestampMs == stamp.timestampMs })
      #expect(uris.allSatisfy { backend.records[$0]?.version == stamp.version })
      // The validator saw the earlier outputs of its own message, which no backend had yet.
      #expect(backend.reads.isEmpty)
    }
    #expect(walk.node.shutDown())
  }

  @Test func aRefusedOutputWritesNothing() {
    let walk = Walk(far: .ownThread)
    let refused = walk.node.receive("msg://open/2", "acct://toy/d x\nacct://toy/e after acct://toy/gone")
    #expect(refused.answer.soon() == Message.Answer(code: BP_REJECTED, text: "what it names does not exist"))
    walk.expectNothingLeft(refused)
    #expect(walk.near.records.isEmpty && walk.far.records.isEmpty)
    // The one that no earlier output answers was asked of both backends, the second asynchronously.
    #expect(walk.near.reads == ["acct://toy/gone"] && walk.far.reads == ["acct://toy/gone"])
    // And one that only the second has is enough.
    walk.far.put("acct://toy/there", "1")
    let accepted = walk.node.receive("msg://open/3", "acct://toy/f after acct://toy/there")
    #expect(accepted.answer.soon()?.code == BP_OK)
    walk.expectNothingLeft(accepted)
    #expect(walk.node.shutDown())
  }

  @Test func aDeadlineAnswersTheClientAndKeepsTheMemory() throws {
    let walk = Walk(far: .held)
    let message = walk.node.receive("msg://open/1", envelope, within: 50)
    let held = try #require(walk.far.held.next())
    let sentNs = Clock.monotonicNs()
    let answer = try #require(message.answer.soon())
    #expect(answer.code == BP_DEADLINE_EXCEEDED)
    #expect(answer.text.contains("deadline has passed before enough backends took the write"))
    // Within the deadline and a few looks of the thread that enforces it, however busy the machine is.
    #expect(Clock.monotonicNs() - sentNs < 5_000_000_000)
    #expect(walk.far.cancelled.next() == held.unit.token)
    // The client has its answer; memory, lease and call are kept.
    #expect(!message.isReleased)
    #expect(walk.node.context.ring.leases(1) == 1)
    #expect(walk.farInstance.inFlight.load(ordering: .acquiring) == 1)
    #expect(held.uris == ["msg://open/1", "acct://toy/a", "acct://toy/b", "acct://toy/c"])
    #expect(held.texts == [envelope, "one", "after acct://toy/a", "after acct://toy/b"])
    // The late completion changes nothing for the client, is counted, and lets everything go.
    walk.far.finish(held)
    walk.expectNothingLeft(message)
    #expect(walk.farInstance.statistics.snapshot(.apply).count == 1)
    #expect(walk.far.records["acct://toy/b"]?.text == "after acct://toy/a")
    #expect(walk.node.shutDown())
  }

  @Test func anAcknowledgedWriteThatComesLateCatchesUp() throws {
    let walk = Walk(far: .held, .any)
    let message = walk.node.receive("msg://open/1", envelope, within: 50)
    let held = try #require(walk.far.held.next())
    // One backend is enough: what it reached counts, and the other is behind.
    #expect(message.answer.soon() == Message.Answer(code: BP_OK, durability: BP_DURABILITY_DISK))
    #expect(walk.isFarBehind)
    #expect(walk.farInstance.backlog.report != nil)
    #expect(!message.isReleased)
    walk.far.finish(held)
    walk.expectNothingLeft(message)
    #expect(eventually { !walk.isFarBehind })
    #expect(walk.farInstance.backlog.report == nil)
    #expect(walk.node.shutDown())
  }

  /// The completion and the record of its miss race here: whoever wins, the backend has everything in the end.
  @Test func aWriteThatArrivesAtItsDeadlineIsNotBehindForEver() throws {
    let walk = Walk(far: .held, .any)
    for number in 0..<30 {
      let message = walk.node.receive("msg://open/\(number)", "acct://toy/a one", within: 100)
      let held = try #require(walk.far.held.next())
      let far = walk.far
      onThreads(1) { _ in
        // The answer is given in the middle of the deadline's work.
        while message.answer.get(untilNs: 0) == nil, !walk.isFarBehind {}
        far.finish(held)
      }
      #expect(message.answer.soon()?.code == BP_OK)
      walk.expectNothingLeft(message)
      #expect(eventually { !walk.isFarBehind })
    }
    #expect(walk.near.records.count == 31 && walk.far.records.count == 31)
    #expect(walk.node.shutDown())
  }

  @Test func aDeadlineWithinAJudgementWritesNothing() throws {
    let walk = Walk(far: .ownThread)
    let message = walk.node.receive("msg://open/1", "acct://toy/a hold", within: 50)
    let judged = try #require(walk.schema.held.next())
    #expect(message.answer.soon()?.code == BP_DEADLINE_EXCEEDED)
    #expect(walk.schema.cancelled.next() == judged.token)
    #expect(!message.isReleased)
    // The message is still there for the schema, and its verdict comes to nothing.
    #expect(judged.message.pointee.data.text == "hold")
    walk.schema.accept(judged)
    walk.expectNothingLeft(message)
    #expect(walk.near.records.isEmpty && walk.far.records.isEmpty)
    #expect(walk.node.shutDown())
  }

  @Test func aCancelAnswersTheClientAndReachesTheBackend() throws {
    let walk = Walk(far: .held)
    let message = walk.node.receive("msg://open/1", envelope)
    let held = try #require(walk.far.held.next())
    walk.node.cancel(message)
    #expect(message.answer.soon()?.code == BP_CANCELLED)
    #expect(walk.far.cancelled.next() == held.unit.token)
    #expect(!message.isReleased)
    walk.far.finish(held, BP_CANCELLED)
    walk.expectNothingLeft(message)
    #expect(walk.far.records.isEmpty)
    // A token that is finished names nothing any more.
    walk.node.cancel(message)
    #expect(message.answersCount.load(ordering: .acquiring) == 1)
    #expect(walk.node.shutDown())
  }

  @Test func aSecondCompletionIsIgnoredAndCounted() throws {
    let walk = Walk(far: .held)
    let message = walk.node.receive("msg://open/1", envelope)
    let held = try #require(walk.far.held.next())
    walk.far.finish(held)
    #expect(message.answer.soon()?.code == BP_OK)
    walk.expectNothingLeft(message)
    let before = CallSlab.shared.ignoredCompletions.load(ordering: .acquiring)
    var result = ScriptedPlugin.result(BP_INTERNAL, bp_result.self)
    walk.far.complete(held.unit.token, &result)
    #expect(CallSlab.shared.ignoredCompletions.load(ordering: .acquiring) > before)
    walk.expectNothingLeft(message)
    #expect(walk.node.shutDown())
  }

  @Test func aReloadInTheMiddle() throws {
    let walk = Walk(far: .ownThread)
    let first = walk.node.receive("msg://open/1", "acct://toy/a hold\nacct://toy/b after acct://toy/a")
    let judged = try #require(walk.schema.held.next())
    // Between judging and applying: generation 2 has another schema and another first backend; the second is shared.
    let (near, schema) = (ScriptedBackend(.direct), ScriptedSchema())
    walk.node.publish(
      schema: walk.node.instance("envelopes", .schema, schema),
      backends: [walk.node.instance("near", .backend, near), walk.farInstance])
    #expect(walk.node.context.ring.currentNumber == 2)
    // What begins now goes to the successor, although the predecessor is still held.
    let second = walk.node.receive("msg://open/2", "acct://toy/c one")
    #expect(second.answer.soon()?.code == BP_OK)
    #expect(Set(near.records.keys) == ["msg://open/2", "acct://toy/c"])
    #expect(walk.node.context.ring.leases(1) == 1)
    #expect(walk.near.destroyed.get(untilNs: 0) == nil)
    // What began before ends where it began.
    walk.schema.accept(judged)
    #expect(first.answer.soon()?.code == BP_OK)
    #expect(walk.near.records["acct://toy/b"]?.text == "after acct://toy/a")
    #expect(near.records["acct://toy/b"] == nil)
    #expect(walk.far.records.count == 5)
    walk.expectNothingLeft(first)
    walk.expectNothingLeft(second, generation: 2)
    // Its generation drains and what only it had goes; what is shared stays.
    #expect(walk.near.destroyed.soon() == true)
    #expect(walk.schema.destroyed.soon() == true)
    #expect(walk.far.stopped.get(untilNs: 0) == nil)
    #expect(walk.farInstance.generations.load(ordering: .acquiring) == 1)
    #expect(walk.node.shutDown())
  }
}
