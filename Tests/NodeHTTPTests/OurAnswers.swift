import Foundation

/// Where our answer is not the reference node's, and why: the whole list. docs/b3nd-compatibility.md says the same in
/// words.
enum OurAnswers {
  struct Choice {
    var reason: String
    var expected: Exchange.Expected
    /// The body to the byte, with `ts` masked.
    var exactText: String?

    init(_ reason: String, _ status: Int, _ text: String, origin: String? = nil, isExact: Bool = true) {
      self.reason = reason
      expected = .init(status: status, contentType: "application/json", body: Array(text.utf8))
      expected.headers["access-control-allow-origin"] = origin
      exactText = isExact ? text : nil
    }

    init(_ reason: String, type: String, bytes: [UInt8]) {
      self.reason = reason
      expected = .init(status: 200, contentType: type, body: bytes)
    }
  }

  /// Exchanges that the recording does not call defects, and that we answer otherwise on purpose.
  static func choices(_ order: Order) -> [Int: Choice] {
    [
      3: Choice("/health is served without /api/v1 too, as the peer's operator guide says", 200, order.health),
      7: Choice(
        "read-multi is served: the peer's client asks for it; an empty body is none", 400,
        #"{"success":false,"error":"Invalid request format: expected { uris: [uri, …] }"}"#),
      59: Choice("the text of a number is kept; the peer makes null of 1e400", 200, #"{"ts":0,"data":[1e400]}"#),
      112: Choice("the total is the true one on every page", 200, list([], page: 4, limit: 3, total: 9)),
    ]
  }

  /// Exchanges that are marked `defect`: what the reference's `->` lines ask for.
  static func corrections(_ order: Order) -> [Int: Choice] {
    let everything = list(order.all, page: 1, limit: 50, total: 9)
    let mismatch = #"{"accepted":false,"error":"Content hash mismatch"}"#
    return [
      0: Choice("health names the backends", 200, order.health),
      13: Choice("health names the backends", 200, order.health, origin: "http://app.test"),
      68: Choice("a record at a program's root can be deleted", 200, #"{"success":true}"#),
      71: Choice("a path that makes no URI is not found", 404, #"{"error":"Not found: 9bad://yyy/x"}"#),
      124: Choice("the total is the true one on every page", 200, list([], page: 99, limit: 3, total: 9)),
      125: Choice("pages begin with 1", 200, everything),
      126: Choice("a page that is no number is the first", 200, everything),
      127: Choice("a limit that is not positive is the default", 200, everything),
      128: Choice("a limit that is not positive is the default", 200, everything),
      129: Choice("a limit that is no number is the default", 200, everything),
      130: Choice("a pattern that does not compile finds nothing", 200, list([], page: 1, limit: 50, total: 0)),
      137: Choice("a path that makes no URI has no records", 200, list([], page: 1, limit: 50, total: 0)),
      185: Choice("only names of the table have a type", type: "application/octet-stream", bytes: [0x78]),
      210: Choice("not found names the record", 404, notDeleted("mutable://del/zz/yy")),
      211: Choice("not found names the record", 404, notDeleted("mutable://del/zz")),
      213: Choice("not found names the record", 404, notDeleted("mutable://del/d/r")),
      215: Choice("delete removes exactly one record", 200, #"{"success":true}"#),
      216: Choice("delete removes exactly one record", 200, #"{"ts":0,"data":1}"#),
      217: Choice("a path without a record cannot be deleted", 404, notDeleted("mutable://del/d/q")),
      218: Choice("a root without a record cannot be deleted", 404, notDeleted("mutable://del")),
      235: Choice("an envelope's own digest is checked", 400, mismatch),
      249: Choice("a marker in an envelope's output is stored as bytes", type: "image/png", bytes: [0, 255, 104, 105]),
      252: Choice("digests of nested outputs are checked", 400, mismatch),
    ]
  }

  /// What depends on the backend: its scheme, and its natural order.
  struct Order {
    var health: String
    /// The records below mutable://lst in natural order.
    var all: [String]
  }

  static let memory = Order(
    health: #"{"status":"healthy","backends":["memory"]}"#,
    all: ["b", "a", "a/x", "a/y", "a/z/deep", "B", "10", "9", "c"])
  /// By the bytes of the URI.
  static let sqlite = Order(
    health: #"{"status":"healthy","backends":["sqlite"]}"#,
    all: ["10", "9", "B", "a", "a/x", "a/y", "a/z/deep", "b", "c"])

  static func list(_ names: [String], page: Int, limit: Int, total: Int) -> String {
    let items = names.map { #"{"uri":"mutable://lst/\#($0)"}"# }.joined(separator: ",")
    return #"{"success":true,"data":[\#(items)],"pagination":{"page":\#(page),"limit":\#(limit),"total":\#(total)}}"#
  }

  private static func notDeleted(_ uri: String) -> String { #"{"success":false,"error":"Not found: \#(uri)"}"# }
}
