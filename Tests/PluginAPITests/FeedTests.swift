import PluginAPI
import PluginTestHost
import Synchronization
import Testing

/// A transport that does nothing but show its context.
private final class Watcher: Transport {
  /// By slot.
  static let contexts = Mutex<[String: Context]>([:])

  init(_ configuration: NoConfiguration, _ context: Context) {
    Watcher.contexts.withLock { $0[context.slot] = context }
  }

  func connections() -> Int { 0 }
}

private let watcher = PluginEntry(Watcher.self, id: "org.example.watcher", version: "1.0.0") {
  Watcher.create($0, $1, $2)
}

/// A started transport with a scripted feed.
private struct Bench {
  let feed = ScriptedFeed()
  let host: TestHost
  let context: Context

  init(_ slot: String, node: (ScriptedFeed) -> InMemoryNode = { InMemoryNode(feed: $0) }) async throws {
    host = try TestHost(entry: watcher.pointer, slot: slot, node: node(feed), feed: feed)
    try await host.start()
    context = Watcher.contexts.withLock { $0[slot]! }
  }

  /// Subscribes with the raw form; items arrive in the stream.
  func subscribe(
    _ prefix: String, after: FeedPlace? = nil, credits: UInt32, withoutData: Bool = false
  ) -> (FeedSubscription, AsyncStream<FeedItem>.AsyncIterator, end: AsyncStream<Failure>.AsyncIterator) {
    let (items, next) = AsyncStream.makeStream(of: FeedItem.self)
    let (ends, end) = AsyncStream.makeStream(of: Failure.self)
    let subscription = context.feed.subscribe(
      to: prefix, after: after, credits: credits, withoutData: withoutData,
      received: { item, _ in next.yield(FeedItem(item)) },
      ended: {
        next.finish()
        end.yield($0)
        end.finish()
      })
    return (subscription, items.makeAsyncIterator(), ends.makeAsyncIterator())
  }
}

@Suite struct FeedFaceTests {
  @Test func itemsComeAsFarAsThereAreCreditsAPlaceFirst() async throws {
    let bench = try await Bench("credits")
    var (subscription, items, end) = bench.subscribe("mutable://open/a", credits: 2)
    let place = try #require(await items.next())
    #expect(place == FeedItem(change: .place, uri: "", place: bench.feed.place))
    bench.feed.publish("mutable://open/b", Array("0".utf8))
    bench.feed.publish("mutable://open/a/x", Array("1".utf8), timestampMs: 5, version: 6)
    bench.feed.publish("mutable://open/ab", Array("0".utf8))
    bench.feed.publishDelete("mutable://open/a", version: 7)
    let first = try #require(await items.next())
    #expect(first.change == .put(data: Array("1".utf8), content: .json))
    #expect(first.uri == "mutable://open/a/x" && first.timestampMs == 5 && first.version == 6 && !first.isGap)
    #expect(bench.feed.subscribers.map(\.credits) == [0])
    subscription.grant(1)
    let second = try #require(await items.next())
    #expect(second.change == .delete && second.uri == "mutable://open/a")
    #expect(second.place.position == first.place.position + 2)
    subscription.cancel()
    #expect(await items.next() == nil)
    #expect(await end.next()?.code == BP_CANCELLED)
    try await bench.host.stop()
    #expect(bench.host.violations.isEmpty)
  }

  @Test func aPlaceIsResumedAndALostOneIsAGap() async throws {
    let bench = try await Bench("resume")
    let start = bench.feed.place
    let one = bench.feed.publish("mutable://open/1", Array("1".utf8))
    bench.feed.publish("mutable://open/2", nil)
    var (_, items, _) = bench.subscribe("", after: one, credits: 10)
    #expect(await items.next() == FeedItem(change: .place, uri: "", place: one))
    #expect(await items.next()?.change == .put(data: nil, content: .json))
    bench.feed.lose()
    let lost = bench.feed.place
    var (_, others, _) = bench.subscribe("", after: start, credits: 10)
    #expect(await others.next() == FeedItem(change: .place, isGap: true, uri: "", place: lost))
    var (_, foreign, _) = bench.subscribe("", after: FeedPlace(epoch: 1, position: lost.position), credits: 10)
    #expect(await foreign.next()?.isGap == true)
    try await bench.host.stop()
    #expect(bench.host.violations.isEmpty)
  }

  @Test func whoeverIsSlowIsToldOfAGap() async throws {
    let bench = try await Bench("slow")
    var (subscription, items, _) = bench.subscribe("", credits: 1)
    #expect(await items.next()?.change == .place)
    bench.feed.publish("mutable://open/1", Array("1".utf8))
    bench.feed.lose()
    bench.feed.publish("mutable://open/2", Array("2".utf8))
    subscription.grant(2)
    let gap = try #require(await items.next())
    #expect(gap.isGap && gap.change == .place)
    #expect(await items.next()?.uri == "mutable://open/2")
    try await bench.host.stop()
  }

  @Test func subscriptionsAreRefusedAndEndedWithASentence() async throws {
    let bench = try await Bench("refused")
    var (_, items, end) = bench.subscribe("no uri", credits: 1)
    #expect(await items.next() == nil)
    #expect(await end.next()?.code == BP_INVALID_ARGUMENT)
    bench.feed.refuse(.exhausted("there are as many subscriptions as feed.subscriptions_max allows"))
    var (_, _, refused) = bench.subscribe("", credits: 1)
    #expect(await refused.next()?.code == BP_RESOURCE_EXHAUSTED)
    bench.feed.refuse(nil)
    var (_, rest, stopped) = bench.subscribe("", credits: 0)
    await bench.feed.awaitSubscribers(1)
    try await bench.host.stop()
    #expect(await rest.next() == nil)
    #expect(await stopped.next()?.code == BP_CANCELLED)
    #expect(bench.feed.subscribers.isEmpty)
    #expect(bench.host.violations.isEmpty)
  }

  @Test func aLoopTakesWhatIsAcceptedAndEndsWithTheInstance() async throws {
    let bench = try await Bench("loop")
    let seen = Task { [context = bench.context] in
      var uris: [String] = []
      // Fewer credits than items: what the loop takes is granted anew.
      for try await item in context.subscribe(prefix: "mutable://open", credits: 4) { uris.append(item.uri) }
      return uris
    }
    await bench.feed.awaitSubscribers(1)
    let node = bench.context.node
    for index in 0..<100 { try await node.receive("mutable://open/\(index)", Array("1".utf8)) }
    _ = try await node.delete("mutable://open/7")
    while bench.feed.subscribers.first?.itemsCount ?? 102 < 102 { await Task.yield() }
    try await bench.host.stop()
    let uris = try await seen.value
    // What came and had not been taken when the instance was stopped is taken before the end.
    #expect(uris == [""] + (0..<100).map { "mutable://open/\($0)" } + ["mutable://open/7"])
  }

  @Test func aLoopThatIsCancelledLeavesNoSubscription() async throws {
    let bench = try await Bench("cancelled")
    let loop = Task { [context = bench.context] in
      for try await _ in context.subscribe(prefix: "") {}
    }
    await bench.feed.awaitSubscribers(1)
    loop.cancel()
    try await loop.value
    await bench.feed.awaitSubscribers(0)
    let refused = Task { [context = bench.context] in
      for try await _ in context.subscribe(prefix: "no uri") {}
    }
    await #expect(throws: Failure.self) { try await refused.value }
    try await bench.host.stop()
  }
}
