/// Where a subscription stands, for whoever wants to go on there later. A place of another epoch, and one that the node
/// has let go of meanwhile, is answered with a gap.
public struct FeedPlace: Sendable, Hashable {
  public var epoch: UInt64
  public var position: UInt64

  public init(epoch: UInt64, position: UInt64) {
    self.epoch = epoch
    self.position = position
  }
}

/// An item of the feed as it comes, borrowed: valid during the call that it is handed to (feed.h, bp_feed_item).
public struct BorrowedFeedItem {
  public let pointer: UnsafePointer<bp_feed_item>

  @inlinable public init(_ pointer: UnsafePointer<bp_feed_item>) { self.pointer = pointer }

  /// Items before this one were lost: read again whatever depends on having seen everything.
  @inlinable public var isGap: Bool { pointer.pointee.flags & BP_FEED_GAP != 0 }
  /// It says where the subscription stands; there is no write.
  @inlinable public var isPlace: Bool { pointer.pointee.flags & BP_FEED_PLACE != 0 }
  /// The write has data that is not here: read the record.
  @inlinable public var isWithoutData: Bool { pointer.pointee.flags & BP_FEED_NO_DATA != 0 }
  @inlinable public var isDelete: Bool { pointer.pointee.verb == BP_VERB_DELETE }
  @inlinable public var content: Content { Content(rawValue: pointer.pointee.content) ?? .bytes }
  @inlinable public var place: FeedPlace {
    FeedPlace(epoch: pointer.pointee.epoch, position: pointer.pointee.position)
  }
  /// Milliseconds since 1970, the node's clock.
  @inlinable public var timestampMs: UInt64 { pointer.pointee.ts_ms }
  @inlinable public var version: UInt64 { pointer.pointee.version }
  /// In normal form.
  @inlinable public var uri: BorrowedBytes { pointer.pointee.uri.bytes }
  @inlinable public var data: BorrowedBytes { pointer.pointee.data.bytes }
}

/// An item of the feed, owned.
public struct FeedItem: Sendable, Equatable {
  public enum Change: Sendable, Equatable {
    /// The record's new data; nil when it was not asked for or is too large to be announced: read the record.
    case put(data: [UInt8]?, content: Content)
    case delete
    /// No write: where the subscription stands now.
    case place
  }

  public var change: Change
  /// Items before this one were lost: read again whatever depends on having seen everything.
  public var isGap: Bool
  /// In normal form; empty for a place.
  public var uri: String
  public var place: FeedPlace
  public var timestampMs: UInt64
  public var version: UInt64

  public init(
    change: Change, isGap: Bool = false, uri: String, place: FeedPlace, timestampMs: UInt64 = 0, version: UInt64 = 0
  ) {
    self.change = change
    self.isGap = isGap
    self.uri = uri
    self.place = place
    self.timestampMs = timestampMs
    self.version = version
  }

  public init(_ item: BorrowedFeedItem) {
    change =
      item.isPlace
      ? .place
      : item.isDelete
        ? .delete : .put(data: item.isWithoutData ? nil : Array(item.data), content: item.content)
    isGap = item.isGap
    uri = String(decoding: item.uri, as: UTF8.self)
    place = item.place
    timestampMs = item.timestampMs
    version = item.version
  }
}
