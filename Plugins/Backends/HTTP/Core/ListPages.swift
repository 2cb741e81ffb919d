import JSONText
import PluginAPI
import URIText

/// One answer of `GET list`.
struct ListAnswer {
  var uris: [String]
  /// As the remote understood it: it may allow fewer than were asked for.
  var limit: Int
  var total: Int

  init?(_ answer: RemoteAnswer) {
    let parsed = answer.body.withUnsafeReadableBytes { bytes -> ListAnswer? in
      guard case .success(let value) = JSONScanner().scan(bytes), value.member("success")?.kind == .true,
        let data = value.member("data"), data.kind == .array, let pagination = value.member("pagination"),
        let limit = pagination.member("limit").flatMap(Self.number),
        let total = pagination.member("total").flatMap(Self.number)
      else { return nil }
      var uris: [String] = []
      for item in data.elements {
        guard let uri = item.member("uri")?.text else { return nil }
        if let normal = Self.normalForm(uri) { uris.append(normal) }
      }
      return ListAnswer(uris: uris, limit: limit, total: total)
    }
    guard let parsed else { return nil }
    self = parsed
  }

  private init(uris: [String], limit: Int, total: Int) {
    self.uris = uris
    self.limit = limit
    self.total = total
  }

  private static func number(_ slice: JSONSlice) -> Int? {
    slice.kind == .number ? Int(String(decoding: slice.bytes, as: UTF8.self)) : nil
  }

  /// A peer on a database lists URIs as they were written.
  private static func normalForm(_ uri: String) -> String? {
    var uri = uri
    return uri.withUTF8 { bytes in
      withUnsafeTemporaryAllocation(
        of: UInt8.self, capacity: URIText.scratchBytes(forInputBytes: bytes.count)
      ) { scratch in
        switch URIText.normalise(bytes, into: scratch) {
        case .unchanged: String(decoding: bytes, as: UTF8.self)
        case .written(let length, _): String(decoding: scratch[..<length], as: UTF8.self)
        case .invalid, .tooLong: nil
        }
      }
    }
  }
}

/// Collects every URI below a path although the remote gives out pages by number only, while records come and go.
///
/// All at once when the remote allows it. Else by windows, sorted by name, each beginning well before the end of the one
/// before: as long as its first URI has been seen already, nothing lies between the two, so a record that exists
/// throughout is in one of them. When too much has gone meanwhile, everything is asked for again.
struct ListPages {
  /// Asks for one page, sorted by name.
  let ask: (_ page: Int, _ limit: Int) throws(Failure) -> ListAnswer
  let urisMax: Int
  /// What to say of the path that is listed.
  let name: String

  private static let attemptsMax = 5

  func collect() throws(Failure) -> Set<String> {
    for _ in 0..<Self.attemptsMax {
      if let found = try attempt() { return found }
    }
    throw .unavailable(
      "the records below \(name) change faster than they can be listed; try again", retryAfterMs: 1_000)
  }

  /// Nil when the windows came apart.
  private func attempt() throws(Failure) -> Set<String>? {
    let first = try ask(1, urisMax + 1)
    try check(first)
    var seen = Set(first.uris)
    var end = first.uris.count
    let limit = min(first.limit, first.uris.count)
    guard end < first.total else { return seen }
    while true {
      var (page, length) = Self.window(beforeOrAt: max(0, end - max(1, limit / 4)), lengthMax: max(1, limit))
      if (page + 1) * length <= end {
        (page, length) = Self.window(beforeOrAt: max(0, end - 1), lengthMax: max(1, limit))
      }
      // Where every length up to the limit has a page that ends, none lies across: at 60 for a limit of 5, at 2,520 for
      // one of 10, and out of reach for any that a node has.
      guard (page + 1) * length > end else {
        throw Failure(
          code: BP_UNAVAILABLE, "the other node lists no more than \(limit) records at a time, which is too few")
      }
      let window = try ask(page + 1, length)
      try check(window)
      guard let head = window.uris.first, seen.contains(head) else { return nil }
      seen.formUnion(window.uris)
      let reached = page * length + window.uris.count
      if reached >= window.total { return seen }
      guard reached > end else { return nil }
      end = reached
    }
  }

  /// The page that begins at `start` or before it and reaches farthest: pages begin at multiples of their length. From 0.
  static func window(beforeOrAt start: Int, lengthMax: Int) -> (page: Int, length: Int) {
    var best = (page: start, length: 1)
    for length in 1...lengthMax where start / length > 0 {
      let page = start / length
      if (page + 1) * length > (best.page + 1) * best.length { best = (page, length) }
    }
    return best
  }

  private func check(_ answer: ListAnswer) throws(Failure) {
    guard answer.total <= urisMax else {
      throw Failure(
        code: BP_RESOURCE_EXHAUSTED,
        "below \(name) there are \(answer.total) records; more than \(urisMax) are not listed, which is scan_uris_max")
    }
  }
}
