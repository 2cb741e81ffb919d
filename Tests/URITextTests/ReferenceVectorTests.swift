import Foundation
import VectorTesting
import Testing
import URIText

@Suite struct ReferenceVectorTests {
  @Test func parsesAsTheReferenceDoes() throws {
    let vectors = try #require(try SharedVectors.object("b3nd.json")["uris"] as? [[String: Any]])
    #expect(vectors.count == 39)
    for vector in vectors {
      let uri = try #require(vector["uri"] as? String)
      let result = URIText.normalise(uri)
      guard let program = vector["program"] as? String else {
        #expect(result == nil, "\(uri)")
        continue
      }
      let segments = try #require(vector["segments"] as? [String])
      #expect(result?.program == program, "\(uri)")
      #expect(result?.segments == segments, "\(uri)")
      #expect(result?.text == program + segments.map { "/" + $0 }.joined(), "\(uri)")
    }
  }

  @Test func findsByPathWhatWasStoredByURI() throws {
    var records: [String: String] = [:]
    var order: [String] = []
    var reads = 0
    for exchange in try SharedVectors.exchanges(group: "encoding") {
      let path = try #require(exchange["path"] as? String)
      if let body = exchange["json"] as? [String: Any] {
        let uri = try #require((body["tx"] as? [Any])?.first as? String)
        let key = try #require(URIText.normalise(uri)?.text)
        if records.updateValue(uri, forKey: key) == nil { order.append(key) }
        continue
      }
      // The maximum counts cuts: "", api, v1, read or list, scheme, domain, rest.
      let cut = path.split(separator: "/", maxSplits: 6, omittingEmptySubsequences: false)
      let parts = cut.dropFirst(3).map(String.init)
      let rest = parts.count > 3 ? parts[3] : ""
      let key = try #require(URIText.fromPath(scheme: parts[1], domain: parts[2], rest: rest)?.text)
      let answer = try #require((exchange["response"] as? [String: Any])?["text"] as? String)
      let json = try #require(try JSONSerialization.jsonObject(with: Data(answer.utf8)) as? [String: Any])
      if parts[0] == "read" {
        let expected = try #require((json["data"] as? [String: Any])?["u"] as? String)
        #expect(records[key] == expected, "\(path)")
        reads += 1
      } else {
        let listed = try #require(json["data"] as? [[String: String]]).compactMap { $0["uri"] }
        #expect(order.filter { $0.hasPrefix(key + "/") } == listed)
      }
    }
    #expect(reads == 12)
  }
}
