import BackplaneABI
import Testing

@testable import Kernel

/// What the node counts of its own operations (bp_observe.operations).
@Suite struct OperationTests {
  private struct Counts: Equatable {
    var calls: UInt64
    var failures: UInt64
    var timeNs: UInt64
    var bucketed: UInt64
  }

  private func counts(_ node: WalkNode) -> [String: Counts] {
    final class List {
      var counts: [String: Counts] = [:]
    }
    let list = List()
    ObserveTable.pointer.pointee.operations(node.caller.handle, Unmanaged.passUnretained(list).toOpaque()) {
      let list = Unmanaged<List>.fromOpaque($0!).takeUnretainedValue()
      let counts = $1!.pointee
      let buckets = UnsafeBufferPointer(start: counts.buckets, count: Int(counts.buckets_count))
      list.counts[counts.name.text] = Counts(
        calls: counts.calls, failures: counts.failures, timeNs: counts.time_ns, bucketed: buckets.reduce(0, +))
    }
    return list.counts
  }

  private func read(_ node: WalkNode, _ uri: String, as instance: Instance? = nil) -> bp_code? {
    final class End: Sendable { let code = Promise<bp_code>() }
    let end = End()
    var call = bp_call()
    call.size = UInt32(MemoryLayout<bp_call>.size)
    var uri = uri
    _ = uri.withUTF8 { uri in
      NodeTable.pointer.pointee.read(
        (instance ?? node.caller).handle, &call, bp_view(uri),
        bp_completion(
          context: Unmanaged.passRetained(end).toOpaque(),
          complete: { context, result in
            Unmanaged<End>.fromOpaque(context!).takeRetainedValue().code.set(result!.pointee.code)
          }, chunk: nil))
    }
    return end.code.soon()
  }

  @Test(arguments: [ScriptedBackend.Style.direct, .ownThread])
  func everyOneThatEndsIsCountedAndFailuresAreTheNodesOwn(_ style: ScriptedBackend.Style) throws {
    let node = WalkNode()
    let backend = ScriptedBackend(style)
    let schema = node.instance("schema", .schema, ScriptedSchema())
    node.publish(schema: schema, backends: [node.instance("backend", .backend, backend)])
    #expect(counts(node).keys.sorted() == ["list", "read", "read_multi", "receive", "remove"])
    #expect(counts(node).values.allSatisfy { $0 == Counts(calls: 0, failures: 0, timeNs: 0, bucketed: 0) })

    let uri = "acct://toy/a"
    #expect(node.receive(uri, "1").answer.soon()?.code == BP_OK)
    #expect(read(node, uri) == BP_OK)
    #expect(read(node, "acct://toy/none") == BP_NOT_FOUND)
    #expect(read(node, "nonsense") == BP_INVALID_ARGUMENT)
    // A schema's reads are part of what it judges.
    #expect(read(node, uri, as: schema) == BP_OK)
    #expect(node.remove(uri).answer.soon()?.code == BP_OK)
    #expect(node.remove(uri).answer.soon()?.code == BP_NOT_FOUND)
    backend.fail(BP_UNAVAILABLE)
    #expect(node.receive(uri, "2").answer.soon()?.code == BP_UNAVAILABLE)
    // The answer comes before the count.
    #expect(
      eventually {
        let now = counts(node)
        return now["receive"]?.calls == 2 && now["read"]?.calls == 3 && now["remove"]?.calls == 2
      })
    let now = counts(node)
    #expect(now["receive"]?.failures == 1 && now["read"]?.failures == 0 && now["remove"]?.failures == 0)
    #expect(now["list"]?.calls == 0 && now["read_multi"]?.calls == 0)
    for (name, counts) in now where counts.calls > 0 {
      #expect(counts.timeNs > 0 && counts.timeNs < 60_000_000_000, "\(name)")
      #expect(counts.bucketed == counts.calls, "\(name)")
    }
    let text = KernelMetrics.text(node.context)
    #expect(text.contains("\nbackplane_requests_total{operation=\"receive\",code=\"unavailable\"} 1\n"))
    #expect(text.contains("\nbackplane_requests_total{operation=\"read\",code=\"ok\"} 1\n"))
    #expect(text.contains("\nbackplane_request_seconds_count{operation=\"remove\"} 2\n"))
    #expect(node.shutDown())
  }

  @Test func aKernelThatGoesOnGoesOnCounting() {
    let (old, new) = (NodeOperations(), NodeOperations())
    old.record(.list, BP_OK, elapsedNs: 300)
    old.record(.list, BP_INTERNAL, elapsedNs: 100)
    new.record(.list, BP_NOT_FOUND, elapsedNs: 1)
    new.add(old.all)
    let list = new.snapshot(.list)
    #expect(list.count == 3 && list.failures == 1 && list.sumNs == 401)
    #expect(list.buckets[0] == 2 && list.buckets[1] == 1)
  }
}
