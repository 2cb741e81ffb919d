import PluginAPI

/// Which documents an op is about.
enum Filters {
  static func uri(_ uri: BorrowedBytes) -> BSONBuilder {
    let filter = BSONBuilder()
    filter.append("uri", text: uri)
    return filter
  }

  /// The record at `uri`, if it has `version`: as we noted it, and if nobody else has written the record since. What
  /// others wrote has version 0.
  static func uri(_ uri: BorrowedBytes, version: UInt64) -> BSONBuilder {
    let filter = Self.uri(uri)
    if version != 0 { filter.append("backplane.version", int64: Int64(bitPattern: version)) }
    filter.nest("$expr") { expression in
      if version == 0 {
        expression.append("$not", array: { $0.nest("0", isOurs) })
      } else {
        isOurs(expression)
      }
    }
    return filter
  }

  private static func isOurs(_ expression: BSONBuilder) {
    expression.append(
      "$and",
      array: { both in
        both.nest("0") { $0.append("$eq", array: pair("$timestamp", "$backplane.timestamp")) }
        both.nest("1") { $0.append("$eq", array: pair("$updatedAt", "$backplane.updatedAt")) }
      })
  }

  private static func pair(_ left: String, _ right: String) -> (BSONBuilder) -> Void {
    { list in
      list.append("0", text: left)
      list.append("1", text: right)
    }
  }

  /// The records at any of `uris`.
  static func anyOf(_ uris: some Sequence<BorrowedBytes>) -> BSONBuilder {
    let filter = BSONBuilder()
    filter.nest("uri") { condition in
      condition.append(
        "$in",
        array: { list in
          for (index, uri) in uris.enumerated() {
            var digits = String(index)
            digits.withUTF8 { list.append(BSONKey(UnsafeRawBufferPointer($0)), text: uri) }
          }
        })
    }
    return filter
  }

  /// For looking at records without what can be large in them.
  static func withoutLargeFields() -> BSONBuilder {
    let options = BSONBuilder()
    options.nest("projection") { projection in
      projection.append("data", int32: 0)
      projection.append("backplane.text", int32: 0)
    }
    return options
  }
}
