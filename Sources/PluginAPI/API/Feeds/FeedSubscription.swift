import Synchronization

/// A subscription to the node's feed, from `FeedAccess.subscribe` until its `ended`. Any thread.
public final class FeedSubscription: Sendable {
  private enum Name {
    /// Items may come before the host has said its name.
    case unknown(credits: UInt32, isCancelled: Bool)
    case known(bp_token)
  }

  private let host: HostHandle
  private let received: @Sendable (BorrowedFeedItem, FeedSubscription) -> Void
  private let ended: @Sendable (Failure) -> Void
  private let name = Mutex(Name.unknown(credits: 0, isCancelled: false))

  init(
    _ host: HostHandle, _ received: @escaping @Sendable (BorrowedFeedItem, FeedSubscription) -> Void,
    _ ended: @escaping @Sendable (Failure) -> Void
  ) {
    self.host = host
    self.received = received
    self.ended = ended
  }

  /// Allows `credits` more items.
  public func grant(_ credits: UInt32) {
    let token = name.withLock { name -> bp_token in
      switch name {
      case .known(let token): return token
      case .unknown(let earlier, let isCancelled):
        name = .unknown(credits: earlier + min(credits, .max - earlier), isCancelled: isCancelled)
        return 0
      }
    }
    if token != 0 { _ = host.table.pointee.grant(host.instance, token, credits) }
  }

  /// Ends it; `ended` still comes, possibly before this returns.
  public func cancel() {
    let token = name.withLock { name -> bp_token in
      switch name {
      case .known(let token): return token
      case .unknown(let credits, _):
        name = .unknown(credits: credits, isCancelled: true)
        return 0
      }
    }
    if token != 0 { host.table.pointee.cancel(host.instance, token) }
  }

  /// The host has said its name, and is told what was asked for before.
  func isNamed(_ token: bp_token) {
    let earlier = name.withLock { name -> (credits: UInt32, isCancelled: Bool) in
      defer { name = .known(token) }
      if case .unknown(let credits, let isCancelled) = name { return (credits, isCancelled) }
      return (0, false)
    }
    if earlier.credits > 0 { grant(earlier.credits) }
    if earlier.isCancelled { cancel() }
  }

  /// Retains this object until the host completes, which it does exactly once.
  var completion: bp_completion {
    bp_completion(
      context: Unmanaged.passRetained(self).toOpaque(),
      complete: { context, result in
        let subscription = Unmanaged<FeedSubscription>.fromOpaque(context!).takeRetainedValue()
        subscription.ended(result!.pointee.failure ?? Failure(code: BP_CANCELLED, "the subscription has ended"))
      },
      chunk: { context, chunk in
        let item = UnsafeRawPointer(chunk!).assumingMemoryBound(to: bp_feed_item.self)
        Unmanaged<FeedSubscription>.fromOpaque(context!)._withUnsafeGuaranteedRef {
          $0.received(BorrowedFeedItem(item), $0)
        }
      })
  }
}
