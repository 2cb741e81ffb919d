import BackplaneABI
import Glibc
import Synchronization

/// The accepted messages of a node, as they are accepted (feed.h): a ring of the last ones, and subscriptions that are
/// places in it.
///
/// Nothing is kept while nobody has subscribed. The ring begins with the first subscription and is let go some time
/// after the last one, so that a client that comes back goes on where it stopped.
final class Feed: @unchecked Sendable {
  // @unchecked: `thread` is only touched under the lock of `state`; everything else is atomic or under a lock.

  struct State {
    var ring = FeedRing(after: 0)
    /// Of the ring that is; 0: there is none.
    var epoch: UInt64 = 0
    var settings = FeedSettings()
    /// Subscriptions that are open.
    var count = 0
    /// When the last one went, CLOCK_MONOTONIC.
    var idleNs: UInt64 = 0
    /// The last record of a write that had no place in the order of its record's writes.
    var lastUnordered: UInt64 = 0
    /// No subscription is taken any more, for this reason.
    var closed: StaticString?
    var isStopped = false
  }

  struct Members {
    var index = FeedIndex<FeedSubscription>()
    /// Those that are to catch up.
    var queue: [FeedSubscription] = []
  }

  /// Marks a token of ours, beside the mark of requests.
  static let mark: bp_token = 3 << 62

  let state = Mutex(State())
  let members = Mutex(Members())
  private let names = Mutex<[bp_token: FeedSubscription]>([:])
  private let nextToken = Atomic<UInt64>(1)
  let bell = FeedBell()
  let counts = FeedCounts()
  private var thread: pthread_t?
  private let threadEnded = Promise<Bool>()

  private let active = Atomic<Bool>(false)
  private let newest = Atomic<UInt64>(0)

  /// Accepted writes are kept: they are to be made in the order of their records, and appended.
  @inline(__always)
  var isActive: Bool { active.load(ordering: .relaxed) }

  /// The last position that was given.
  var position: UInt64 { newest.load(ordering: .acquiring) }

  // MARK: Writing

  /// Appends an accepted message: its ops stand together, in their order.
  ///
  /// - Parameters:
  ///   - began: the position when the write went to the backends; 0 when nobody looked.
  ///   - isOrdered: no other ordered write of the same records was under way between `began` and now. One that is not
  ///     may have been done before or after another that is here already: what subscribers get is then a gap.
  func append(
    _ ops: UnsafeBufferPointer<bp_op>, timestampMs: UInt64, version: UInt64, began: UInt64, isOrdered: Bool
  ) {
    let (settings, epoch) = state.withLock { ($0.settings, $0.epoch) }
    guard epoch != 0 else { return }
    let dataSizeMax = min(settings.itemSizeBytesMax, settings.sizeBytesMax)
    let records = ops.map { FeedRecord($0, timestampMs: timestampMs, version: version, dataSizeMax: dataSizeMax) }
    let isHeard = state.withLock { state in
      guard state.epoch != 0 else { return false }
      let isDoubtful = !isOrdered || state.lastUnordered > began
      // Its own earlier ops are no others'.
      let before = state.ring.newest
      for record in records {
        if isDoubtful, Feed.isTouched(state.ring, from: began + 1, through: before, by: record) { record.becomeGap() }
        state.ring.append(record, state.settings)
      }
      newest.store(state.ring.newest, ordering: .releasing)
      if !isOrdered { state.lastUnordered = state.ring.newest }
      return state.count > 0
    }
    counts.records.add(UInt64(records.count), ordering: .relaxed)
    if isHeard { bell.ring() }
  }

  /// A backend of this node was written to by another process, which gives its place up to this one: its subscribers
  /// were there, and those here are told of a gap.
  func appendGap(_ ops: UnsafeBufferPointer<bp_op>) {
    guard isActive else { return }
    let records = ops.map { FeedRecord($0, timestampMs: 0, version: 0, dataSizeMax: 0) }
    let isHeard = state.withLock { state in
      guard state.epoch != 0 else { return false }
      for record in records {
        record.becomeGap()
        state.ring.append(record, state.settings)
      }
      newest.store(state.ring.newest, ordering: .releasing)
      state.lastUnordered = state.ring.newest
      return state.count > 0
    }
    if isHeard { bell.ring() }
  }

  private static func isTouched(
    _ ring: FeedRing, from first: UInt64, through last: UInt64, by record: FeedRecord
  ) -> Bool {
    var position = max(first, ring.oldest)
    while position <= last {
      let other = ring[position]!.uri
      if other.count == record.uri.count, other.elementsEqual(record.uri) { return true }
      position += 1
    }
    return false
  }

  // MARK: Subscribing

  enum Answer {
    /// Its name, for `grant` and `cancel`.
    case token(bp_token)
    case refused(CallFailure)
  }

  /// - Parameters:
  ///   - prefix: in normal form, without a slash at its end; empty: everything.
  ///   - ended: after the completion; not when it is refused.
  func subscribe(
    _ owner: bp_instance, prefix: [UInt8], _ request: bp_subscribe, _ completion: bp_completion,
    ended: @escaping @Sendable () -> Void
  ) -> Answer {
    let (epoch, position) = (request.epoch, request.position)
    let begun = state.withLock { state -> Result<Beginning, CallFailure> in
      if let closed = state.closed {
        return .failure(CallFailure(code: BP_UNAVAILABLE, "\(closed)", isRetryable: true))
      }
      guard state.count < state.settings.subscriptionsMax else {
        return .failure(
          CallFailure(
            code: BP_RESOURCE_EXHAUSTED,
            "the node has as many subscriptions as feed.subscriptions_max allows (\(state.settings.subscriptionsMax))",
            isRetryable: true))
      }
      guard startThread(state) else {
        return .failure(
          CallFailure(code: BP_RESOURCE_EXHAUSTED, "the system has no thread to give to the feed", isRetryable: true))
      }
      begin(&state)
      state.count += 1
      return .success(Feed.beginning(epoch, position, state))
    }
    switch begun {
    case .failure(let failure):
      counts.refused.add(1, ordering: .relaxed)
      return .refused(failure)
    case .success(let beginning):
      let subscription = FeedSubscription(
        owner: owner, prefix: prefix, flags: request.flags, epoch: beginning.epoch, next: beginning.after + 1,
        place: beginning.flags, credits: request.credits, completion, ended: ended)
      let token = Feed.mark | nextToken.add(1, ordering: .relaxed).oldValue
      subscription.token = token
      names.withLock { $0[token] = subscription }
      let isQueued = subscription.state.withLock { FeedSubscription.queue(&$0) }
      members.withLock { members in
        members.index.add(subscription)
        if isQueued { members.queue.append(subscription) }
      }
      bell.ring()
      return .token(token)
    }
  }

  /// Where a subscription begins: after which position, and what it is told of that.
  private struct Beginning {
    var epoch: UInt64
    var after: UInt64
    var flags: UInt32
  }

  private static func beginning(_ epoch: UInt64, _ position: UInt64, _ state: State) -> Beginning {
    if epoch == 0 { return Beginning(epoch: state.epoch, after: state.ring.newest, flags: 0) }
    if epoch == state.epoch, state.ring.holds(after: position) {
      return Beginning(epoch: epoch, after: position, flags: 0)
    }
    return Beginning(epoch: state.epoch, after: state.ring.oldest - 1, flags: BP_FEED_GAP)
  }

  private func begin(_ state: inout State) {
    guard state.epoch == 0 else { return }
    state.epoch = UInt64.random(in: 1...UInt64.max)
    state.ring = FeedRing(after: state.ring.newest)
    active.store(true, ordering: .sequentiallyConsistent)
  }

  /// Lets the ring go when nobody has wanted it for long enough. When to ask again, or nil.
  func letGo(nowNs: UInt64) -> UInt64? {
    let (ring, nextNs) = state.withLock { state -> (FeedRing?, UInt64?) in
      guard state.count == 0, state.epoch != 0 else { return (nil, nil) }
      let untilNs = state.idleNs + state.settings.retainNs
      guard nowNs >= untilNs else { return (nil, untilNs) }
      active.store(false, ordering: .sequentiallyConsistent)
      let ring = state.ring
      state.epoch = 0
      state.ring = FeedRing(after: ring.newest)
      return (ring, nil)
    }
    // Its records go outside of the lock.
    withExtendedLifetime(ring) {}
    return nextNs
  }

  func grant(_ owner: bp_instance, _ token: bp_token, _ credits: UInt32) -> bp_code {
    guard let subscription = names.withLock({ $0[token] }), subscription.owner == owner,
      let isQueued = subscription.grant(credits)
    else { return BP_CLOSED }
    if isQueued { enqueue(subscription) }
    return BP_OK
  }

  func enqueue(_ subscription: FeedSubscription) {
    members.withLock { $0.queue.append(subscription) }
    bell.ring()
  }

  // MARK: Ending

  func cancel(_ owner: bp_instance, _ token: bp_token) {
    end(owner, token, BP_CANCELLED, "the subscription was cancelled")
  }

  /// A token that is finished or another's does nothing.
  func end(_ owner: bp_instance, _ token: bp_token, _ code: bp_code, _ message: StaticString) {
    guard let subscription = names.withLock({ $0[token] }), subscription.owner == owner else { return }
    end(subscription, code, message)
  }

  /// Ends every subscription of one instance: it is being stopped.
  func cancelAll(of owner: bp_instance) {
    let own = names.withLock { names in names.isEmpty ? [] : names.values.filter { $0.owner == owner } }
    for subscription in own {
      end(subscription, BP_CANCELLED, "the instance is being stopped")
    }
  }

  /// Ends every subscription and takes no more: what is accepted from now on is accepted elsewhere.
  func close(_ reason: StaticString) {
    state.withLock { $0.closed = reason }
    for subscription in names.withLock({ Array($0.values) }) { end(subscription, BP_UNAVAILABLE, reason) }
  }

  private func end(_ subscription: FeedSubscription, _ code: bp_code, _ message: StaticString) {
    if subscription.end(code, message) { complete(subscription) }
  }

  /// Tells a subscription of its end, once.
  func complete(_ subscription: FeedSubscription) {
    names.withLock { _ = $0.removeValue(forKey: subscription.token) }
    members.withLock { $0.index.remove(subscription) }
    let isIdle = state.withLock { state in
      state.count -= 1
      if state.count == 0 { state.idleNs = Clock.monotonicNs() }
      return state.count == 0
    }
    // The thread is to look again when the ring may go.
    if isIdle { bell.ring() }
    subscription.complete()
  }

  // MARK: Settings

  func apply(_ settings: FeedSettings) {
    state.withLock { state in
      state.settings = settings
      state.ring.trim(settings)
    }
    bell.ring()
  }

  // MARK: The thread

  /// Under the lock of `state`.
  private func startThread(_ state: State) -> Bool {
    if thread != nil || state.isStopped { return thread != nil }
    thread = Thread.start(name: "bp-feed") { [self] in
      FeedWalk(self).run()
      threadEnded.set(true)
    }
    return thread != nil
  }

  /// Ends its thread; one that a plugin's code holds at `deadlineNs` is left behind, and the answer is false.
  func shutDown(untilNs deadlineNs: UInt64) -> Bool {
    close("the node is ending")
    let thread = state.withLock { state -> pthread_t? in
      state.isStopped = true
      defer { self.thread = nil }
      return self.thread
    }
    bell.ring()
    guard let thread else { return true }
    let hasEnded = threadEnded.get(untilNs: deadlineNs) != nil
    if hasEnded { pthread_join(thread, nil) } else { pthread_detach(thread) }
    return hasEnded
  }
}

/// What the feed counts.
final class FeedCounts: Sendable {
  let records = Atomic<UInt64>(0)
  let delivered = Atomic<UInt64>(0)
  let gaps = Atomic<UInt64>(0)
  let refused = Atomic<UInt64>(0)
}

extension Feed {
  struct Report {
    var subscriptions: Int
    var records: Int
    var sizeBytes: Int
    var settings: FeedSettings
  }

  var report: Report {
    state.withLock {
      Report(
        subscriptions: $0.count, records: $0.ring.count, sizeBytes: $0.ring.sizeBytes, settings: $0.settings)
    }
  }
}
