import BackendSupport
import CMongoC
import PluginAPI

/// Asks for records. One thread.
final class Reader {
  private let client: Client

  init(_ client: Client) { self.client = client }

  /// Each record that there is at one of `uris`, borrowed during the call; nil for a document that is no record.
  func find(
    _ uris: [BorrowedBytes], isWithoutData: Bool, _ body: (FoundDocument?) -> Void
  ) throws(MongoProblem) {
    let filter = uris.count == 1 ? Filters.uri(uris[0]) : Filters.anyOf(uris)
    let options = isWithoutData ? Filters.withoutLargeFields() : BSONBuilder()
    try client.find(filter, options: options) { document in
      body(RecordDecoder.read(document))
      return true
    }
  }

  /// Up to `limit` records in the order of their URIs' bytes, after `cursor` (the last URI of the page before).
  func page(prefix: BorrowedBytes, cursor: BorrowedBytes, limit: Int) throws(MongoProblem) -> FoundPage {
    let filter = BSONBuilder()
    let bound = Self.upperBound(prefix)
    filter.nest("uri") { range in
      // The server compares texts byte by byte.
      if cursor.isEmpty { range.append("$gte", text: prefix) } else { range.append("$gt", text: cursor) }
      bound?.withUnsafeBufferPointer { range.append("$lt", text: $0) }
    }
    let options = Filters.withoutLargeFields()
    options.nest("sort") { $0.append("uri", int32: 1) }
    options.append("limit", int64: Int64(limit + 1))
    var page = FoundPage()
    // What other programs wrote has no size noted: it is computed from the data, which is asked for apart.
    var unsized: [Int] = []
    try client.find(filter, options: options) { document in
      guard let found = RecordDecoder.read(document) else { return true }
      // With a bound missing, this is where the prefix ends.
      if !found.uri.starts(with: prefix) { return false }
      if page.items.count == limit {
        page.hasMore = true
        return false
      }
      if found.noted == nil { unsized.append(page.items.count) }
      page.text.append(contentsOf: found.uri)
      page.items.append(
        FoundPage.Item(
          uriEnd: page.text.count, timestampMs: found.timestampMs, version: found.version,
          sizeBytes: found.noted?.sizeBytes ?? 0, content: found.noted?.content ?? BP_CONTENT_JSON))
      return true
    }
    try size(unsized, &page)
    return page
  }

  private static let sizedMax = 256

  private func size(_ items: [Int], _ page: inout FoundPage) throws(MongoProblem) {
    for start in stride(from: 0, to: items.count, by: Self.sizedMax) {
      let some = items[start..<min(start + Self.sizedMax, items.count)]
      var sizes: [[UInt8]: (UInt64, UInt32)] = [:]
      let text = page.text
      let ranges = some.map { (index: $0, range: ($0 == 0 ? 0 : page.items[$0 - 1].uriEnd)..<page.items[$0].uriEnd) }
      try find(ranges.map { Array(text[$0.range]) }) { found in
        RecordDecoder.withData(of: found) { content, data in
          sizes[Array(found.uri)] = (UInt64(data.count), content.rawValue)
        }
      }
      for (index, range) in ranges {
        guard let (sizeBytes, content) = sizes[Array(text[range])] else { continue }
        page.items[index].sizeBytes = sizeBytes
        page.items[index].content = content
      }
    }
  }

  private func find(_ uris: [[UInt8]], _ body: (FoundDocument) -> Void) throws(MongoProblem) {
    let filter = BSONBuilder()
    filter.nest("uri") { condition in
      condition.append(
        "$in",
        array: { list in
          for (index, uri) in uris.enumerated() {
            var digits = String(index)
            digits.withUTF8 { name in
              uri.withUnsafeBufferPointer { list.append(BSONKey(UnsafeRawBufferPointer(name)), text: $0) }
            }
          }
        })
    }
    try client.find(filter, options: BSONBuilder()) { document in
      if let found = RecordDecoder.read(document) { body(found) }
      return true
    }
  }

  /// The first text after all that begin with `prefix`; nil when there is none that is a text, and the end of the prefix
  /// has to be seen.
  private static func upperBound(_ prefix: BorrowedBytes) -> [UInt8]? {
    guard let last = prefix.last, last < 0x7f else { return nil }
    return Array(prefix.dropLast()) + [last + 1]
  }
}
