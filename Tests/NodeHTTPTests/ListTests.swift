import Foundation
import NodeTesting
import Testing

/// Lists of more records than one page of a scan, on every kind of backend.
@Suite struct ListTests {
  private static let records = 3000

  private struct List: Decodable {
    struct Item: Decodable { var uri: String }
    struct Pagination: Decodable {
      var page: Int
      var limit: Int
      var total: Int
    }
    var data: [Item]
    var pagination: Pagination
  }

  /// One message with many outputs, in no order of theirs.
  private func fill(_ client: HTTPConnection) throws {
    let outputs = (0..<Self.records).map { #"["mutable://open/list/\#($0 * 7919 % Self.records)",1]"# }
    let message = #"{"payload":{"inputs":[],"outputs":[\#(outputs.joined(separator: ","))]}}"#
    #expect(try client.post("/api/v1/receive", #"{"tx":["mutable://open/filled",\#(message)]}"#).status == 200)
  }

  private func list(_ client: HTTPConnection, _ query: String) throws -> List {
    let answer = try client.get("/api/v1/list/mutable/open/list?\(query)")
    #expect(answer.status == 200, "\(answer.text.prefix(300))")
    return try JSONDecoder().decode(List.self, from: Data(answer.body))
  }

  /// A page that is asked for is the page that a scan of everything gives.
  @Test(arguments: [#"url: "memory://""#, #"url: "sqlite://""#, "url: \"memory://\"\n    isolation: process"])
  func pagesAreTheSameWithAndWithoutAScan(_ backend: String) throws {
    let node = try NodeProcess(configuration: "slots:\n  data:\n    kind: backend\n    \(backend)\n  http: {}\n")
    let client = try HTTPConnection(port: node.port)
    try fill(client)
    for (page, limit) in [(1, 50), (2, 1000), (3, 1000), (4, 1000), (30, 100), (3000, 1)] {
      let asked = try list(client, "page=\(page)&limit=\(limit)")
      // Everything matches, and the kernel has to look.
      let scanned = try list(client, "page=\(page)&limit=\(limit)&pattern=.")
      #expect(asked.pagination.total == Self.records && scanned.pagination.total == Self.records)
      #expect(asked.data.count == min(limit, max(0, Self.records - (page - 1) * limit)))
      #expect(asked.data.map(\.uri) == scanned.data.map(\.uri))
    }
    #expect(try node.metric("backplane_calls_total", #"slot="data""#, #"operation="query""#, #"code="ok""#) == 6)
    let newest = try list(client, "limit=3&sortBy=name&sortOrder=desc")
    #expect(newest.data.map(\.uri) == ["999", "998", "997"].map { "mutable://open/list/\($0)" })
  }

  @Test func aListThatNeedsTooMuchNamesTheLimit() throws {
    let node = try NodeProcess.memory(http: ["{}"], more: "limits:\n  list_sort_records_max: 100\n")
    let client = try HTTPConnection(port: node.port)
    try fill(client)
    #expect(try list(client, "limit=50&sortBy=name").data.count == 50)
    let refused = try client.get("/api/v1/list/mutable/open/list?limit=60&page=2&sortBy=name")
    #expect(refused.status == 503, "\(refused.text)")
    #expect(refused.text.contains("limits.list_sort_records_max"))
    let count = try node.metric("backplane_lists_refused_total", #"limit="limits.list_sort_records_max""#)
    #expect(count == 1)
  }
}
