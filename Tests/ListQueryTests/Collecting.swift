import ListQuery
import Testing

/// Feeds all records to a new collector; an invalid pattern gives the empty page.
func collect(
  _ query: ListQuery, _ records: [(uri: String, ts_ms: Int64)], bounds: ListBounds = ListBounds()
) throws(ListError) -> ListPage {
  guard let collector = try ListCollector(query, bounds: bounds) else { return .empty }
  for record in records {
    try Array(record.uri.utf8).withUnsafeBufferPointer { (uri) throws(ListError) in
      try collector.add(uri: uri, ts_ms: record.ts_ms)
    }
  }
  return collector.finish()
}
