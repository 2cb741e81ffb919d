import Foundation
import NodeTesting
import TLSTesting
import Testing

/// Tokens and rates of a whole node.
@Suite struct AccessTests {
  @Test func tokensFromFiles() throws {
    let folder = try TemporaryFolder()
    let token = "reader-0123456789abcdef"
    try folder.write(token + "\n", to: "token")
    let serving = try NodeProcess(
      folder: folder, environment: ["WRITER": "writer-0123456789abcdef"],
      configuration: SecureNode.configuration(
        nil,
        keys: [
          "tokens:", "  - name: reader", "    token_file: \(folder.path)/token", "    allow: [read, list]",
          "  - name: writer", "    token: ${env:WRITER}", "    allow: [all]",
        ]))
    for http2 in [true, false] {
      let client = try NIOClient(port: serving.port, http2: http2)
      let reader = ["authorization": "Bearer \(token)"]
      let writer = ["authorization": "Bearer writer-0123456789abcdef"]
      let message = #"{"tx":["mutable://open/a",1]}"#
      #expect(try client.get("/health").status == 200)
      let unnamed = try client.post("/api/v1/receive", message)
      #expect(unnamed.status == 401)
      #expect(unnamed.headers["www-authenticate"] == "Bearer")
      #expect(unnamed.text.hasPrefix(#"{"accepted":false,"error":"#))
      #expect(try client.post("/api/v1/receive", message, headers: reader).status == 403)
      #expect(try client.post("/api/v1/receive", message, headers: writer).status == 200)
      #expect(try client.get("/api/v1/read/mutable/open/a", headers: reader).status == 200)
      let wrong = try client.get("/api/v1/read/mutable/open/a", headers: ["authorization": "Bearer \(token)x"])
      #expect(wrong.status == 401)
      #expect(wrong.headers["www-authenticate"] == #"Bearer error="invalid_token""#)
    }
    for secret in [token, "writer-0123456789abcdef"] {
      #expect(!serving.log.contains(secret))
      #expect(try !serving.command(["config", "show", "--json"]).output.contains(secret))
    }
    #expect(serving.stop() == 0)
  }

  @Test func aRateForEachClient() throws {
    let node = try SecureNode.start(
      nil, authority: nil, keys: ["rate_limit: {requests_per_second: 0.01, burst: 5}"])
    let client = try HTTPConnection(port: node.port)
    let statuses = try (0..<8).map { _ in try client.get("/api/v1/schema").status }
    #expect(statuses == [200, 200, 200, 200, 200, 429, 429, 429])
    let refused = try NIOClient(port: node.port, http2: true).get("/api/v1/list/mutable/open")
    #expect(refused.status == 429)
    #expect(Int(refused.headers["retry-after"] ?? "") ?? 0 > 60)
    #expect(refused.text == #"{"success":false,"error":"Too many requests; wait before sending more."}"#)
    // Whoever looks after the node is not kept out.
    #expect(try client.get("/health").status == 200)
    #expect(node.stop() == 0)
  }
}
