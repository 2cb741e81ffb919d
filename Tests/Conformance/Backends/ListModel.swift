import PluginAPI
import PluginTestHost

/// A list in the plainest way: every record in an array, filtered, sorted and cut. It knows nothing of how the node does
/// it: patterns are predicates, and the order of names is a table.
struct ListModel {
  private struct Entry {
    var uri: String
    var timestampMs: UInt64
  }
  /// In the order of the backend's scan: which one that is is the backend's to choose.
  private let entries: [Entry]

  /// Throws a `Problem` unless `scanned` are the model's records below the prefix.
  init(_ scanned: [ScanPage.Item], _ model: Model, _ traits: BackendTraits, _ prefix: String) throws {
    let wanted = model.below(prefix)
    entries = try scanned.map { item in
      guard let record = wanted[item.uri] else {
        throw Problem("a scan of '\(prefix)' has \(BackendDriver.shown(item.uri)), which is no record below it")
      }
      return Entry(uri: item.uri, timestampMs: traits.isRemote ? item.timestampMs : record.timestampMs)
    }
    let found = Set(scanned.map(\.uri)).count
    try require(
      found == wanted.count && found == scanned.count,
      "a scan of '\(prefix)' has \(found) records on \(scanned.count) items; there are \(wanted.count)")
  }

  func answer(_ list: ListCase) -> (uris: [String], total: Int) {
    var left = entries
    if let pattern = list.pattern {
      // What is no regular expression finds nothing.
      guard let matches = ListPattern.all[pattern].matches else { return ([], 0) }
      left = left.filter { matches($0.uri) }
    }
    switch list.sortBy {
    case .none: break
    case .name: left = stablySorted(left) { NameOrder.precedes($0.uri, $1.uri) }
    case .timestamp: left = stablySorted(left) { $0.timestampMs < $1.timestampMs }
    }
    if list.isDescending { left.reverse() }
    let (page, limit) = (max(1, list.page), max(1, list.limit))
    var uris: [String] = []
    // Counted one by one: nothing overflows.
    var number = 0
    for entry in left {
      number += 1
      if (number - 1) / limit == page - 1 { uris.append(entry.uri) }
    }
    return (uris, left.count)
  }

  private func stablySorted(_ entries: [Entry], _ precedes: (Entry, Entry) -> Bool) -> [Entry] {
    entries.enumerated().sorted { left, right in
      if precedes(left.element, right.element) { return true }
      return precedes(right.element, left.element) ? false : left.offset < right.offset
    }.map(\.element)
  }
}

/// A pattern, and what it means.
struct ListPattern: Sendable {
  var text: String
  /// nil: it is no regular expression.
  var matches: (@Sendable (String) -> Bool)?

  static let all: [ListPattern] = [
    ListPattern(text: "a") { $0.contains("a") },
    ListPattern(text: "b$") { $0.hasSuffix("b") },
    ListPattern(text: "^mutable") { $0.hasPrefix("mutable") },
    ListPattern(text: "/a/") { $0.contains("/a/") },
    ListPattern(text: "%2F|~") { $0.contains("%2F") || $0.contains("~") },
    ListPattern(text: "[A-Z]") { uri in uri.utf8.contains { (0x41...0x5a).contains($0) } },
    ListPattern(text: "^.{24}$") { $0.utf8.count == 24 },
    ListPattern(text: "a.b") { uri in
      let bytes = Array(uri.utf8)
      return bytes.indices.dropLast(2).contains { bytes[$0] == 0x61 && bytes[$0 + 2] == 0x62 }
    },
    ListPattern(text: "a\\.b") { $0.contains("a.b") },
    ListPattern(text: "no such text") { _ in false },
    ListPattern(text: "("), ListPattern(text: "a**"), ListPattern(text: "[z-a]"),
  ]

  init(text: String, matches: (@Sendable (String) -> Bool)? = nil) {
    self.text = text
    self.matches = matches
  }
}

/// The root collation for what a URI in normal form can hold: all characters by weight first, then upper case after
/// lower case.
enum NameOrder {
  private static let ranks: [UInt8: Int] = {
    var ranks: [UInt8: Int] = [:]
    for byte in "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789".utf8 { ranks[byte] = ranks.count }
    let digits = ranks.count
    for letter in 0..<26 as Range<UInt8> {
      ranks[0x61 + letter] = digits + Int(letter)
      ranks[0x41 + letter] = digits + Int(letter)
    }
    return ranks
  }()

  static func precedes(_ left: String, _ right: String) -> Bool {
    let (a, b) = (Array(left.utf8), Array(right.utf8))
    for (x, y) in zip(a, b) where ranks[x]! != ranks[y]! { return ranks[x]! < ranks[y]! }
    if a.count != b.count { return a.count < b.count }
    for (x, y) in zip(a, b) where x != y { return x > y }
    return false
  }
}
