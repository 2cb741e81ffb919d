/// One page of a list: the URIs in order, and how many records match in all.
public struct ListPage: Sendable {
  /// Matching records on all pages.
  public let total: Int
  private let bytes: [UInt8]
  private let ranges: [Range<Int>]

  init(total: Int, records: HeldRecords, range: Range<Int>) {
    self.total = total
    bytes = records.bytes
    ranges = records.entries[range].map { $0.offset..<($0.offset + Int($0.uriLength)) }
  }

  private init() {
    total = 0
    bytes = []
    ranges = []
  }

  /// The answer to a list whose pattern is no regular expression, and to one of nothing.
  public static let empty = ListPage()

  /// URIs on this page.
  public var count: Int { ranges.count }

  /// Gives each URI in order, as UTF-8 without a copy; the bytes are valid only within the call.
  public func forEachURI<Failure: Error>(
    _ body: (UnsafeBufferPointer<UInt8>) throws(Failure) -> Void
  ) throws(Failure) {
    let base = bytes.span
    for range in ranges {
      try base.extracting(range).withUnsafeBufferPointer { (uri) throws(Failure) in try body(uri) }
    }
  }

  /// The URIs as strings. Allocates.
  public var uris: [String] {
    ranges.map { String(decoding: bytes[$0], as: UTF8.self) }
  }
}
