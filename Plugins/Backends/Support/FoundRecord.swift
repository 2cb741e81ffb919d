import PluginAPI

/// A record as read, with a copy of its data: nothing of the store's may be held while the host is called, because the
/// host may call back.
public struct FoundRecord: @unchecked Sendable {
  // @unchecked: the buffer has one owner at a time.
  public var timestampMs: UInt64
  public var version: UInt64
  public var content: UInt32
  /// Owned by whoever received the record; nil: no bytes.
  public var data: UnsafeMutableBufferPointer<UInt8>?

  @inlinable
  public init(timestampMs: UInt64, version: UInt64, content: UInt32, data: UnsafeMutableBufferPointer<UInt8>?) {
    self.timestampMs = timestampMs
    self.version = version
    self.content = content
    self.data = data
  }

  /// The record as a value; frees the copy.
  public consuming func taken() -> Record {
    defer { data?.deallocate() }
    return Record(
      data: data.map { Array($0) } ?? [], content: Content(rawValue: content) ?? .bytes, timestampMs: timestampMs,
      version: version)
  }
}

extension ReadCall {
  /// Completes the call and frees the record's copy.
  @inlinable public func complete(_ found: consuming FoundRecord?) {
    guard let found else { return notFound() }
    self.found(
      timestampMs: found.timestampMs, version: found.version, content: Content(rawValue: found.content) ?? .bytes,
      data: BorrowedBytes(found.data ?? UnsafeMutableBufferPointer(start: nil, count: 0)))
    found.data?.deallocate()
  }
}

/// One page of a scan, with the text of all URIs in one array. The cursor of the next page is the last URI.
public struct FoundPage: Sendable {
  public struct Item: Sendable {
    public var uriEnd: Int
    public var timestampMs: UInt64
    public var version: UInt64
    public var sizeBytes: UInt64
    public var content: UInt32

    @inlinable
    public init(uriEnd: Int, timestampMs: UInt64, version: UInt64, sizeBytes: UInt64, content: UInt32) {
      self.uriEnd = uriEnd
      self.timestampMs = timestampMs
      self.version = version
      self.sizeBytes = sizeBytes
      self.content = content
    }
  }

  /// Items of one page, at most, whatever the host asks for.
  public static let itemsMax = 4_096

  public var text: [UInt8] = []
  public var items: [Item] = []
  /// There are more records after the last item.
  public var hasMore = false

  @inlinable public init() {}

  /// The URIs as values.
  public var uris: [String] {
    var start = 0
    return items.map { item in
      defer { start = item.uriEnd }
      return String(decoding: text[start..<item.uriEnd], as: UTF8.self)
    }
  }
}

extension FoundPage {
  /// The page as the boundary's items, and the last URI. Both live until `body` returns.
  fileprivate func withItems(_ body: (UnsafeBufferPointer<bp_scan_item>, _ last: BorrowedBytes) -> Void) {
    text.withUnsafeBufferPointer { text in
      withUnsafeTemporaryAllocation(of: bp_scan_item.self, capacity: items.count) { raw in
        var start = 0
        for (index, item) in items.enumerated() {
          raw.initializeElement(
            at: index,
            to: bp_scan_item(
              uri: bp_view(BorrowedBytes(rebasing: text[start..<item.uriEnd])), ts_ms: item.timestampMs,
              version: item.version, size_bytes: item.sizeBytes, content: item.content, reserved: 0))
          if index + 1 < items.count { start = item.uriEnd }
        }
        body(UnsafeBufferPointer(raw), BorrowedBytes(rebasing: text[start...]))
      }
    }
  }
}

extension ScanCall {
  public func complete(_ page: FoundPage) {
    page.withItems { items, last in
      self.page(items, cursor: page.hasMore ? last : BorrowedBytes(start: nil, count: 0))
    }
  }
}

extension QueryCall {
  public func complete(_ page: FoundPage, total: Int) {
    page.withItems { items, _ in self.page(items, total: total) }
  }
}
