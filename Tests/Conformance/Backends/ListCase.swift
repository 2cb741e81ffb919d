import ListQuery
import PluginAPI
import PluginTestHost

/// One list of records below a URI, as the node answers it: a scan of the backend, and everything else above it.
struct ListCase: Sendable, Equatable {
  var base: String
  var page = 1
  var limit = 50
  /// An index into `ListPattern.all`; nil: none.
  var pattern: Int?
  var sortBy = ListQuery.SortKey.none
  var isDescending = false
  /// Of the scan.
  var credits: UInt32 = 100

  /// What is scanned: records strictly below the base, segment by segment, and one slash at its end counts for nothing.
  var prefix: String { base.hasSuffix("/") ? base : base + "/" }

  /// Whether a prefix names one program at least.
  static func isWithinProgram(_ prefix: String) -> Bool { prefix.utf8.count { $0 == UInt8(ascii: "/") } >= 3 }

  private var query: ListQuery {
    ListQuery(
      page: page, limit: limit, pattern: pattern.map { ListPattern.all[$0].text }, sortBy: sortBy,
      isDescending: isDescending)
  }

  // MARK: Against the model

  func check(_ driver: BackendDriver, _ model: Model) async throws {
    let whole = try await driver.scan(prefix: prefix, credits: 65_536, itemsMax: model.records.count + 10_000)
    let wanted = try ListModel(whole, model, driver.traits, prefix).answer(self)
    let (uris, total) = try await answer(driver)
    try require(total == wanted.total, "\(self) has a total of \(total); \(wanted.total) is right")
    try require(
      uris == wanted.uris,
      "\(self) answered \(ListCase.shown(uris)); \(ListCase.shown(wanted.uris)) is right")
  }

  /// What a node makes of the backend's scan.
  private func answer(_ driver: BackendDriver) async throws -> (uris: [String], total: Int) {
    guard let collector = try ListCollector(query) else { return ([], 0) }
    var cursor: [UInt8] = []
    repeat {
      let page = try await driver.page(prefix: prefix, cursor: cursor, credits: credits)
      for item in page.items {
        try Array(item.uri.utf8).withUnsafeBufferPointer { (bytes) throws -> Void in
          try collector.add(uri: bytes, ts_ms: Int64(clamping: item.timestampMs))
        }
      }
      try require(page.cursor.isEmpty || page.cursor != cursor, "\(self): a page ended with the cursor it began with")
      cursor = page.cursor
    } while !cursor.isEmpty
    let page = collector.finish()
    return (page.uris, page.total)
  }

  private static func shown(_ uris: [String]) -> String {
    "\(uris.count) records (" + uris.prefix(4).map(BackendDriver.shown).joined(separator: ", ")
      + (uris.count > 4 ? ", ...)" : ")")
  }
}

extension ListCase: CustomStringConvertible {
  var description: String {
    var words = ["list '\(BackendDriver.shown(base))' page \(page) limit \(limit)"]
    if let pattern { words.append("pattern '\(ListPattern.all[pattern].text)'") }
    if sortBy != .none { words.append("sorted by \(sortBy)") }
    if isDescending { words.append("descending") }
    return words.joined(separator: " ") + " (scanned by \(credits))"
  }
}
