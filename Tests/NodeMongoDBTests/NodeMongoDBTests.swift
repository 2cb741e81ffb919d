import Foundation
import MongoWireServer
import NodeTesting
import Testing

/// Whole nodes that keep their records in the server made for the tests.
@Suite(.serialized) struct NodeMongoDBTests {
  private static let plugins = BuiltProducts.bundled + ["backend-mongodb"]

  private func text(_ port: Int, _ url: String) -> String {
    "slots:\n  http: {kind: transport, port: \(port)}\n  records: {kind: backend, url: \"\(url)\"}\n"
  }

  private func node(_ url: String) throws -> NodeProcess {
    let port = FreePort.find()
    return try NodeProcess(
      plugins: Self.plugins, environment: ["PORT": ""], configuration: text(port, url), port: port)
  }

  @Test func recordsEnvelopesAndListsGoThere() throws {
    let server = MongoWireServer(.replicaSet(name: "rs0", others: ["127.0.0.1:1"]))
    let node = try node(server.url())
    let json = #"{"b" : 1.50,"a":"\u0000\ud800é","b":[1e400]}"#
    let written = try node.put("mutable://open/json", json)
    #expect(written.status == 200 && written.headers["x-backplane-durability"] == "quorum", "\(written.text)")
    #expect(try node.read("mutable/open/json").text.hasSuffix(",\"data\":\(json)}"))
    let envelope =
      #"{"payload":{"inputs":[],"outputs":[["mutable://open/a",{"n":1.0}],["#
      + #""mutable://open/b.bin",{"__b3nd_binary__":true,"encoding":"base64","data":"AP8="}]]}}"#
    #expect(try node.put("mutable://open/envelope", envelope).status == 200)
    #expect(try node.read("mutable/open/a").text.hasSuffix(#""data":{"n":1.0}}"#))
    #expect(try node.read("mutable/open/b.bin").body == [0, 255])
    let connection = try HTTPConnection(port: node.port)
    #expect(try connection.get("/api/v1/list/mutable/open").text.contains(#""total":4"#))
    #expect(try connection.request("DELETE", "/api/v1/delete/mutable/open/json").status == 200)
    #expect(try connection.request("DELETE", "/api/v1/delete/mutable/open/json").status == 404)
    #expect(server.documents().count == 3)
    #expect(node.stop() == 0)
  }

  /// What a reload cannot have is refused with a sentence, and what serves goes on.
  @Test func aBadConfigurationIsRefusedAndTheOldOneServes() throws {
    let server = MongoWireServer(user: "backplane", password: "right-word")
    func url(_ password: String, _ options: String = "") -> String {
      "mongodb://backplane:\(password)@\(server.address)/test\(options)"
    }
    let node = try node(url("right-word"))
    #expect(try node.put("mutable://open/a", "1").status == 200)
    for (bad, part) in [
      (url("wr0ng-word"), "user name and password"), (url("wr0ng-word", "?colection=x"), "colection"),
      ("mongodb://backplane:wr0ng-word@127.0.0.1:1/test?serverSelectionTimeoutMS=300", "127.0.0.1:1"),
      ("mongodb://backplane:wr0ng-word@\(server.address)", "must include database in path"),
    ] {
      try node.folder.write(text(node.port, bad), to: "backplane.yaml")
      let receipt = try node.reloadDirectly()
      #expect(receipt.outcome == "refused", "\(receipt)")
      #expect(receipt.refusals.contains { $0.message.contains(part) }, "\(part): \(receipt)")
      #expect(!receipt.description.contains("wr0ng-word"))
      #expect(try node.read("mutable/open/a").text.hasSuffix("\"data\":1}"))
    }
    try node.folder.write(text(node.port, url("right-word", "?collection=other")), to: "backplane.yaml")
    #expect(try node.reloadDirectly().outcome != "refused")
    #expect(try node.read("mutable/open/a").status == 404)
    #expect(!node.log.contains("wr0ng-word") && !node.log.contains("right-word"))
  }

  /// The process lives, requests wait or get 503, and it goes on by itself within two seconds.
  @Test func aRestartOfTheServerIsSurvived() throws {
    let server = MongoWireServer()
    let node = try node(server.url(options: "serverSelectionTimeoutMS=200"))
    #expect(try node.put("mutable://open/a", "1").status == 200)
    server.stop()
    #expect(try node.put("mutable://open/b", "2").status == 503)
    #expect(Polling.until(seconds: 60) { (try? node.health().status) == 503 })
    server.start()
    let returned = Date()
    #expect(Polling.until(seconds: 60) { (try? node.put("mutable://open/b", "3").status) == 200 })
    // Generous: the machine may be ten times slower than usual.
    #expect(Date().timeIntervalSince(returned) < 20)
    #expect(Polling.until(seconds: 60) { (try? node.health().status) == 200 })
    #expect(try node.read("mutable/open/a").text.hasSuffix("\"data\":1}"))
    #expect(node.isRunning)
  }
}
