import Glibc
import PluginAPI
import Synchronization

/// What stands behind backplane.feed/1 of a test host: nothing happens in it but what the test publishes. It keeps all
/// of it, so that a subscription may begin at any place of it.
///
/// Items come as the kernel's do: on a thread of the host's, one at a time for each subscription, as far as there are
/// credits, a place first.
public final class ScriptedFeed: Sendable {
  /// A subscription as the test sees it.
  public struct Subscriber: Sendable, Equatable {
    public let prefix: String
    public let after: FeedPlace?
    public let isWithoutData: Bool
    /// Items that may come now.
    public var credits: UInt64
    /// Items that came so far.
    public var itemsCount = 0
  }

  /// Places of this feed have it.
  public let epoch: UInt64

  struct Subscription {
    let core: HostCore
    let completion: Completion
    let ended = OneShot<Void>()
    var subscriber: Subscriber
    var position: UInt64
    /// The place that is to be told next, with these flags.
    var place: UInt32?
    var isRunning = false
    var end: Failure?
  }

  struct State {
    var items: [FeedItem] = []
    var position: UInt64 = 1000
    /// Items up to here are lost.
    var lost: UInt64 = 1000
    var nextToken: bp_token = ScriptedFeed.mark | 1
    var subscriptions: [bp_token: Subscription] = [:]
    var refusal: Failure?
    var waiters: [(count: Int, signal: OneShot<Void>)] = []
  }

  /// Tells its tokens from those of other calls to the host.
  static let mark: bp_token = 1 << 62

  let state = Mutex(State())

  /// - Parameter epoch: not 0.
  public init(epoch: UInt64 = 7) { self.epoch = epoch }

  // MARK: The script

  /// A write was accepted. Without `data` it is announced without.
  @discardableResult
  public func publish(
    _ uri: String, _ data: [UInt8]?, _ content: Content = .json, timestampMs: UInt64 = 0, version: UInt64 = 0
  ) -> FeedPlace {
    append(
      FeedItem(
        change: .put(data: data, content: content), uri: uri, place: place, timestampMs: timestampMs, version: version))
  }

  @discardableResult
  public func publishDelete(_ uri: String, timestampMs: UInt64 = 0, version: UInt64 = 0) -> FeedPlace {
    append(FeedItem(change: .delete, uri: uri, place: place, timestampMs: timestampMs, version: version))
  }

  /// Everything published so far is overwritten: whoever has not had it is told of a gap.
  public func lose() {
    let tokens = state.withLock { state -> [bp_token] in
      state.lost = state.position
      state.items = []
      return Array(state.subscriptions.keys)
    }
    for token in tokens { run(token) }
  }

  /// Every subscription from now on is refused with this; nil: none is.
  public func refuse(_ failure: Failure?) { state.withLock { $0.refusal = failure } }

  /// Where a subscription from now on begins.
  public var place: FeedPlace { FeedPlace(epoch: epoch, position: state.withLock { $0.position }) }

  /// The subscriptions that are open, the oldest first.
  public var subscribers: [Subscriber] {
    state.withLock { $0.subscriptions.sorted { $0.key < $1.key }.map(\.value.subscriber) }
  }

  /// Returns when exactly so many subscriptions are open.
  public func awaitSubscribers(_ count: Int) async {
    let signal = OneShot<Void>()
    state.withLock { state in
      if state.subscriptions.count == count { signal.set(()) } else { state.waiters.append((count, signal)) }
    }
    await signal.value
  }

  private func append(_ item: FeedItem) -> FeedPlace {
    let (position, tokens) = state.withLock { state -> (UInt64, [bp_token]) in
      state.position += 1
      var item = item
      item.place.position = state.position
      state.items.append(item)
      return (state.position, Array(state.subscriptions.keys))
    }
    for token in tokens { run(token) }
    return FeedPlace(epoch: epoch, position: position)
  }

  // MARK: What the plugin asks

  func subscribe(_ core: HostCore, _ request: bp_subscribe, _ completion: bp_completion) -> bp_token {
    let answer = Completion(completion)
    let prefix = request.prefix.text
    let isURI = prefix.isEmpty || core.node.normalise(prefix) != nil
    let refusal = isURI ? state.withLock { $0.refusal } : .invalid("'\(prefix)' is not a URI")
    if let refusal {
      answer.fail(refusal, as: bp_result.self)
      return 0
    }
    let normal = core.node.normalise(prefix) ?? ""
    let token = state.withLock { state in
      defer { state.nextToken += 1 }
      let isResumed = request.epoch != 0
      let isThere = request.epoch == epoch && request.position >= state.lost && request.position <= state.position
      state.subscriptions[state.nextToken] = Subscription(
        core: core, completion: answer,
        subscriber: Subscriber(
          prefix: normal, after: isResumed ? FeedPlace(epoch: request.epoch, position: request.position) : nil,
          isWithoutData: request.flags & BP_SUBSCRIBE_WITHOUT_DATA != 0, credits: UInt64(request.credits)),
        position: !isResumed ? state.position : isThere ? request.position : state.lost,
        place: isResumed && !isThere ? BP_FEED_PLACE | BP_FEED_GAP : BP_FEED_PLACE)
      return state.nextToken
    }
    wakeWaiters()
    run(token)
    return token
  }

  /// Nil when the token is no subscription's.
  func grant(_ core: HostCore, _ token: bp_token, _ credits: UInt32) -> bp_code? {
    guard token & ScriptedFeed.mark != 0 else { return nil }
    let isOpen = state.withLock { state in
      guard state.subscriptions[token]?.core === core else { return false }
      state.subscriptions[token]!.subscriber.credits += UInt64(credits)
      return true
    }
    if isOpen { run(token) }
    return isOpen ? BP_OK : BP_CLOSED
  }

  /// False when the token is no subscription's.
  func cancel(_ core: HostCore, _ token: bp_token) -> Bool {
    guard token & ScriptedFeed.mark != 0 else { return false }
    end(core, token, Failure(code: BP_CANCELLED, "the subscription was cancelled"))
    return true
  }

  /// The instance is being stopped. Returns when each of its subscriptions has been completed.
  func endAll(of core: HostCore) async {
    let open = state.withLock { $0.subscriptions.filter { $0.value.core === core } }
    for (token, subscription) in open {
      end(core, token, Failure(code: BP_CANCELLED, "the instance is being stopped"))
      await subscription.ended.value
    }
  }

  /// Likewise, for a caller that is no task. Blocks.
  func endAllAndWait(of core: HostCore) {
    let open = state.withLock { $0.subscriptions.filter { $0.value.core === core } }
    for (token, _) in open { end(core, token, Failure(code: BP_CANCELLED, "the instance is being stopped")) }
    while state.withLock({ $0.subscriptions.contains { $0.value.core === core } }) { usleep(1000) }
  }

  private func end(_ core: HostCore, _ token: bp_token, _ failure: Failure) {
    state.withLock { state in
      guard state.subscriptions[token]?.core === core, state.subscriptions[token]!.end == nil else { return }
      state.subscriptions[token]!.end = failure
    }
    run(token)
  }

  private func wakeWaiters() {
    let ready = state.withLock { state in
      let count = state.subscriptions.count
      defer { state.waiters.removeAll { $0.count == count } }
      return state.waiters.filter { $0.count == count }
    }
    for waiter in ready { waiter.signal.set(()) }
  }
}

// MARK: - Handing over

extension ScriptedFeed {
  private enum Step {
    case item(FeedItem, Completion, withoutData: Bool)
    case end(Failure, Completion, OneShot<Void>)
    case none
  }

  /// Hands over what one subscription may have now, on a thread of the host's.
  private func run(_ token: bp_token) {
    let isMine = state.withLock { state in
      guard let subscription = state.subscriptions[token], !subscription.isRunning else { return false }
      state.subscriptions[token]!.isRunning = true
      return true
    }
    guard isMine else { return }
    HostThread.detach { [self] in
      while true {
        switch state.withLock({ next(&$0, token) }) {
        case .none: return
        case .item(let item, let completion, let withoutData): item.hand(to: completion, withoutData: withoutData)
        case .end(let failure, let completion, let ended):
          completion.fail(failure, as: bp_result.self)
          state.withLock { _ = $0.subscriptions.removeValue(forKey: token) }
          ended.set(())
          return wakeWaiters()
        }
      }
    }
  }

  private func next(_ state: inout State, _ token: bp_token) -> Step {
    guard var subscription = state.subscriptions[token] else { return .none }
    if let end = subscription.end {
      // It stays, and this thread at it, until it has been completed.
      return .end(end, subscription.completion, subscription.ended)
    }
    if subscription.position < state.lost {
      subscription.position = state.lost
      subscription.place = BP_FEED_PLACE | BP_FEED_GAP
    }
    var found: FeedItem?
    if subscription.subscriber.credits > 0 {
      if let flags = subscription.place {
        subscription.place = nil
        found = FeedItem(
          change: .place, isGap: flags & BP_FEED_GAP != 0, uri: "",
          place: FeedPlace(epoch: epoch, position: subscription.position))
      } else {
        found = state.items.first {
          $0.place.position > subscription.position && $0.isBelow(subscription.subscriber.prefix)
        }
      }
    }
    if let found {
      subscription.position = found.place.position
      subscription.subscriber.credits -= 1
      subscription.subscriber.itemsCount += 1
    } else {
      subscription.isRunning = false
    }
    state.subscriptions[token] = subscription
    return found.map { .item($0, subscription.completion, withoutData: subscription.subscriber.isWithoutData) } ?? .none
  }
}

extension FeedItem {
  /// The record itself, or below it.
  fileprivate func isBelow(_ prefix: String) -> Bool {
    guard !prefix.isEmpty else { return true }
    let bare = prefix.hasSuffix("/") ? String(prefix.dropLast()) : prefix
    return uri == bare || uri.hasPrefix(bare + "/")
  }

  fileprivate func hand(to completion: Completion, withoutData: Bool) {
    var (flags, verb, content): (UInt32, UInt32, UInt32) = (isGap ? BP_FEED_GAP : 0, BP_VERB_PUT, 0)
    var bytes: [UInt8] = []
    switch change {
    case .place: flags |= BP_FEED_PLACE
    case .delete: verb = BP_VERB_DELETE
    case .put(let data, let kind):
      content = kind.rawValue
      if let data, !withoutData { bytes = data } else { flags |= BP_FEED_NO_DATA }
    }
    uri.withView { uri in
      bytes.withView { data in
        var item = bp_feed_item(
          chunk: bp_chunk(size: .size(of: bp_feed_item.self), count: 1, bytes: .empty), flags: flags, verb: verb,
          content: content, reserved: 0, epoch: place.epoch, position: place.position, ts_ms: timestampMs,
          version: version, uri: uri, data: data)
        completion.chunk(&item)
      }
    }
  }
}

/// backplane.feed/1 in front of a ScriptedFeed.
enum FeedTable {
  // nonisolated(unsafe): written once by its initialiser, read only, never freed.
  nonisolated(unsafe) static let pointer: UnsafePointer<bp_feed> = {
    let table = UnsafeMutablePointer<bp_feed>.allocate(capacity: 1)
    table.initialize(
      to: bp_feed(
        size: .size(of: bp_feed.self), reserved: 0,
        subscribe: { instance, _, request, completion in
          guard let core = HostRegistry.find(instance, "feed.subscribe") else {
            Completion(completion).fail(Failure(code: BP_CLOSED, "the instance is destroyed"), as: bp_result.self)
            return 0
          }
          guard !core.isProbe, core.life >= .starting, core.life < .stopped else {
            Completion(completion).fail(
              .unavailable("there is no feed here: \(core.isProbe ? "a probe" : "the instance does not serve")"),
              as: bp_result.self)
            return 0
          }
          guard completion.chunk != nil else {
            core.violate(.malformedResult, "feed.subscribe was called without bp_completion.chunk")
            Completion(completion).fail(.invalid("a subscription needs bp_completion.chunk"), as: bp_result.self)
            return 0
          }
          return core.feed.subscribe(core, request!.pointee, completion)
        }))
    return UnsafePointer(table)
  }()
}
