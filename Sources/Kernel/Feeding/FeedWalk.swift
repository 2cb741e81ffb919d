import BackplaneABI
import Synchronization

/// The feed's thread: walks along the ring and hands each record to the live subscriptions that want it, and lets those
/// that are behind catch up, a slice at a time, so that no one of them holds up the others.
final class FeedWalk {
  private let feed: Feed
  /// Everything up to here has been looked at for live subscriptions.
  private var walked: UInt64 = 0
  private var places = FeedPlaces()

  /// Records that are taken from the ring at once.
  private static let batchRecords = 64
  /// Records that one subscription looks at in its turn to catch up.
  private static let sliceRecords = 256

  init(_ feed: Feed) { self.feed = feed }

  func run() {
    while true {
      let hasCaughtUp = catchUp()
      let hasWalked = walk()
      let hasTold = tellPlaces()
      if hasCaughtUp || hasWalked || hasTold { continue }
      let (isOver, quarter) = feed.state.withLock { ($0.isStopped && $0.count == 0, $0.ring.quarter($0.settings)) }
      if isOver { return }
      let againNs = feed.letGo(nowNs: Clock.monotonicNs())
      feed.bell.sleep(untilNs: againNs ?? places.dueNs(at: walked, quarter: quarter)) {
        hasWork(isAsleepUntil: againNs)
      }
    }
  }

  /// Whether to stay awake: asked when every change from now on rings.
  private func hasWork(isAsleepUntil againNs: UInt64?) -> Bool {
    if feed.members.withLock({ !$0.queue.isEmpty }) { return true }
    let walked = walked
    return feed.state.withLock { state in
      if state.isStopped { return state.count == 0 }
      if state.count > 0 { return state.ring.newest > walked }
      return state.epoch != 0 && againNs == nil
    }
  }

  // MARK: Live subscriptions

  /// False when there was nothing new.
  private func walk() -> Bool {
    let isEmpty = feed.members.withLock { $0.index.count == 0 }
    if isEmpty {
      // Whoever comes now is behind first, and looks at the ring itself.
      walked = feed.position
      places.skip(to: walked)
      return false
    }
    let next = walked + 1
    let (records, epoch, lost) = feed.state.withLock { state -> ([FeedRecord], UInt64, UInt64?) in
      let oldest = state.ring.oldest
      let records = state.ring.records(from: max(next, oldest), max: FeedWalk.batchRecords)
      return (records, state.epoch, next < oldest ? oldest : nil)
    }
    if let lost { leaveBehind(from: lost) }
    for record in records {
      let groups = feed.members.withLock { $0.index.matching(record.uri) }
      if !groups.isEmpty {
        record.withItems(epoch: epoch) { whole, bare in
          for group in groups {
            for subscription in group {
              offer(record, to: subscription, subscription.isWithoutData ? bare : whole)
            }
          }
        }
      }
      walked = record.position
    }
    return !records.isEmpty || lost != nil
  }

  private func offer(_ record: FeedRecord, to subscription: FeedSubscription, _ item: UnsafePointer<bp_chunk>) {
    let isTaken = subscription.state.withLock { state in
      guard state.next == 0, record.position > state.floor else { return false }
      if FeedSubscription.take(&state, at: record.position) { return true }
      if state.end == nil { state.next = record.position }
      return false
    }
    if isTaken { hand(item, to: subscription, isGap: record.isGap) }
  }

  /// The ring has overtaken the walk: what live subscriptions would have wanted is not known any more.
  private func leaveBehind(from oldest: UInt64) {
    walked = oldest - 1
    for subscription in feed.members.withLock({ $0.index.all }) {
      let isQueued = subscription.state.withLock { state in
        guard state.next == 0, state.floor < oldest - 1 else { return false }
        state.next = state.floor + 1
        return FeedSubscription.queue(&state)
      }
      if isQueued { feed.enqueue(subscription) }
    }
  }

  // MARK: Those that hear nothing

  /// False when nobody was to be told where it stands.
  private func tellPlaces() -> Bool {
    let quarter = feed.state.withLock { $0.ring.quarter($0.settings) }
    let subscriptions = places.next(at: walked, quarter: quarter, nowNs: Clock.monotonicNs) {
      feed.members.withLock { $0.index.all }
    }
    for subscription in subscriptions {
      guard let position = places.place(of: subscription, walked: walked, takes: true) else { continue }
      FeedRecord.withPlace(epoch: subscription.epoch, position: position, flags: 0) {
        hand($0, to: subscription, isGap: false)
      }
    }
    return !subscriptions.isEmpty
  }

  private func hand(_ item: UnsafePointer<bp_chunk>, to subscription: FeedSubscription, isGap: Bool) {
    feed.counts.delivered.add(1, ordering: .relaxed)
    if isGap { feed.counts.gaps.add(1, ordering: .relaxed) }
    if subscription.hand(item) { feed.complete(subscription) }
  }

  // MARK: Those that are behind

  /// False when nobody is to catch up.
  private func catchUp() -> Bool {
    let waiting = feed.members.withLock { members in
      defer { members.queue = [] }
      return members.queue
    }
    for subscription in waiting {
      var left = FeedWalk.sliceRecords
      while left > 0, step(subscription, &left) {}
      if left <= 0 { feed.enqueue(subscription) }
    }
    return !waiting.isEmpty
  }

  private enum Step {
    case place(position: UInt64, flags: UInt32)
    case look(from: UInt64)
    case rest
  }

  /// False when the subscription has caught up, has ended, or waits for credit.
  private func step(_ subscription: FeedSubscription, _ left: inout Int) -> Bool {
    let oldest = feed.state.withLock { $0.ring.oldest }
    let step = subscription.state.withLock { state -> Step in
      if state.next < oldest {
        state.next = oldest
        state.place = BP_FEED_GAP
      }
      guard let flags = state.place else { return .look(from: state.next) }
      guard FeedSubscription.take(&state, at: state.next - 1) else {
        state.isQueued = false
        return .rest
      }
      state.place = nil
      return .place(position: state.next - 1, flags: flags)
    }
    switch step {
    case .rest: return false
    case .place(let position, let flags):
      left -= 1
      FeedRecord.withPlace(epoch: subscription.epoch, position: position, flags: flags) {
        hand($0, to: subscription, isGap: flags & BP_FEED_GAP != 0)
      }
      return true
    case .look(let first): return look(subscription, from: first, &left)
    }
  }

  private func look(_ subscription: FeedSubscription, from first: UInt64, _ left: inout Int) -> Bool {
    let most = min(left, FeedWalk.batchRecords)
    let (records, isLost) = feed.state.withLock { state -> ([FeedRecord], Bool) in
      guard first >= state.ring.oldest else { return ([], true) }
      return (state.ring.records(from: first, max: most), false)
    }
    if isLost { return true }
    guard !records.isEmpty else {
      return subscription.state.withLock { state in
        // Everything there is has been looked at; the walk goes on from there.
        state.floor = first - 1
        state.next = 0
        state.isQueued = false
        return false
      }
    }
    left -= records.count
    for record in records {
      let isWanted = FeedPrefix.matches(subscription.prefix, record.uri)
      enum Turn { case goOn, hand, rest }
      let turn = subscription.state.withLock { state -> Turn in
        state.next = record.position + 1
        guard isWanted else { return .goOn }
        if FeedSubscription.take(&state, at: record.position) { return .hand }
        state.next = record.position
        state.isQueued = false
        return .rest
      }
      switch turn {
      case .goOn: break
      case .hand:
        record.withItems(epoch: subscription.epoch) { whole, bare in
          hand(
            subscription.isWithoutData ? bare : whole, to: subscription,
            isGap: record.isGap)
        }
      case .rest:
        // Nothing is left of its slice that it could use.
        left = max(left, 1)
        return false
      }
    }
    return true
  }
}
