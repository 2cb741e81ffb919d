import BackplaneABI
import Synchronization
import Testing

@testable import Kernel

/// What becomes of a generation whose requests do not end.
struct DrainWalkTests {
  @Test func whatDoesNotComeBackIsWrittenOffAndTheRestRetires() {
    let node = WalkNode()
    // Short enough to wait for, and long enough that the answer is seen before the grace is over.
    node.limit(Reaper.Limits(drainSoftMs: 20, drainHardMs: 60, stopMs: 5000, cancelGraceMs: 60))
    let (oldBackend, newBackend) = (ScriptedBackend(.held), ScriptedBackend(.direct))
    let (oldSchema, newSchema) = (ScriptedSchema(), ScriptedSchema())
    let old = node.instance("store", .backend, oldBackend)
    node.publish(schema: node.instance("envelopes", .schema, oldSchema), backends: [old])
    let message = node.receive("acct://toy/a", "text")
    let held = oldBackend.held.next()!
    node.publish(
      schema: node.instance("envelopes", .schema, newSchema), backends: [node.instance("store", .backend, newBackend)])

    let holders = GenerationsReport.leases(node.context)[1] ?? []
    #expect(holders.map(\.request) == ["receive"] && holders.map(\.call) == ["apply"], "\(holders)")
    #expect(holders.map(\.slot) == ["store"] && holders.map(\.isAnswered) == [false])

    #expect(message.answer.soon()?.code == BP_UNAVAILABLE)
    #expect(oldBackend.cancelled.next() == held.unit.token)
    // The schema of the same generation retires, though the generation still has its lease.
    #expect(oldSchema.destroyed.soon() == true)
    #expect(eventually { old.state == .wedged })
    #expect(node.context.ring.leases(1) == 1)
    #expect(node.context.wedged.all.map(\.call) == ["apply"])
    #expect(oldBackend.stopped.get(untilNs: 0) == nil && oldBackend.destroyed.get(untilNs: 0) == nil)
    // Its memory is still what the plugin was given.
    #expect(!message.isReleased && held.texts == ["text"])
    #expect((GenerationsReport.leases(node.context)[1] ?? []).map(\.isAnswered) == [true])

    // Requests go on, and never to the one that is written off.
    let next = node.receive("acct://toy/b", "more")
    #expect(next.answer.soon()?.code == BP_OK)
    #expect(newBackend.records["acct://toy/b"]?.text == "more")

    // Late, it ends quietly: once, and with everything it held.
    oldBackend.finish(held)
    #expect(message.released.soon() == true)
    #expect(message.answersCount.load(ordering: .acquiring) == 1)
    #expect(eventually { node.context.ring.leases(1) == 0 })
    #expect(old.state == .wedged)
    #expect(oldBackend.destroyed.get(untilNs: 0) == nil)
  }

  @Test func aClosedInstanceTakesNoMoreCalls() {
    let node = WalkNode()
    let backend = ScriptedBackend(.direct)
    let instance = node.instance("store", .backend, backend)
    node.publish(schema: node.instance("envelopes", .schema, ScriptedSchema()), backends: [instance])
    instance.close()
    let token = CallSlab.shared.open(instance, .read, context: nil, handler: { _, _ in }, startNs: 0)
    #expect(token == 0)
    #expect(instance.inFlight.load(ordering: .acquiring) == 0)
    // Moving its state is the host's own business.
    let export = CallSlab.shared.open(instance, .exportState, context: nil, handler: { _, _ in }, startNs: 0)
    #expect(export != 0)
    Answers.with(BP_CANCELLED, as: bp_result.self) { #expect(CallSlab.shared.revoke(export, $0)) }
    #expect(node.shutDown())
  }

  /// The answers of one read_multi.
  private final class Batch: @unchecked Sendable {
    // @unchecked: `chunks` is under the lock; the rest is Sendable.
    let answer = Promise<bp_code>()
    private let chunks = Mutex<[bp_code]>([])
    let answersCount = Atomic<Int>(0)
    /// Chunks that came after the answer.
    let lateCount = Atomic<Int>(0)
    var codes: [bp_code] { chunks.withLock { $0 } }

    var completion: bp_completion {
      bp_completion(
        context: Unmanaged.passRetained(self).toOpaque(),
        complete: { context, result in
          let batch = Unmanaged<Batch>.fromOpaque(context!).takeUnretainedValue()
          batch.answersCount.add(1, ordering: .relaxed)
          batch.answer.set(result!.pointee.code)
        },
        chunk: { context, chunk in
          let batch = Unmanaged<Batch>.fromOpaque(context!).takeUnretainedValue()
          if batch.answersCount.load(ordering: .acquiring) > 0 { batch.lateCount.add(1, ordering: .relaxed) }
          let item = UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_read_item.self)
          batch.chunks.withLock { $0.append(item.pointee.read.pointee.result.code) }
        })
    }
  }

  private func readMulti(_ node: WalkNode, _ uris: [String], withinMs: UInt64? = nil) -> (Batch, bp_token) {
    let batch = Batch()
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    if let withinMs { call.deadline_ns = Clock.monotonicNs() + withinMs * 1_000_000 }
    let bytes = uris.map { Array($0.utf8) }
    let views = bytes.map { bytes in
      let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count)
      _ = copy.initialize(from: bytes)
      return bp_view(UnsafeBufferPointer(copy))
    }
    defer { for view in views { view.data.deallocate() } }
    let token = views.withUnsafeBufferPointer {
      NodeTable.pointer.pointee.read_multi(
        node.caller.handle, &call, $0.baseAddress, UInt32($0.count), batch.completion)
    }
    return (batch, token)
  }

  private let uris = ["acct://toy/a", "acct://toy/b", "acct://toy/a"]

  private func makeReadNode() -> (WalkNode, ScriptedBackend) {
    let node = WalkNode()
    let backend = ScriptedBackend(.heldReads)
    backend.put("acct://toy/a", "one")
    node.publish(
      schema: node.instance("envelopes", .schema, ScriptedSchema()),
      backends: [node.instance("store", .backend, backend)])
    return (node, backend)
  }

  private func expectNothingLeft(_ node: WalkNode, _ batch: Batch) {
    #expect(batch.answersCount.load(ordering: .acquiring) == 1)
    #expect(batch.lateCount.load(ordering: .acquiring) == 0)
    #expect(eventually { node.context.requests.count == 0 && node.context.ring.leases(1) == 0 })
    #expect(eventually { node.caller.outgoing.load(ordering: .acquiring) == 0 })
    #expect(node.shutDown())
  }

  @Test func aBatchOfReadsIsAnsweredPieceByPiece() {
    let (node, backend) = makeReadNode()
    let (batch, token) = readMulti(node, uris)
    #expect(token != 0)
    for _ in uris { backend.finish(backend.heldReads.next()!) }
    #expect(batch.answer.soon() == BP_OK)
    #expect(batch.codes == [BP_OK, BP_NOT_FOUND, BP_OK])
    expectNothingLeft(node, batch)
  }

  @Test func aBatchOfReadsHasADeadline() {
    let (node, backend) = makeReadNode()
    let (batch, _) = readMulti(node, uris, withinMs: 50)
    let first = backend.heldReads.next()!
    #expect(batch.answer.soon() == BP_DEADLINE_EXCEEDED)
    backend.finish(first)
    // The read that was given up with it may have made room for another before the whole was given up.
    #expect(
      eventually {
        for read in backend.heldReads.takeAll() { backend.finish(read) }
        return node.context.ring.leases(1) == 0
      })
    expectNothingLeft(node, batch)
  }

  @Test func aBatchOfReadsCanBeCancelled() {
    let (node, backend) = makeReadNode()
    let (batch, token) = readMulti(node, uris)
    backend.finish(backend.heldReads.next()!)
    let second = backend.heldReads.next()!
    #expect((GenerationsReport.leases(node.context)[1] ?? []).map(\.request).sorted() == ["read", "read_multi"])
    HostTable.pointer.pointee.cancel(node.caller.handle, token)
    #expect(batch.answer.soon() == BP_CANCELLED)
    #expect(batch.codes == [BP_OK])
    backend.finish(second)
    expectNothingLeft(node, batch)
  }
}
