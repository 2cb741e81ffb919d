import Foundation
import PluginAPI
import Testing

/// The recorded exchanges of the reference node, as far as they are the transport's business: what lists, hashes and
/// envelopes answer is the node's, and is replayed against the real one.
extension HTTPTests {
  @Suite struct VectorTests {
    private static let skippedGroups: Set<String> = ["list-seed", "list", "list-odd", "list-sub", "hash", "envelope"]
    /// Where we serve more than the peer (3, 7), keep bytes where it rounds (57, 59) or where the comparison itself
    /// cannot read the text (55: duplicate names, 61: lone surrogates); 67 and 96 are lists.
    private static let skipped: Set<Int> = [3, 7, 55, 57, 59, 61, 67, 96]

    @Test func exchangesOfTheReferenceNode() async throws {
      let shared =
        ProcessInfo.processInfo.environment["BACKPLANE_SHARED"].map { URL(fileURLWithPath: $0) }
        ?? URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("shared")
      let file = shared.appendingPathComponent("vectors/b3nd-http.json")
      let text = try #require(
        try? Data(contentsOf: file),
        "the shared vectors are missing: set BACKPLANE_SHARED to the folder that holds vectors/")
      let document = try #require(try JSONSerialization.jsonObject(with: text) as? [String: Any])
      let exchanges = try #require(document["exchanges"] as? [[String: Any]])
      #expect(exchanges.count == 253)
      var compared = 0
      try await withTransport { fixture in
        fixture.host.state.withLock { $0.programs = [] }
        let client = try fixture.client()
        for exchange in exchanges {
          let number = exchange["n"] as! Int
          if Self.skippedGroups.contains(exchange["group"] as! String) || Self.skipped.contains(number)
            || exchange["defect"] != nil
          {
            continue
          }
          try replay(exchange, number, client)
          compared += 1
        }
      }
      #expect(compared > 120)
    }

    private func replay(_ exchange: [String: Any], _ number: Int, _ client: Client) throws {
      var headers = ""
      for (name, value) in exchange["headers"] as? [String: String] ?? [:] { headers += "\(name): \(value)\r\n" }
      let method = exchange["method"] as! String
      let path = exchange["path"] as! String
      var body: [UInt8]?
      if let raw = exchange["raw"] as? String { body = Array(raw.utf8) }
      if let json = exchange["json"] {
        body = Array(try JSONSerialization.data(withJSONObject: json, options: [.fragmentsAllowed]))
      }
      if let base64 = exchange["base64"] as? String { body = Array(Data(base64Encoded: base64)!) }
      let answer =
        try body.map { try client.post(path, $0, headers, method: method) }
        ?? client.get(path, headers, method: method)
      let expected = exchange["response"] as! [String: Any]
      #expect(answer.status == expected["status"] as? Int, "exchange \(number)")
      #expect(answer.headers["content-type"] == expected["contentType"] as? String, "exchange \(number)")
      for (name, value) in expected["headers"] as? [String: String] ?? [:] {
        #expect(answer.headers[name] == value, "exchange \(number), \(name)")
      }
      if let base64 = expected["base64"] as? String {
        #expect(answer.body == Array(Data(base64Encoded: base64)!), "exchange \(number)")
      } else if let text = expected["text"] as? String {
        if answer.headers["content-type"] == "application/json", !text.isEmpty {
          let theirs = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? NSObject
          let ours = try JSONSerialization.jsonObject(with: Data(answer.body)) as? NSObject
          #expect(ours == theirs, "exchange \(number): \(answer.text)")
        } else {
          #expect(answer.text == text, "exchange \(number)")
        }
      }
    }
  }
}
