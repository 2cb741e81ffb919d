import Synchronization

/// The node's accepted messages as values, from `Context.subscribe`.
///
/// Items that have come and are not taken yet are at most `credits`; a loop that is slow costs no more than that, and one
/// that is too slow for the node's ring is told so by `isGap`. Ends when the instance is stopped and when the task is
/// cancelled; throws a `Failure` when the node refuses the subscription.
public struct FeedItems: AsyncSequence, Sendable {
  public typealias Element = FeedItem

  let feed: FeedAccess
  let prefix: String
  let after: FeedPlace?
  let withoutData: Bool
  let credits: UInt32

  public func makeAsyncIterator() -> AsyncIterator {
    let queue = FeedQueue(credits: credits)
    queue.begin {
      feed.subscribe(
        to: prefix, after: after, credits: credits, withoutData: withoutData,
        received: { item, _ in queue.push(FeedItem(item)) }, ended: { queue.end($0) })
    }
    return AsyncIterator(reader: Reader(queue: queue))
  }

  /// One at a time, in order. The subscription ends with it.
  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let reader: Reader

    public mutating func next() async throws -> FeedItem? { try await reader.queue.pop() }
  }

  /// Ends the subscription with its last iterator.
  fileprivate final class Reader: Sendable {
    let queue: FeedQueue
    init(queue: FeedQueue) { self.queue = queue }
    deinit { queue.cancel() }
  }
}

extension Context {
  /// The node's accepted messages at `prefix` and below it, as they are accepted; an empty prefix means everything. The
  /// first item is always a place.
  ///
  /// - Parameters:
  ///   - after: what came after that place; nil: from now on.
  ///   - credits: how many items may have come that the loop has not taken, at least 1.
  public func subscribe(
    prefix: String, after place: FeedPlace? = nil, withoutData: Bool = false, credits: UInt32 = 64
  ) -> FeedItems {
    FeedItems(feed: feed, prefix: prefix, after: place, withoutData: withoutData, credits: max(1, credits))
  }
}

/// Items between the host's thread and a loop. What the loop takes is granted anew, in batches.
private final class FeedQueue: Sendable {
  private struct State {
    var items: [FeedItem] = []
    /// The index of the next item in `items`.
    var head = 0
    var taken: UInt32 = 0
    var waiter: CheckedContinuation<Void, Never>?
    var end: Failure?
    var isCancelled = false
    var subscription: FeedSubscription?
  }

  private let state = Mutex(State())
  private let batch: UInt32

  init(credits: UInt32) { batch = max(1, credits / 2) }

  func begin(_ subscribe: () -> FeedSubscription) {
    let subscription = subscribe()
    state.withLock { if $0.end == nil { $0.subscription = subscription } }
  }

  func push(_ item: FeedItem) { wake { $0.items.append(item) } }

  func end(_ failure: Failure) {
    wake { state in
      state.end = failure
      // It holds the closures that hold this.
      state.subscription = nil
    }
  }

  func cancel() {
    wake { $0.isCancelled = true }
    state.withLock { $0.subscription }?.cancel()
  }

  func pop() async throws -> FeedItem? {
    while true {
      enum Next {
        case item(FeedItem, grant: (FeedSubscription, UInt32)?)
        case end(Failure?)
        case wait
      }
      let next = state.withLock { state -> Next in
        if state.isCancelled { return .end(nil) }
        if state.head < state.items.count {
          let item = state.items[state.head]
          state.head += 1
          if state.head == state.items.count {
            state.items.removeAll(keepingCapacity: true)
            state.head = 0
          } else if state.head >= 64, state.head * 2 >= state.items.count {
            // A queue that is never empty does not grow for ever.
            state.items.removeFirst(state.head)
            state.head = 0
          }
          state.taken += 1
          guard state.taken >= batch, let subscription = state.subscription else { return .item(item, grant: nil) }
          defer { state.taken = 0 }
          return .item(item, grant: (subscription, state.taken))
        }
        guard let end = state.end else { return .wait }
        return .end(end.code == BP_CANCELLED || end.code == BP_CLOSED ? nil : end)
      }
      switch next {
      case .item(let item, let grant):
        if let (subscription, credits) = grant { subscription.grant(credits) }
        return item
      case .end(let failure):
        if let failure { throw failure }
        return nil
      case .wait: await wait()
      }
    }
  }

  private func wait() async {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let goesOn = state.withLock { state in
          if state.head < state.items.count || state.end != nil || state.isCancelled { return true }
          state.waiter = continuation
          return false
        }
        if goesOn { continuation.resume() }
      }
    } onCancel: {
      cancel()
    }
  }

  private func wake(_ change: (inout sending State) -> Void) {
    let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
      change(&state)
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }
}
