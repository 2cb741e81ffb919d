/// The node's accepted messages as they are accepted (feed.h). This is the form for transports: items come as borrowed
/// bytes on a thread of the host's, without a task. `Context.subscribe` is the easy form.
public struct FeedAccess: Sendable {
  let host: HostHandle

  /// The host's table, or nil where there is no feed.
  public var table: UnsafePointer<bp_feed>? { host.extensionTable("backplane.feed/1", as: bp_feed.self) }

  /// Subscribes to the record at `prefix` and all below it; an empty prefix means everything.
  ///
  /// - Parameters:
  ///   - after: what came after that place; nil: from now on.
  ///   - credits: items that may come before the first `grant`. The first item is always a place.
  ///   - withoutData: URI, time and place only.
  ///   - received: one item at a time, in order, on a thread of the host's, possibly before this returns. It must not
  ///     block. The subscription is there for `grant` and `cancel`.
  ///   - ended: once, after the last item: the subscription was cancelled (`BP_CANCELLED`), refused, or the instance is
  ///     being stopped.
  @discardableResult
  public func subscribe(
    to prefix: String, after place: FeedPlace? = nil, credits: UInt32, withoutData: Bool = false,
    received: @escaping @Sendable (BorrowedFeedItem, FeedSubscription) -> Void,
    ended: @escaping @Sendable (Failure) -> Void
  ) -> FeedSubscription {
    let subscription = FeedSubscription(host, received, ended)
    guard let table else {
      ended(.unavailable("this host has no feed"))
      return subscription
    }
    var call = bp_call()
    call.size = .size(of: bp_call.self)
    let token = prefix.withView { prefix in
      var request = bp_subscribe(
        size: .size(of: bp_subscribe.self), flags: withoutData ? BP_SUBSCRIBE_WITHOUT_DATA : 0, prefix: prefix,
        epoch: place?.epoch ?? 0, position: place?.position ?? 0, credits: credits, reserved: 0)
      return table.pointee.subscribe(host.instance, &call, &request, subscription.completion)
    }
    subscription.isNamed(token)
    return subscription
  }
}

extension Context {
  /// The node's accepted messages, for transports.
  public var feed: FeedAccess { FeedAccess(host: host) }
}
