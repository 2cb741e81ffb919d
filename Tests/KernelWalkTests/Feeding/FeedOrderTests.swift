import BackplaneABI
import Synchronization
import Testing

@testable import Kernel

/// Writers of the same records at the same time: what subscribers see last of each is what the record holds.
struct FeedOrderTests {
  private static let styles: [[ScriptedBackend.Style]] = [
    [.direct], [.ownThread], [.direct, .ownThread], [.ownThread, .ownThread, .direct],
  ]

  /// The items of a listener when it has as many as there were writes.
  private func writes(_ listener: FeedListener, _ count: Int) -> [FeedListener.Item] {
    _ = eventually { listener.items.filter { !$0.isPlace }.count >= count }
    return listener.items.filter { !$0.isPlace }
  }

  @Test(arguments: styles)
  func itemsOfARecordComeInTheOrderOfItsVersions(_ styles: [ScriptedBackend.Style]) throws {
    let bench = FeedBench(styles)
    let (node, backends) = (bench.node, bench.backends)
    let listener = node.subscribe("").listener
    #expect(listener.inbox.next()?.isPlace == true)
    onThreads(12) { thread in
      for round in 0..<30 {
        let text =
          round % 3 == 0
          ? "acct://toy/\(round % 5) \(thread).\(round)\nacct://toy/\((round + 1) % 5) \(thread).\(round)"
          : "acct://toy/x \(thread).\(round)"
        #expect(bench.write("msg://open/\(round % 4)", text)?.code == BP_OK)
        if round % 7 == 0 { #expect(bench.remove("acct://toy/0") != nil) }
      }
    }
    // Each message is its envelope and its outputs.
    let puts = 12 * (10 * 3 + 20 * 2)
    let items = writes(listener, puts)
    #expect(items.filter { $0.verb == BP_VERB_PUT }.count == puts)
    #expect(listener.items.allSatisfy { !$0.isGap } && listener.faults == 0)
    #expect(zip(items, items.dropFirst()).allSatisfy { $0.position + 1 == $1.position })
    for (uri, items) in Dictionary(grouping: items, by: \.uri) {
      #expect(zip(items, items.dropFirst()).allSatisfy { $0.version < $1.version }, "\(uri)")
      let last = try #require(items.last)
      for backend in backends {
        #expect(backend.records[uri]?.text == (last.verb == BP_VERB_PUT ? last.text : nil), "\(uri)")
      }
    }
    // The ops of a message stand together, in their order.
    for (version, ops) in Dictionary(grouping: items, by: \.version) {
      #expect(ops.last!.position - ops[0].position == UInt64(ops.count - 1), "version \(version)")
      if ops.count > 1 { #expect(ops[0].uri.hasPrefix("msg://open/") && ops.map(\.text)[0].contains(ops[1].text)) }
    }
    #expect(node.shutDown())
  }

  /// The first subscriber comes while writes are under way, whose order nobody has looked after: whoever believes the
  /// items, and reads again after a gap, has what the node has.
  @Test(arguments: 0..<10)
  func theFirstSubscriberMayComeInTheMiddle(_ round: Int) throws {
    let bench = FeedBench([round % 2 == 0 ? .ownThread : .direct])
    let (node, backend) = (bench.node, bench.backends[0])
    let known = Mutex<[String: String?]>([:])
    let listener = FeedListener { item in
      known.withLock { known in
        if item.isPlace { return known = item.isGap ? backend.records.mapValues { $0.text } : known }
        known[item.uri] = .some(item.verb == BP_VERB_PUT ? item.text : nil)
      }
    }
    let written = Atomic<Int>(0)
    onThreads(9) { thread in
      if thread == 8 {
        while written.load(ordering: .acquiring) < 40 + round * 20 {}
        _ = bench.node.subscribe("acct://toy", into: listener)
        return
      }
      for number in 0..<100 {
        _ = bench.write("acct://toy/\(number % 3)", "\(thread).\(number)")
        written.add(1, ordering: .acquiringAndReleasing)
      }
    }
    for number in 0..<3 { #expect(node.receive("acct://toy/last/\(number)", "x").answer.soon()?.code == BP_OK) }
    #expect(eventually { listener.items.last?.uri == "acct://toy/last/2" })
    for (uri, text) in known.withLock({ $0 }) { #expect(backend.records[uri]?.text == text, "\(uri)") }
    #expect(listener.faults == 0)
    #expect(node.shutDown())
  }

  /// A write that went out before anybody subscribed, and is accepted after another one of its record.
  @Test func aWriteWithoutAPlaceInLineIsAGapWhereItsOrderIsNotKnown() throws {
    let bench = FeedBench([.held])
    let (node, backend) = (bench.node, bench.backends[0])
    let stray = node.receive("acct://toy/a", "stray")
    let other = node.receive("acct://toy/b", "other")
    let (heldStray, heldOther) = (try #require(backend.held.next()), try #require(backend.held.next()))
    let listener = node.subscribe("").listener
    let elsewhere = node.subscribe("acct://toy/b").listener
    #expect(listener.inbox.next()?.isPlace == true && elsewhere.inbox.next()?.isPlace == true)
    let later = node.receive("acct://toy/a", "later")
    backend.finish(try #require(backend.held.next()))
    #expect(later.answer.soon()?.code == BP_OK)
    backend.finish(heldStray)
    backend.finish(heldOther)
    #expect(stray.answer.soon()?.code == BP_OK && other.answer.soon()?.code == BP_OK)
    #expect(listener.inbox.next()?.text == "later")
    let gap = try #require(listener.inbox.next())
    #expect(gap.isGap && gap.isPlace && gap.uri.isEmpty)
    // One that is alone with its record is as good as any.
    #expect(listener.inbox.next()?.text == "other")
    #expect(elsewhere.inbox.next()?.text == "other")
    #expect(backend.records["acct://toy/a"]?.text == "stray")
    // From now on there is a line.
    let (second, third) = (node.receive("acct://toy/a", "2"), node.receive("acct://toy/a", "3"))
    let heldSecond = try #require(backend.held.next())
    #expect(backend.held.takeAll().isEmpty)
    backend.finish(heldSecond)
    backend.finish(try #require(backend.held.next()))
    #expect(second.answer.soon()?.code == BP_OK && third.answer.soon()?.code == BP_OK)
    #expect(listener.inbox.next()?.text == "2" && listener.inbox.next()?.text == "3")
    #expect(eventually { node.context.writeOrder.count == 0 })
    #expect(node.shutDown())
  }

  /// What a backend missed is on record before the write is accepted; the order holds all the same, and the repair
  /// that follows is nothing new.
  @Test func missedWritesComeOnceAndInOrder() throws {
    let bench = FeedBench([.direct, .ownThread], .any)
    let (node, backends) = (bench.node, bench.backends)
    let listener = node.subscribe("").listener
    #expect(listener.inbox.next()?.isPlace == true)
    backends[1].fail(BP_UNAVAILABLE)
    onThreads(6) { thread in
      for number in 0..<20 {
        #expect(bench.write("acct://toy/\(number % 2)", "\(thread).\(number)")?.code == BP_OK)
      }
    }
    backends[1].fail(nil)
    #expect(eventually { backends[1].records.count == 2 && backends[0].records == backends[1].records })
    #expect(node.receive("acct://toy/end", "end").answer.soon()?.code == BP_OK)
    let items = writes(listener, 121)
    #expect(items.count == 121 && items.last?.uri == "acct://toy/end")
    for (uri, items) in Dictionary(grouping: items, by: \.uri) {
      #expect(zip(items, items.dropFirst()).allSatisfy { $0.version < $1.version }, "\(uri)")
      #expect(backends[0].records[uri]?.text == items.last?.text)
    }
    #expect(eventually { node.context.writeOrder.count == 0 })
    #expect(node.shutDown())
  }

  /// A write whose client has been told that it failed is none, whatever the backend does later.
  @Test func aWriteThatWasGivenUpDoesNotAppear() throws {
    let bench = FeedBench([.held])
    let (node, backend) = (bench.node, bench.backends[0])
    let listener = node.subscribe("").listener
    #expect(listener.inbox.next()?.isPlace == true)
    let late = node.receive("acct://toy/a", "late", within: 1_000)
    let held = try #require(backend.held.next())
    #expect(late.answer.soon()?.code == BP_DEADLINE_EXCEEDED)
    backend.finish(held)
    let next = node.receive("acct://toy/a", "next")
    backend.finish(try #require(backend.held.next()))
    #expect(next.answer.soon()?.code == BP_OK)
    #expect(listener.inbox.next()?.text == "next")
    #expect(node.shutDown())
  }
}
