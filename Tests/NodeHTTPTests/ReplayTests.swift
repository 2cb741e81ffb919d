import Foundation
import NodeTesting
import TLSTesting
import Testing

/// Whatever carries a request and its answer.
protocol Requester {
  func request(
    _ method: String, _ path: String, headers: [String: String], body: [UInt8]?
  ) throws -> HTTPConnection.Answer
}

extension HTTPConnection: Requester {}
extension NIOClient: Requester {}

/// The 253 recorded exchanges of the reference node against a real one, in order and on one connection.
@Suite struct ReplayTests {
  @Test func aMemoryNodeAnswersAsTheReferenceNodeDid() throws {
    try replay(backend: "memory://", order: OurAnswers.memory) { $0.expected }
  }

  /// Lists in natural order are in the order of the URI's bytes here; all else is the same.
  @Test func aSQLiteNodeAnswersAsTheReferenceNodeDid() throws {
    try replay(backend: "sqlite://", order: OurAnswers.sqlite) { exchange in
      guard exchange.group.hasPrefix("list") || exchange.number == 96, exchange.method == "GET" else {
        return exchange.expected
      }
      var expected = exchange.expected
      switch exchange.number {
      case 110: expected.body = Array(OurAnswers.list(["10", "9", "B"], page: 1, limit: 3, total: 9).utf8)
      case 111: expected.body = Array(OurAnswers.list(["a", "a/x", "a/y"], page: 2, limit: 3, total: 9).utf8)
      case 117:
        expected.body = Array(OurAnswers.list(OurAnswers.sqlite.all.reversed(), page: 1, limit: 50, total: 9).utf8)
      default:
        guard !exchange.path.contains("sortBy=name") else { break }
        expected.body = try sorted(expected.body)
      }
      return expected
    }
  }

  /// The answers do not depend on what carries them.
  @Test(arguments: [(false, true), (true, false), (true, true)])
  func aMemoryNodeAnswersTheSame(hasTLS: Bool, isHTTP2: Bool) throws {
    let certificates = try hasTLS ? Certificates() : nil
    let node = try SecureNode.start(try certificates?.issue("server"), authority: certificates?.authority)
    let tls = certificates.map { NIOClient.TLS(authority: $0.authority) }
    let client = try NIOClient(port: node.port, tls: tls, http2: isHTTP2)
    #expect(client.negotiated == (hasTLS ? isHTTP2 ? "h2" : "http/1.1" : nil))
    let order = OurAnswers.memory
    let ours = OurAnswers.choices(order).merging(OurAnswers.corrections(order)) { $1 }
    #expect(try replay(try Exchange.all(), client, ours) { $0.expected } == 253 - ours.count)
    #expect(client.isOpen)
    withExtendedLifetime(client) { #expect(node.stop() == 0) }
  }

  /// A list's text with its items by the bytes of their URIs.
  private func sorted(_ text: [UInt8]) throws -> [UInt8] {
    var value = try #require(try JSONSerialization.jsonObject(with: Data(text)) as? [String: Any])
    let uris = try #require(value["data"] as? [[String: String]]).compactMap { $0["uri"] }
    value["data"] = uris.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }.map { ["uri": $0] }
    return Array(try JSONSerialization.data(withJSONObject: value))
  }

  private func replay(
    backend: String, order: OurAnswers.Order, expected: (Exchange) throws -> Exchange.Expected
  ) throws {
    let exchanges = try Exchange.all()
    #expect(exchanges.count == 253)
    let choices = OurAnswers.choices(order)
    let corrections = OurAnswers.corrections(order)
    #expect(Set(exchanges.filter(\.isDefect).map(\.number)) == Set(corrections.keys), "every defect has our answer")
    let node = try NodeProcess(environment: ["BACKEND_URL": backend])
    #expect(
      try replay(
        exchanges, try HTTPConnection(port: node.port), choices.merging(corrections) { $1 }, expected) == 253
        - choices.count
        - corrections.count)
    #expect(node.stop() == 0)
  }

  /// How many exchanges outside `ours` are equal.
  private func replay(
    _ exchanges: [Exchange], _ client: some Requester, _ ours: [Int: OurAnswers.Choice],
    _ expected: (Exchange) throws -> Exchange.Expected
  ) throws -> Int {
    var equal = 0
    for exchange in exchanges {
      let answer = try client.request(
        exchange.method, exchange.path, headers: exchange.headers, body: exchange.body)
      let ours = ours[exchange.number]
      let differences = Exchange.differences(answer, try ours?.expected ?? expected(exchange))
      let name = "exchange \(exchange.number): \(exchange.method) \(exchange.path)"
      #expect(differences.isEmpty, "\(name)\(ours.map { " (\($0.reason))" } ?? "")")
      if let text = ours?.exactText { #expect(masked(answer.text) == text, "\(name)") }
      if ours == nil, differences.isEmpty { equal += 1 }
      #expect(!answer.closes, "\(name)")
      if exchange.method == "GET" { try compareHead(exchange, answer, client) }
    }
    return equal
  }

  /// HEAD has GET's head. (The peer says 0 for JSON; the true length is what HTTP asks for.)
  private func compareHead(_ exchange: Exchange, _ get: HTTPConnection.Answer, _ client: some Requester) throws {
    let head = try client.request("HEAD", exchange.path, headers: exchange.headers, body: nil)
    #expect(head.status == get.status, "HEAD \(exchange.path)")
    for name in Exchange.recordedHeaders + ["content-type", "content-length"] {
      #expect(head.headers[name] == get.headers[name], "HEAD \(exchange.path), \(name)")
    }
    #expect(head.body.isEmpty)
  }

  private func masked(_ text: String) -> String {
    text.replacing(#/^{"ts":\d+,/#) { _ in #"{"ts":0,"# }
  }
}
