import BackplaneABI
import Glibc
import Synchronization
import Testing

@testable import Kernel

/// What subscribers see of writes that go through the node.
struct FeedWalkTests {
  /// The next item, which is to be a write.
  private func text(_ listener: FeedListener) -> String? { listener.inbox.next()?.text }

  @Test func whatIsAcceptedComesAndWhatIsNotDoesNot() throws {
    let walk = FeedBench()
    #expect(walk.write("acct://toy/before", "0")?.code == BP_OK)
    #expect(!walk.feed.isActive && walk.feed.position == 0)
    let (listener, token) = walk.node.subscribe("")
    let place = try #require(listener.inbox.next())
    #expect(place.isPlace && !place.isGap && place.epoch != 0 && place.uri.isEmpty)
    #expect(walk.write("acct://toy/a", "1")?.code == BP_OK)
    // Refused by the schema, by the backend, by a condition, because there is nothing.
    #expect(walk.write("acct://toy/b", "after acct://toy/none")?.code == BP_REJECTED)
    #expect(walk.write("acct://unknown/b", "1")?.code == BP_REJECTED)
    walk.backends[0].fail(BP_UNAVAILABLE)
    #expect(walk.write("acct://toy/b", "1")?.code == BP_UNAVAILABLE)
    walk.backends[0].fail(nil)
    #expect(walk.write("acct://toy/a", "once")?.code == BP_FAILED_PRECONDITION)
    #expect(walk.remove("acct://toy/none")?.code == BP_NOT_FOUND)
    #expect(walk.remove("acct://toy/before")?.code == BP_OK)
    #expect(walk.write("ACCT://toy//x/../c", "2")?.code == BP_OK)
    let items = (0..<3).compactMap { _ in listener.inbox.next() }
    #expect(items.map(\.uri) == ["acct://toy/a", "acct://toy/before", "acct://toy/c"])
    #expect(items.map(\.verb) == [BP_VERB_PUT, BP_VERB_DELETE, BP_VERB_PUT])
    #expect(items.map(\.text) == ["1", "", "2"])
    #expect(items.map(\.position) == [1, 2, 3].map { place.position + $0 })
    #expect(items.map(\.version) == items.map(\.version).sorted() && items[0].version != 0)
    #expect(items[2].version == walk.backends[0].records["acct://toy/c"]?.version)
    #expect(items.allSatisfy { $0.epoch == place.epoch && $0.flags == 0 })
    walk.node.cancel(token)
    #expect(listener.end.soon()?.code == BP_CANCELLED)
    #expect(walk.write("acct://toy/a", "3")?.code == BP_OK)
    #expect(walk.node.shutDown())
    #expect(listener.items.count == 4 && listener.faults == 0)
    let endsCount = listener.endsCount.load(ordering: .acquiring)
    #expect(endsCount == 1)
  }

  @Test func prefixesAreNormalisedAndMatchSegments() throws {
    let walk = FeedBench()
    let prefixes = ["acct://toy/a", "ACCT://toy/a/", "acct://toy", "acct://toy/ab", "msg://open"]
    let listeners = prefixes.map { walk.node.subscribe($0).listener }
    for listener in listeners { #expect(listener.inbox.next()?.isPlace == true) }
    for uri in ["acct://toy/a", "acct://toy/a/b", "acct://toy/ab", "acct://toy/abc"] {
      #expect(walk.write(uri, uri)?.code == BP_OK)
    }
    #expect(walk.write("msg://open/1", "acct://toy/ab/c x")?.code == BP_OK)
    #expect(listeners[4].inbox.next()?.uri == "msg://open/1")
    #expect(eventually { listeners[2].items.count == 6 })
    #expect(listeners[0].items.dropFirst().map(\.uri) == ["acct://toy/a", "acct://toy/a/b"])
    #expect(listeners[1].items.dropFirst().map(\.uri) == ["acct://toy/a", "acct://toy/a/b"])
    #expect(listeners[3].items.dropFirst().map(\.uri) == ["acct://toy/ab", "acct://toy/ab/c"])
    // Those that are none.
    for prefix in ["acct", "/a", String(repeating: "a", count: 10_000)] {
      let (refused, token) = walk.node.subscribe(prefix)
      #expect(refused.end.soon()?.code == BP_INVALID_ARGUMENT && token == 0, "\(prefix.prefix(20))")
    }
    let bare = walk.node.subscribe("acct://toy/a", flags: BP_SUBSCRIBE_WITHOUT_DATA).listener
    #expect(walk.write("acct://toy/a", "1")?.code == BP_OK && walk.remove("acct://toy/a")?.code == BP_OK)
    _ = bare.inbox.next()
    let put = bare.inbox.next()
    #expect(put?.flags == BP_FEED_NO_DATA && put?.text == "" && put?.uri == "acct://toy/a")
    #expect(bare.inbox.next()?.flags == 0)
    #expect(walk.node.shutDown())
  }

  @Test func largeDataIsAnnouncedWithoutIt() throws {
    let walk = FeedBench()
    walk.feed.apply(FeedSettings(itemSizeBytesMax: 10))
    let listener = walk.node.subscribe("").listener
    _ = listener.inbox.next()
    #expect(walk.write("acct://toy/a", "0123456789")?.code == BP_OK)
    #expect(walk.write("acct://toy/b", "0123456789a")?.code == BP_OK)
    #expect(text(listener) == "0123456789")
    let large = listener.inbox.next()
    #expect(large?.flags == BP_FEED_NO_DATA && large?.text == "" && large?.uri == "acct://toy/b")
    #expect(walk.node.shutDown())
  }

  // MARK: Places

  @Test func oneWhoComesBackGoesOnWhereItStopped() throws {
    let walk = FeedBench()
    let (first, token) = walk.node.subscribe("acct://toy")
    _ = first.inbox.next()
    for number in 0..<5 { #expect(walk.write("acct://toy/\(number)", "\(number)")?.code == BP_OK) }
    let seen = try #require((0..<3).compactMap { _ in first.inbox.next() }.last)
    walk.node.cancel(token)
    #expect(first.end.soon() != nil)
    for number in 5..<8 { #expect(walk.write("acct://toy/\(number)", "\(number)")?.code == BP_OK) }
    let again = walk.node.subscribe("acct://toy", after: (seen.epoch, seen.position)).listener
    let place = try #require(again.inbox.next())
    #expect(place.isPlace && !place.isGap && place.position == seen.position)
    #expect((3..<8).map { "\($0)" } == (3..<8).compactMap { _ in text(again) })
    // A place of another process, and one that has never been.
    for place in [(seen.epoch ^ 1, seen.position), (seen.epoch, seen.position + 1000)] {
      let lost = walk.node.subscribe("acct://toy", after: place).listener
      let told = try #require(lost.inbox.next())
      #expect(told.isPlace && told.isGap && told.epoch == seen.epoch)
      // With the oldest that is left.
      #expect(text(lost) == "0")
    }
    #expect(walk.node.shutDown())
  }

  @Test func oneWhoFallsOffTheRingIsTold() throws {
    let walk = FeedBench()
    walk.feed.apply(FeedSettings(recordsMax: 10))
    let (slow, token) = walk.node.subscribe("", credits: 2)
    _ = slow.inbox.next()
    for number in 0..<30 { #expect(walk.write("acct://toy/a", "\(number)")?.code == BP_OK) }
    #expect(text(slow) == "0")
    #expect(walk.node.grant(token, 4) == BP_OK)
    let gap = try #require(slow.inbox.next())
    #expect(gap.isPlace && gap.isGap)
    #expect((0..<3).compactMap { _ in text(slow) } == ["20", "21", "22"])
    // Somebody whom nothing concerned that was lost has lost nothing.
    let (other, otherToken) = walk.node.subscribe("acct://toy/b", credits: 1)
    _ = other.inbox.next()
    for number in 0..<30 { #expect(walk.write("acct://toy/a", "\(number)")?.code == BP_OK) }
    #expect(walk.write("acct://toy/b", "mine")?.code == BP_OK)
    #expect(walk.node.grant(otherToken, 2) == BP_OK)
    let mine = try #require(other.inbox.next())
    #expect(mine.text == "mine" && !mine.isGap)
    #expect(walk.node.shutDown())
  }

  /// Who hears nothing keeps a place that is in the ring, and is not told of a gap when it comes back.
  @Test func oneWhoHearsNothingIsToldWhereItStands() throws {
    let walk = FeedBench()
    walk.feed.apply(FeedSettings(recordsMax: 40))
    let (quiet, token) = walk.node.subscribe("acct://toy/quiet")
    let (idle, idleToken) = walk.node.subscribe("acct://toy/idle", credits: 1)
    let first = try #require(quiet.inbox.next())
    #expect(idle.inbox.next()?.isPlace == true)
    for number in 0..<200 { #expect(walk.write("acct://toy/a", "\(number)")?.code == BP_OK) }
    #expect(eventually { quiet.items.last.map { $0.position + 10 >= walk.feed.position } ?? false })
    // A round now and then, not one for each quarter of a ring that turns fast.
    #expect(quiet.items.allSatisfy { $0.isPlace && !$0.isGap } && quiet.items.count <= 22)
    // Without a credit it is told nothing, and a place that it is told later is not in the way of a write.
    let idleCount = idle.itemsCount.load(ordering: .acquiring)
    #expect(idleCount == 1)
    #expect(walk.node.grant(idleToken, 2) == BP_OK)
    #expect(walk.write("acct://toy/idle", "mine")?.code == BP_OK)
    #expect(eventually { idle.items.last?.text == "mine" })
    #expect(idle.items.allSatisfy { !$0.isGap })
    walk.node.cancel(token)
    #expect(quiet.end.soon() != nil)
    let last = try #require(quiet.items.last)
    let (again, againToken) = walk.node.subscribe("acct://toy/quiet", after: (last.epoch, last.position))
    #expect(again.inbox.next()?.isGap == false)
    #expect(walk.write("acct://toy/quiet", "heard")?.code == BP_OK)
    #expect(text(again) == "heard")
    walk.node.cancel(againToken)
    let late = walk.node.subscribe("acct://toy/quiet", after: (first.epoch, first.position)).listener
    #expect(late.inbox.next()?.isGap == true)
    #expect(walk.node.shutDown())
  }

  /// Many quiet ones are told in slices, each once in a round, while others get their items.
  @Test func manyWhoHearNothingAreTold() throws {
    let walk = FeedBench()
    walk.feed.apply(FeedSettings(recordsMax: 400))
    let quiet = (0..<1_000).map { walk.node.subscribe("acct://toy/quiet/\($0)").listener }
    for listener in quiet { #expect(listener.inbox.next()?.isPlace == true) }
    let busy = walk.node.subscribe("acct://toy/a", credits: 1_000).listener
    #expect(busy.inbox.next()?.isPlace == true)
    for number in 0..<150 { #expect(walk.write("acct://toy/a", "\(number)")?.code == BP_OK) }
    for listener in quiet {
      let told = try #require(listener.inbox.next())
      #expect(told.isPlace && !told.isGap && told.position >= 100)
    }
    #expect(eventually { busy.items.count == 151 })
    // Who hears something is told by that where it stands.
    #expect(busy.items.dropFirst().allSatisfy { !$0.isPlace })
    #expect(walk.node.shutDown())
    #expect(quiet.allSatisfy { $0.items.count == 2 })
  }

  /// Nothing is queued for those who take nothing, and the ring has its bound.
  @Test func withoutCreditsNothingGrows() throws {
    let walk = FeedBench()
    walk.feed.apply(FeedSettings(recordsMax: 100, sizeBytesMax: 100_000))
    let idle = (0..<50).map { walk.node.subscribe($0 % 2 == 0 ? "" : "acct://toy/\($0)", credits: 0) }
    for number in 0..<2000 { #expect(walk.write("acct://toy/\(number % 50)", "\(number)")?.code == BP_OK) }
    let report = walk.feed.report
    #expect(report.records == 100 && report.sizeBytes <= 100_000 && report.subscriptions == 50)
    #expect(idle.allSatisfy { $0.listener.items.isEmpty })
    #expect(walk.node.grant(idle[0].token, 101) == BP_OK)
    #expect(idle[0].listener.inbox.next()?.isGap == true)
    #expect((1900..<2000).map { "\($0)" } == (0..<100).compactMap { _ in text(idle[0].listener) })
    #expect(walk.node.shutDown())
    #expect(idle.allSatisfy { $0.listener.end.get(untilNs: 0)?.code == BP_CANCELLED })
    #expect(walk.feed.report.subscriptions == 0)
  }

  @Test func theRingGoesSomeTimeAfterTheLastSubscriber() throws {
    let walk = FeedBench()
    var settings = FeedSettings()
    let (listener, token) = walk.node.subscribe("")
    let place = try #require(listener.inbox.next())
    #expect(walk.write("acct://toy/a", "1")?.code == BP_OK)
    walk.node.cancel(token)
    // It is kept for whoever comes back.
    #expect(walk.write("acct://toy/a", "2")?.code == BP_OK)
    #expect(walk.feed.isActive && walk.feed.report.records == 2)
    settings.retainNs = 0
    walk.feed.apply(settings)
    #expect(eventually { !walk.feed.isActive })
    #expect(walk.feed.report.records == 0 && walk.feed.report.sizeBytes == 0)
    #expect(walk.write("acct://toy/a", "3")?.code == BP_OK)
    walk.feed.apply(FeedSettings())
    let again = walk.node.subscribe("", after: (place.epoch, place.position)).listener
    let told = try #require(again.inbox.next())
    #expect(told.isGap && told.epoch != place.epoch && told.position >= place.position)
    #expect(walk.write("acct://toy/a", "4")?.code == BP_OK)
    #expect(text(again) == "4")
    #expect(walk.node.shutDown())
  }

  @Test func thereIsABoundThatSaysSo() throws {
    let walk = FeedBench()
    walk.feed.apply(FeedSettings(subscriptionsMax: 2))
    let (first, token) = walk.node.subscribe("")
    let second = walk.node.subscribe("").listener
    let refused = walk.node.subscribe("").listener
    #expect(refused.end.soon()?.code == BP_RESOURCE_EXHAUSTED)
    #expect(refused.end.soon()?.text.contains("feed.subscriptions_max") == true)
    walk.node.cancel(token)
    #expect(first.end.soon() != nil)
    let third = walk.node.subscribe("").listener
    #expect(third.inbox.next()?.isPlace == true && second.inbox.next()?.isPlace == true)
    let text = KernelMetrics.text(walk.node.context)
    #expect(text.contains("backplane_feed_subscriptions 2\n"))
    #expect(text.contains("backplane_feed_subscriptions_refused_total 1\n"))
    #expect(walk.node.shutDown())
  }

  // MARK: Callbacks

  @Test func creditsAreAllThatComes() throws {
    let walk = FeedBench()
    let (listener, token) = walk.node.subscribe("", credits: 1)
    for number in 0..<100 { #expect(walk.write("acct://toy/a", "\(number)")?.code == BP_OK) }
    #expect(listener.inbox.next()?.isPlace == true)
    for number in 0..<100 {
      let itemsCount = listener.itemsCount.load(ordering: .acquiring)
      #expect(itemsCount == number + 1)
      #expect(walk.node.grant(token, 1) == BP_OK)
      #expect(text(listener) == "\(number)")
    }
    #expect(listener.faults == 0)
    // Another's token, a finished one, and one that was never given.
    let stranger = walk.node.instance("strangers", .transport, ScriptedTransport())
    HostTable.pointer.pointee.cancel(stranger.handle, token)
    #expect(HostTable.pointer.pointee.grant(stranger.handle, token, 1) == BP_CLOSED)
    #expect(walk.node.grant(token ^ 64, 1) == BP_CLOSED)
    #expect(listener.end.get(untilNs: 0) == nil)
    walk.node.cancel(token)
    #expect(listener.end.soon()?.code == BP_CANCELLED)
    #expect(walk.node.grant(token, 1) == BP_CLOSED)
    walk.node.cancel(token)
    #expect(walk.node.shutDown())
  }

  @Test func aSubscriberMayCallBackAndMayBeSlow() throws {
    let walk = FeedBench()
    let tokens = Mutex<[bp_token]>([0, 0])
    let isLetGo = Promise<Bool>()
    // One grants and cancels from within, one keeps the feed's thread.
    let busy = FeedListener { item in
      let token = tokens.withLock { $0[0] }
      if item.text == "5" { return walk.node.cancel(token) }
      if token != 0 { _ = walk.node.grant(token, 1) }
    }
    let slow = FeedListener { item in if item.text == "0" { _ = isLetGo.soon() } }
    let (_, busyToken) = walk.node.subscribe("", credits: 2, into: busy)
    tokens.withLock { $0[0] = busyToken }
    _ = walk.node.grant(busyToken, 1)
    let (_, slowToken) = walk.node.subscribe("", into: slow)
    #expect(slow.inbox.next()?.isPlace == true)
    // Who writes does not wait for who reads.
    for number in 0..<10 { #expect(walk.write("acct://toy/a", "\(number)")?.code == BP_OK) }
    #expect(slow.end.get(untilNs: 0) == nil)
    walk.node.cancel(slowToken)
    // It is told when it comes back, not before.
    #expect(slow.end.get(untilNs: 0) == nil)
    isLetGo.set(true)
    #expect(slow.end.soon()?.code == BP_CANCELLED)
    #expect(busy.end.soon()?.code == BP_CANCELLED)
    #expect(slow.items.map(\.text) == ["", "0"])
    #expect(busy.items.last?.text == "5" && busy.faults == 0 && slow.faults == 0)
    #expect(walk.node.shutDown())
  }

  // MARK: Instances

  @Test func aSubscriptionEndsBeforeItsInstanceIsStopped() throws {
    let walk = FeedBench()
    let transport = ScriptedTransport()
    let instance = Instance.scripted("sockets", .transport, transport, walk.node.context)
    let listeners = (0..<20).map { _ in walk.node.subscribe("", as: instance).listener }
    for listener in listeners { #expect(listener.inbox.next()?.isPlace == true) }
    let outgoing = instance.outgoing.load(ordering: .acquiring)
    #expect(outgoing == 20)
    #expect(LifeCycle.retire(instance, quiesceMs: 1000, stopMs: 5000))
    for listener in listeners { #expect(listener.end.get(untilNs: 0)?.code == BP_CANCELLED) }
    #expect(transport.stopped.get(untilNs: 0) == true)
    let late = walk.node.subscribe("", as: instance).listener
    #expect(late.end.soon()?.code == BP_CLOSED)
    #expect(walk.node.shutDown())
  }

  /// A subscription holds no lease: the generation in which it began goes, and it goes on.
  @Test func aReloadDoesNotTouchIt() throws {
    let walk = FeedBench()
    let listener = walk.node.subscribe("acct://toy").listener
    let place = try #require(listener.inbox.next())
    #expect(walk.write("acct://toy/a", "1")?.code == BP_OK)
    let number = walk.node.context.ring.currentNumber
    let backend = ScriptedBackend(.direct)
    walk.node.publish(
      schema: walk.node.instance("envelopes", .schema, ScriptedSchema()),
      backends: [walk.node.instance("backend-0", .backend, backend)])
    #expect(walk.backends[0].destroyed.soon() == true)
    #expect(walk.node.context.ring.leases(number) == 0)
    #expect(walk.write("acct://toy/b", "2")?.code == BP_OK)
    #expect((0..<2).compactMap { _ in text(listener) } == ["1", "2"])
    #expect(listener.items.last?.position == place.position + 2)
    #expect(eventually { walk.node.context.requests.count == 0 })
    #expect(walk.node.shutDown())
    #expect(listener.end.soon()?.code == BP_CANCELLED)
  }

  @Test func whenTheNodeGoesOnElsewhereSubscribersAreTold() throws {
    let walk = FeedBench()
    let listener = walk.node.subscribe("").listener
    _ = listener.inbox.next()
    walk.feed.close("the node goes on in another process: subscribe again")
    #expect(listener.end.soon()?.code == BP_UNAVAILABLE)
    #expect(walk.node.subscribe("").listener.end.soon()?.code == BP_UNAVAILABLE)
    #expect(walk.node.shutDown())
  }
}
