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
}
