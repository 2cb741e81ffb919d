import BackplaneABI
import Synchronization
import Testing

@testable import Kernel

/// Several records read at once: what the backends are asked for, and what becomes of a batch that does not end well.
struct ReadBatchTests {
  private typealias Item = ReadAnswers.Item

  private struct Walk: @unchecked Sendable {
    // @unchecked: the node is used by the test's own thread; the rest is Sendable.
    let node = WalkNode()
    let near: ScriptedBackend
    let far: ScriptedBackend
    let nearInstance: Instance
    let farInstance: Instance
    private let schema: Instance

    init(_ near: ScriptedBackend.Style, _ far: ScriptedBackend.Style = .direct) {
      self.near = ScriptedBackend(near)
      self.far = ScriptedBackend(far)
      nearInstance = node.instance("near", .backend, self.near)
      farInstance = node.instance("far", .backend, self.far)
      schema = node.instance("envelopes", .schema, ScriptedSchema())
      node.publish(schema: schema, backends: [nearInstance, farInstance])
    }

    /// The next generation has another backend in the near one's place.
    func replaceNear(by other: ScriptedBackend) {
      node.publish(schema: schema, backends: [node.instance("near", .backend, other), farInstance])
    }

    /// Finishes reads of a backend as they come, until the answer is there.
    func finishReads(of backend: ScriptedBackend, until answers: ReadAnswers) {
      #expect(
        eventually {
          for read in backend.heldReads.takeAll() { backend.finish(read) }
          return answers.answer.get(untilNs: 0) != nil
        })
    }

    func expectNothingLeft(_ answers: ReadAnswers) {
      #expect(answers.answersCount.load(ordering: .acquiring) == 1)
      #expect(answers.lateCount.load(ordering: .acquiring) == 0)
      #expect(answers.overlapCount.load(ordering: .acquiring) == 0)
      let ring = node.context.ring
      #expect(
        eventually { node.context.requests.count == 0 && (1...ring.currentNumber).allSatisfy { ring.leases($0) == 0 } })
      #expect(nearInstance.inFlight.load(ordering: .acquiring) == 0)
      #expect(eventually { node.caller.outgoing.load(ordering: .acquiring) == 0 })
      #expect(node.shutDown())
    }
  }

  private let uris = ["acct://toy/a", "acct://toy/b", "acct://toy/a", "not a uri", "acct://toy/c", "acct://toy/d"]
  private let found: [Item?] = [
    Item(code: BP_OK, text: "one"), Item(code: BP_OK, text: "two"), Item(code: BP_OK, text: "one"),
    Item(code: BP_NOT_FOUND), Item(code: BP_OK, text: "three"), Item(code: BP_NOT_FOUND),
  ]

  private func fill(_ walk: Walk) {
    walk.near.put("acct://toy/a", "one")
    walk.far.put("acct://toy/a", "not this one")
    walk.far.put("acct://toy/b", "two")
    walk.far.put("acct://toy/c", "three")
  }

  /// The first backend is asked for all of them in one call, the next one in one call for what the first did not have.
  @Test(arguments: [ScriptedBackend.Style.heldReads, .blockingHeldReads, .ownThread])
  func missesGoToTheNextBackendTogether(_ style: ScriptedBackend.Style) {
    let walk = Walk(style, style)
    fill(walk)
    let (answers, token) = walk.node.readMulti(uris)
    if style != .ownThread {
      #expect(token != 0)
      // All are there before the first is finished.
      let held = (0..<5).map { _ in walk.near.heldReads.next()! }
      #expect(answers.codes == [BP_NOT_FOUND], "only what is no URI has its answer")
      for read in held.reversed() { walk.near.finish(read) }
      walk.finishReads(of: walk.far, until: answers)
    }
    #expect(answers.answer.soon() == BP_OK)
    #expect(answers.byIndex(uris.count) == found)
    #expect(walk.near.readBatches == [5] && walk.far.readBatches == [3])
    #expect(walk.far.reads.sorted() == ["acct://toy/b", "acct://toy/c", "acct://toy/d"])
    walk.expectNothingLeft(answers)
  }

  /// What answers at once is read record by record on the caller's thread, and the answer is there when the call returns.
  @Test func directBackendsAreReadOneByOne() {
    let walk = Walk(.direct)
    fill(walk)
    let (answers, token) = walk.node.readMulti(uris)
    #expect(token == 0)
    #expect(answers.answer.get(untilNs: 0) == BP_OK)
    #expect(answers.byIndex(uris.count) == found)
    #expect(walk.near.readBatches == [1, 1, 1, 1, 1] && walk.far.readBatches == [1, 1, 1])
    walk.expectNothingLeft(answers)
  }

  /// A long one leaves the caller's thread.
  @Test func manyDirectReadsGoOnElsewhere() {
    let walk = Walk(.direct)
    walk.node.context.readMultiMax.store(1000, ordering: .relaxed)
    let many = (0..<600).map { "acct://toy/\($0)" }
    for uri in many { walk.near.put(uri, uri) }
    let (answers, _) = walk.node.readMulti(many)
    #expect(answers.answer.soon() == BP_OK)
    #expect(answers.byIndex(many.count) == many.map { Item(code: BP_OK, text: $0) })
    walk.expectNothingLeft(answers)
  }

  /// As many at once as the slot admits, and never a refusal for being many.
  @Test func aBatchKeepsWithinTheSlotsBound() {
    let walk = Walk(.heldReads)
    walk.nearInstance.admit(4)
    let many = (0..<10).map { "acct://toy/\($0)" }
    for uri in many { walk.near.put(uri, uri) }
    let (answers, _) = walk.node.readMulti(many)
    walk.finishReads(of: walk.near, until: answers)
    #expect(answers.byIndex(many.count) == many.map { Item(code: BP_OK, text: $0) })
    #expect(walk.near.readBatches == [4, 4, 2])
    walk.expectNothingLeft(answers)
  }

  /// No room at all is a failure of that backend, and the next one is asked.
  @Test func aFullSlotIsPassedOver() {
    let walk = Walk(.heldReads)
    fill(walk)
    let (first, _) = walk.node.readMulti(["acct://toy/a"])
    let held = walk.near.heldReads.next()!
    walk.nearInstance.admit(1)
    let (answers, _) = walk.node.readMulti(["acct://toy/a", "acct://toy/x"])
    #expect(answers.answer.soon() == BP_OK)
    // The far one has the first; that it lacks the second is an answer too.
    #expect(answers.byIndex(2) == [Item(code: BP_OK, text: "not this one"), Item(code: BP_NOT_FOUND)])
    walk.near.finish(held)
    #expect(first.answer.soon() == BP_OK)
    walk.expectNothingLeft(answers)
  }

  /// A backend that was replaced between two waves: the rest is read in the published generation.
  @Test func aReplacedBackendIsLeftForItsSuccessor() {
    let walk = Walk(.heldReads)
    walk.nearInstance.admit(2)
    let many = (0..<4).map { "acct://toy/\($0)" }
    for uri in many { walk.near.put(uri, "old") }
    let (answers, _) = walk.node.readMulti(many)
    let held = [walk.near.heldReads.next()!, walk.near.heldReads.next()!]
    let successor = ScriptedBackend(.ownThread)
    for uri in many { successor.put(uri, "new") }
    walk.replaceNear(by: successor)
    walk.nearInstance.close()
    for read in held { walk.near.finish(read) }
    #expect(answers.answer.soon() == BP_OK)
    #expect(answers.byIndex(4).map { $0?.text } == ["old", "old", "new", "new"])
    #expect(successor.readBatches == [2])
    walk.expectNothingLeft(answers)
  }

  /// A backend that says it completes before it returns, and does not: its first read fails, the rest goes to threads.
  @Test func aBrokenPromiseCostsOneRead() {
    let walk = Walk(.unfaithful)
    let many = (0..<3).map { "acct://toy/\($0)" }
    for uri in many { walk.near.put(uri, "near") }
    let (answers, _) = walk.node.readMulti(many)
    walk.finishReads(of: walk.near, until: answers)
    #expect(walk.near.readBatches == [1, 2])
    // The far one, asked for the first, does not have it; a backend's miss counts more than another one's failure.
    #expect(
      answers.byIndex(3) == [
        Item(code: BP_NOT_FOUND), Item(code: BP_OK, text: "near"), Item(code: BP_OK, text: "near"),
      ])
    walk.expectNothingLeft(answers)
  }

  /// Completions of several threads at once: chunks come one at a time all the same, each with its own record.
  @Test func chunksComeOneAtATime() {
    let walk = Walk(.heldReads)
    let many = (0..<40).map { "acct://toy/\($0)" }
    for uri in many { walk.near.put(uri, uri) }
    let isOthersTurn = Promise<Bool>()
    // The first chunk is not over before the other threads have come.
    let others = Atomic<Int>(0)
    let answers = ReadAnswers { _ = isOthersTurn.get(untilNs: Clock.monotonicNs() + patienceNs) }
    _ = walk.node.readMulti(many, into: answers)
    let held = many.map { _ in walk.near.heldReads.next()! }
    let near = walk.near
    onThreads(8) { thread in
      for read in held[(thread * 5)..<(thread * 5 + 5)] { near.finish(read) }
      // One thread is in the chunk; the seven others leave what they have behind.
      if others.add(1, ordering: .acquiringAndReleasing).newValue == 7 { isOthersTurn.set(true) }
    }
    #expect(answers.answer.soon() == BP_OK)
    #expect(answers.byIndex(many.count) == many.map { Item(code: BP_OK, text: $0) })
    walk.expectNothingLeft(answers)
  }

  @Test func aBatchHasADeadline() {
    let walk = Walk(.heldReads)
    fill(walk)
    let (answers, _) = walk.node.readMulti(uris, withinMs: 50)
    let held = (0..<5).map { _ in walk.near.heldReads.next()! }
    #expect(answers.answer.soon() == BP_DEADLINE_EXCEEDED)
    // Every call that is open is given up.
    #expect(Set((0..<5).map { _ in walk.near.cancelled.next()! }) == Set(held.map(\.read.token)))
    for read in held { walk.near.finish(read) }
    #expect(answers.codes == [BP_NOT_FOUND])
    walk.expectNothingLeft(answers)
  }

  @Test func aBatchCanBeCancelled() {
    let walk = Walk(.heldReads)
    fill(walk)
    let (answers, token) = walk.node.readMulti(["acct://toy/a", "acct://toy/b", "acct://toy/a"])
    let held = (0..<3).map { _ in walk.near.heldReads.next()! }
    walk.near.finish(held[0])
    let holders = GenerationsReport.leases(walk.node.context)[1] ?? []
    #expect(holders.map(\.request) == ["read_multi"] && holders.map(\.call) == ["read"], "\(holders)")
    HostTable.pointer.pointee.cancel(walk.node.caller.handle, token)
    #expect(answers.answer.soon() == BP_CANCELLED)
    #expect(answers.codes == [BP_OK])
    // Those that are open are given up, and the one that is finished is not.
    #expect(Set([walk.near.cancelled.next()!, walk.near.cancelled.next()!]) == Set(held[1...].map(\.read.token)))
    for read in held[1...] { walk.near.finish(read) }
    walk.expectNothingLeft(answers)
  }
}
