/// The bounds of the feed; changed by a reload without a break.
struct FeedSettings: Sendable, Equatable {
  /// Writes that the ring keeps.
  var recordsMax = 65_536
  /// Bytes that they may take.
  var sizeBytesMax = 32 << 20
  /// Data larger than this is not kept: the write is announced without.
  var itemSizeBytesMax = 1 << 20
  var subscriptionsMax = 100_000
  /// How long the ring is kept when nobody subscribes any more, so that a client can come back.
  var retainNs: UInt64 = 300_000_000_000
}

extension FeedSettings {
  init(_ feed: NodeConfiguration.Feed) {
    self.init(
      recordsMax: feed.recordsMax, sizeBytesMax: feed.sizeBytesMax, itemSizeBytesMax: feed.itemSizeBytesMax,
      subscriptionsMax: feed.subscriptionsMax, retainNs: UInt64(feed.retainMs) * 1_000_000)
  }
}
