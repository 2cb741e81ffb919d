import JSONText
import PluginAPI

/// The options of a list request (b3nd.md section 9, with the clamps of its `->` line). Borrows from the message.
struct ListOptions {
  static let limitDefault: UInt64 = 50
  /// Above what any page can hold, and exact as a double.
  private static let numberMax = 9_007_199_254_740_991.0

  var page: UInt64 = 1
  var limit = limitDefault
  var sort = BP_SORT_NONE
  var flags: UInt32 = 0
  private var pattern: JSONSlice?

  /// - Parameter options: nil, or any JSON; members of the wrong kind count as absent.
  init(_ options: JSONSlice?) {
    guard let options else { return }
    for (key, value) in options.members {
      if key.isText("page") {
        page = Self.count(value) ?? 1
      } else if key.isText("limit") {
        limit = Self.count(value) ?? Self.limitDefault
      } else if key.isText("pattern") {
        pattern = value.kind == .string ? value : nil
      } else if key.isText("sortBy") {
        sort = value.isText("name") ? BP_SORT_NAME : value.isText("timestamp") ? BP_SORT_TIMESTAMP : BP_SORT_NONE
      } else if key.isText("sortOrder") {
        flags = value.isText("desc") ? BP_LIST_DESCENDING : 0
      }
    }
  }

  func withPattern(scratch: inout [UInt8], _ body: (UnsafeRawBufferPointer) -> Void) {
    guard let pattern else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
    pattern.withText(scratch: &scratch, body)
  }

  /// A number, rounded down; nil when it is none or below 1.
  private static func count(_ value: JSONSlice) -> UInt64? {
    guard value.kind == .number, let number = JSONNumber.value(of: value), number >= 1 else { return nil }
    return UInt64(min(number, numberMax))
  }
}
