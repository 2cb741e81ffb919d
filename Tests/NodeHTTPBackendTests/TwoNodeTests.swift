import Foundation
import NodeTesting
import Testing

/// Two real nodes, one the other's backend.
@Suite struct TwoNodeTests {
  private func same(_ nodes: TwoNodes, _ path: String) throws -> HTTPConnection.Answer {
    let front = try HTTPConnection(port: nodes.front.port).get("/api/v1/read/\(path)")
    let remote = try HTTPConnection(port: nodes.remote.port).get("/api/v1/read/\(path)")
    #expect(front.status == remote.status && front.body == remote.body, "\(path)")
    #expect(front.headers["content-type"] == remote.headers["content-type"], "\(path)")
    return front
  }

  private func put(_ node: NodeProcess, _ uri: String, _ data: String) throws -> HTTPConnection.Answer {
    try HTTPConnection(port: node.port).post("/api/v1/receive", #"{"tx":["\#(uri)",\#(data)]}"#)
  }

  @Test func recordsGoThroughAsTheyAre() throws {
    let nodes = try TwoNodes()
    let json = #"{"b" : 1.50,"a":"\u0000\ud800é","b":[1e400]}"#
    let written = try put(nodes.front, "mutable://open/json", json)
    #expect(written.text == #"{"accepted":true}"# && written.headers["x-backplane-durability"] == "memory")
    #expect(try same(nodes, "mutable/open/json").text.hasSuffix(",\"data\":\(json)}"))
    for (name, text) in [("null", "null"), ("string", #""text""#), ("odd|^[%zz]%2F", "5"), ("", "1"), ("%20%C3", "[]")]
    {
      #expect(try put(nodes.front, "mutable://open/\(name)", text).status == 200)
      #expect(try same(nodes, "mutable/open/\(name)").text.hasSuffix(",\"data\":\(text)}"), "\(name)")
    }
    // Bytes keep their kind whatever their name says.
    for name in ["x.json", "x.html", "x.png", "plain"] {
      let marker = #"{"__b3nd_binary__":true,"encoding":"base64","data":"eyJ0cyI6MSwiZGF0YSI6Mn0="}"#
      #expect(try put(nodes.front, "mutable://open/\(name)", marker).status == 200)
      #expect(try same(nodes, "mutable/open/\(name)").text == #"{"ts":1,"data":2}"#)
    }
    let front = try HTTPConnection(port: nodes.front.port)
    #expect(try front.request("DELETE", "/api/v1/delete/mutable/open/json").status == 200)
    #expect(try same(nodes, "mutable/open/json").status == 404)
    #expect(try front.request("DELETE", "/api/v1/delete/mutable/open/json").status == 404)
  }

  @Test func envelopesAreAppliedByTheOtherNode() throws {
    let nodes = try TwoNodes()
    let envelope =
      #"{"payload":{"inputs":[],"outputs":[["mutable://open/a",{"n":1.0}],["#
      + #""mutable://open/b",{"__b3nd_binary__":true,"encoding":"base64","data":"AP8="}]]}}"#
    #expect(try put(nodes.front, "mutable://open/envelope", envelope).status == 200)
    #expect(try same(nodes, "mutable/open/a").text.hasSuffix(#""data":{"n":1.0}}"#))
    #expect(try same(nodes, "mutable/open/b").body == [0, 255])
    #expect(try same(nodes, "mutable/open/envelope").text.contains(#""outputs""#))
    // The rules of the other node hold too.
    let forged = #"{"payload":{"inputs":[],"outputs":[["hash://sha256/00",1],["mutable://open/c",1]]}}"#
    #expect(try put(nodes.front, "mutable://open/forged", forged).status == 400)
    #expect(try same(nodes, "mutable/open/c").status == 404)
  }

  @Test func listsAreTheOtherNodes() throws {
    let nodes = try TwoNodes(
      remote: "limits: {list_page_records_max: 20}\nslots:\n  memory: {kind: backend, url: \"memory://\"}\n")
    for index in 0..<55 { #expect(try put(nodes.front, "mutable://open/d/\(index)", "\(index)").status == 200) }
    #expect(try put(nodes.front, "mutable://open/e", "1").status == 200)
    let front = try HTTPConnection(port: nodes.front.port)
    func list(_ query: String) throws -> (uris: [String], total: Int) {
      let answer = try front.get("/api/v1/list/mutable/open/d?\(query)")
      let object = try #require(answer.json as? [String: Any], "\(answer.text)")
      let data = try #require(object["data"] as? [[String: String]])
      let pagination = try #require(object["pagination"] as? [String: Any])
      return (data.compactMap { $0["uri"] }, try #require(pagination["total"] as? Int))
    }
    var seen: [String] = []
    for page in 1...6 {
      let (uris, total) = try list("page=\(page)&limit=10")
      #expect(uris.count == (page == 6 ? 5 : 10) && total == 55)
      seen += uris
    }
    #expect(Set(seen) == Set((0..<55).map { "mutable://open/d/\($0)" }) && seen.count == 55)
    // More a page than the other node gives out.
    let all = try list("limit=1000&sortBy=name")
    #expect(all.uris.count == 55 && all.total == 55)
    #expect(Set(all.uris) == Set(seen))
    #expect(try list("limit=1000&pattern=/d/1.$").uris.count == 10)
    #expect(try list("limit=10&page=9").total == 55)
  }

  @Test func manyAtOnceAndReadMulti() throws {
    let nodes = try TwoNodes()
    DispatchQueue.concurrentPerform(iterations: 4) { thread in
      do {
        let client = try HTTPConnection(port: nodes.front.port)
        for index in 0..<50 {
          let answer = try client.post("/api/v1/receive", #"{"tx":["mutable://open/\#(thread)/\#(index)",\#(index)]}"#)
          #expect(answer.status == 200, "\(answer.text)")
          #expect(try client.get("/api/v1/read/mutable/open/\(thread)/\(index)").text.hasSuffix(":\(index)}"))
        }
      } catch {
        Issue.record(error)
      }
    }
    let uris = (0..<50).map { #""mutable://open/1/\#($0)""# }
    let client = try HTTPConnection(port: nodes.front.port)
    let answer = try client.post("/api/v1/read-multi", #"{"uris":[\#(uris.joined(separator: ","))]}"#)
    let summary = (answer.json as? [String: Any])?["summary"] as? [String: Int]
    #expect(summary == ["total": 50, "succeeded": 50, "failed": 0])
  }

  @Test func largeRecords() throws {
    let nodes = try TwoNodes()
    let text = "\"\(String(repeating: "a", count: (64 << 20) - 2))\""
    let written = try put(nodes.front, "mutable://open/large", text)
    #expect(written.status == 200, "\(written.text)")
    let answer = try HTTPConnection(port: nodes.front.port, timeoutSeconds: 60).get("/api/v1/read/mutable/open/large")
    #expect(answer.status == 200 && answer.body.count > 64 << 20)
    #expect(answer.body.suffix(70).elementsEqual("\(text.suffix(69))}".utf8))
    let bytes = Data((0..<(10 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31) })
    let marker = #"{"__b3nd_binary__":true,"encoding":"base64","data":"\#(bytes.base64EncodedString())"}"#
    #expect(try put(nodes.front, "mutable://open/large.bin", marker).status == 200)
    let read = try HTTPConnection(port: nodes.front.port, timeoutSeconds: 60).get("/api/v1/read/mutable/open/large.bin")
    #expect(Data(read.body) == bytes)
  }

  @Test func theOtherNodeIsKilledAndComesBack() throws {
    let nodes = try TwoNodes(remote: "slots:\n  sqlite: {kind: backend, url: \"sqlite://\"}\n")
    let written = try put(nodes.front, "mutable://open/a", "1")
    #expect(written.status == 200 && written.headers["x-backplane-durability"] == "disk")
    nodes.remote.signal(SIGKILL)
    _ = nodes.remote.wait()
    let client = try HTTPConnection(port: nodes.front.port)
    for _ in 0..<5 {
      let read = try client.get("/api/v1/read/mutable/open/a")
      #expect(read.status == 503 && read.headers["retry-after"] != nil && read.text.contains("cannot be reached"))
      #expect(try put(nodes.front, "mutable://open/a", "2").status == 503)
      #expect(try client.get("/api/v1/list/mutable/open").status == 503)
    }
    #expect(try client.get("/api/v1/health").status == 503)
    let again = try nodes.remoteAgain()
    // At once.
    #expect(try client.get("/api/v1/read/mutable/open/a").text.hasSuffix(#""data":1}"#))
    #expect(try put(nodes.front, "mutable://open/a", "3").status == 200)
    #expect(try client.get("/api/v1/health").status == 200)
    #expect(nodes.front.isRunning)
    withExtendedLifetime(again) {}
  }

  /// Nothing goes round, and nobody waits for himself.
  @Test func nodesThatAreEachOthersBackends() throws {
    let ports = [FreePort.find(), FreePort.find()]
    let nodes = try (0..<2).map { index in
      try NodeProcess(
        plugins: TwoNodes.plugins, environment: ["PORT": ""],
        configuration: TwoNodes.at(
          ports[index],
          """
          node: {backends: [memory, other]}
          slots:
            memory: {kind: backend, url: "memory://"}
            other: {kind: backend, url: "http://127.0.0.1:\(ports[1 - index])", health_interval_ms: 100}
          """), port: ports[index], waits: false)
    }
    for node in nodes { try node.waitUntilHealthy() }
    #expect(try put(nodes[0], "mutable://open/a", "1").status == 200)
    #expect(try put(nodes[1], "mutable://open/b", "2").status == 200)
    for node in nodes {
      let client = try HTTPConnection(port: node.port)
      #expect(try client.get("/api/v1/read/mutable/open/a").text.hasSuffix(":1}"))
      #expect(try client.get("/api/v1/read/mutable/open/b").text.hasSuffix(":2}"))
      #expect(try client.get("/api/v1/read/mutable/open/none").status == 404)
      #expect(try client.get("/api/v1/list/mutable/none").text.contains(#""total":0"#))
    }
    // The same URI from both sides at once, from more clients than there are connections.
    DispatchQueue.concurrentPerform(iterations: 8) { index in
      do {
        let client = try HTTPConnection(port: ports[index % 2])
        for round in 0..<10 {
          let answer = try client.post("/api/v1/receive", #"{"tx":["mutable://open/both",\#(index * 100 + round)]}"#)
          #expect(answer.status == 200, "\(answer.text)")
        }
      } catch {
        Issue.record(error)
      }
    }
    let client = try HTTPConnection(port: ports[0])
    #expect(try client.request("DELETE", "/api/v1/delete/mutable/open/a").status == 200)
    #expect(try HTTPConnection(port: ports[1]).get("/api/v1/read/mutable/open/a").status == 404)
    #expect(try client.request("DELETE", "/api/v1/delete/mutable/open/a").status == 404)
  }

  @Test func aWrongURLKeepsTheOldOneServing() throws {
    let nodes = try TwoNodes()
    #expect(try put(nodes.front, "mutable://open/a", "1").status == 200)
    for (url, sentence) in [
      ("http://us3r:s3cret@no-such-host.invalid", "not known"),
      ("http://127.0.0.1:\(nodes.remote.port)/nowhere", "no node answers"),
      ("https://127.0.0.1:\(nodes.remote.port)", "TLS"), ("http://us3r:s3cret@h:0", "port"),
    ] {
      try nodes.front.folder.write(
        TwoNodes.at(nodes.front.port, "slots:\n  upstream: {kind: backend, url: \"\(url)\"}\n"), to: "backplane.yaml")
      let receipt = try nodes.front.reload()
      let text = "\(receipt)"
      #expect(receipt["outcome"] as? String != "applied" && text.contains(sentence), "\(text)")
      #expect(!text.contains("s3cret"))
      let answer = try HTTPConnection(port: nodes.front.port).get("/api/v1/read/mutable/open/a")
      #expect(answer.text.hasSuffix(":1}"))
    }
    #expect(!nodes.front.log.contains("s3cret"))
  }
}
