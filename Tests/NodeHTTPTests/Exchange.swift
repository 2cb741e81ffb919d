import Foundation
import NodeTesting
import Testing

/// One recorded request of the reference node and its answer.
struct Exchange {
  let number: Int
  let group: String
  let method: String
  let path: String
  let headers: [String: String]
  let body: [UInt8]?
  let isDefect: Bool
  let expected: Expected

  /// What a node must answer. Bodies have their `ts` masked to 0.
  struct Expected {
    var status: Int
    var contentType: String?
    /// The headers the vectors record; one of them that is not here must not be sent.
    var headers: [String: String] = ["vary": "Origin"]
    var body: [UInt8]
  }

  /// All 253, in order.
  static func all() throws -> [Exchange] {
    let text = try SharedFiles.vectors("b3nd-http.json")
    let document = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
    let exchanges = try #require(document["exchanges"] as? [[String: Any]])
    return try exchanges.map(Exchange.init)
  }

  private init(_ fields: [String: Any]) throws {
    number = try #require(fields["n"] as? Int)
    group = try #require(fields["group"] as? String)
    method = try #require(fields["method"] as? String)
    path = try #require(fields["path"] as? String)
    headers = fields["headers"] as? [String: String] ?? [:]
    isDefect = fields["defect"] != nil
    if let raw = fields["raw"] as? String {
      body = Array(raw.utf8)
    } else if let json = fields["json"] {
      body = Array(try JSONSerialization.data(withJSONObject: json, options: .fragmentsAllowed))
    } else {
      body = nil
    }
    let response = try #require(fields["response"] as? [String: Any])
    let bytes: [UInt8]
    if let base64 = response["base64"] as? String {
      bytes = Array(try #require(Data(base64Encoded: base64)))
    } else {
      bytes = Array((response["text"] as? String ?? "").utf8)
    }
    expected = Expected(
      status: try #require(response["status"] as? Int), contentType: response["contentType"] as? String,
      headers: response["headers"] as? [String: String] ?? [:], body: bytes)
  }

  static let recordedHeaders = [
    "vary", "access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers",
  ]

  /// What of an answer is not as expected; empty: nothing.
  static func differences(_ answer: HTTPConnection.Answer, _ expected: Expected) -> [String] {
    var found: [String] = []
    if answer.status != expected.status { found.append("status \(answer.status), not \(expected.status)") }
    let type = answer.headers["content-type"]
    if type != expected.contentType {
      found.append("content-type \(type ?? "none"), not \(expected.contentType ?? "none")")
    }
    for name in recordedHeaders where answer.headers[name] != expected.headers[name] {
      found.append("\(name) \(answer.headers[name] ?? "none"), not \(expected.headers[name] ?? "none")")
    }
    if answer.status != 204, answer.headers["content-length"] != "\(answer.body.count)" {
      found.append("content-length \(answer.headers["content-length"] ?? "none") for \(answer.body.count) bytes")
    }
    if expected.contentType == "application/json", let theirs = JSONValue(expected.body) {
      if JSONValue(answer.body).map(masked) != masked(theirs) {
        found.append(
          "body \(answer.text.prefix(400)), not \(String(decoding: expected.body.prefix(400), as: UTF8.self))")
      }
    } else if answer.body != expected.body {
      found.append("body \(answer.body.prefix(100)), not \(expected.body.prefix(100))")
    }
    return found
  }

  /// The value with `ts`, which must be a whole number of milliseconds, as 0.
  private static func masked(_ value: JSONValue) -> JSONValue {
    guard let ts = value["ts"]?.double, ts == ts.rounded() else { return value }
    var masked = value
    masked["ts"] = .number(0)
    return masked
  }
}
