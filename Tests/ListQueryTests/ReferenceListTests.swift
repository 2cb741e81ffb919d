import Foundation
import ListQuery
import VectorTesting
import Testing
import URIText

/// The reference's memory backend in small: depth first, first insertion first, a record before its children.
private final class Tree {
  private var order: [String] = []
  private var children: [String: Tree] = [:]
  private var uri: String?

  func insert(_ segments: ArraySlice<String>, uri: String) {
    guard let first = segments.first else {
      self.uri = uri
      return
    }
    if children[first] == nil {
      children[first] = Tree()
      order.append(first)
    }
    children[first]?.insert(segments.dropFirst(), uri: uri)
  }

  var uris: [String] { (uri.map { [$0] } ?? []) + order.flatMap { children[$0]?.uris ?? [] } }
}

@Suite struct ReferenceListTests {
  @Test func listsAsTheReferenceDoes() throws {
    let tree = Tree()
    for exchange in try SharedVectors.exchanges(group: "list-seed") {
      let body = try #require(exchange["json"] as? [String: Any])
      let uri = try #require((body["tx"] as? [Any])?.first as? String)
      let normal = try #require(URIText.normalise(uri))
      tree.insert([normal.program] + normal.segments[...], uri: normal.text)
    }
    let exchanges =
      try SharedVectors.exchanges(group: "list")
      + SharedVectors.exchanges(group: "list-sub")
      .filter { $0["defect"] == nil }
    #expect(exchanges.count == 22)
    for exchange in exchanges {
      let path = try #require(exchange["path"] as? String)
      let page = try list(path, in: tree.uris)
      let answer = try #require((exchange["response"] as? [String: Any])?["text"] as? String)
      let json = try #require(try JSONSerialization.jsonObject(with: Data(answer.utf8)) as? [String: Any])
      let expected = try #require(json["data"] as? [[String: String]]).compactMap { $0["uri"] }
      #expect(page.uris == expected, "\(path)")
      let total = try #require((json["pagination"] as? [String: Any])?["total"] as? Int)
      // Past the end the reference forgets the total; here it is true on every page.
      #expect(page.total == (path.contains("page=4") ? 9 : total), "\(path)")
    }
  }

  private func list(_ path: String, in uris: [String]) throws -> ListPage {
    let components = try #require(URLComponents(string: path))
    var query = ListQuery()
    for item in components.queryItems ?? [] {
      guard let value = item.value, !value.isEmpty else { continue }
      switch item.name {
      case "page": query.page = Int(try #require(Double(value)))
      case "limit": query.limit = Int(try #require(Double(value)))
      case "pattern": query.pattern = value
      case "sortBy": query.sortBy = value == "name" ? .name : value == "timestamp" ? .timestamp : .none
      case "sortOrder": query.isDescending = value == "desc"
      default: Issue.record("unknown parameter \(item.name)")
      }
    }
    let parts = components.percentEncodedPath.split(separator: "/").dropFirst(3).map(String.init)
    let rest = parts.dropFirst(2).joined(separator: "/")
    let base = try #require(URIText.fromPath(scheme: parts[0], domain: parts[1], rest: rest)).text
    return try collect(query, uris.filter { $0.hasPrefix(base + "/") }.map { ($0, 0) })
  }
}
