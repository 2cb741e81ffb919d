import Foundation
import NodeTesting
import TLSTesting
import Testing

/// HTTP/2 in clear text, against a whole node.
@Suite struct HTTP2Tests {
  @Test func curlWithPriorKnowledge() throws {
    let node = try SecureNode.start(nil, authority: nil)
    let base = "http://127.0.0.1:\(node.port)"
    func curl(_ arguments: [String]) throws -> Curl.Answer {
      try Curl.run(["--http2-prior-knowledge"] + arguments, in: node.folder)
    }
    let large = String(repeating: "x", count: 3 << 20)
    try node.folder.write(#"{"tx":["mutable://open/large","\#(large)"]}"#, to: "large.json")
    #expect(try curl(["--data-binary", "@large.json", "\(base)/api/v1/receive"]).body == #"{"accepted":true}"#)
    let read = try curl(["\(base)/api/v1/read/mutable/open/large"])
    #expect(read.version == "2")
    #expect(read.body.hasSuffix(#","data":"\#(large)"}"#))
    #expect(try curl(["\(base)/nothing"]).status == 404)
    #expect(try curl(["-I", "\(base)/api/v1/read/mutable/open/large"]).status == 200)
    #expect(try curl(["-X", "DELETE", "\(base)/api/v1/delete/mutable/open/large"]).body == #"{"success":true}"#)
    // A client that offers to change the protocol gets HTTP/1.1, as one that does not.
    let upgrade = try Curl.run(["--http2", "\(base)/health"], in: node.folder)
    #expect(upgrade.status == 200)
    #expect(upgrade.version == "1.1")
    #expect(node.stop() == 0)
  }

  @Test func manyAtATime() throws {
    let node = try SecureNode.start(nil, authority: nil)
    let client = try NIOClient(port: node.port, http2: true)
    for round in 0..<5 {
      let writes = (0..<90).map { index in
        client.start(
          "POST", "/api/v1/receive", body: Array(#"{"tx":["mutable://open/\#(round)-\#(index)",\#(index)]}"#.utf8))
      }
      for write in writes { #expect(try write.wait().status == 200) }
      let reads = (0..<90).map { client.start("GET", "/api/v1/read/mutable/open/\(round)-\($0)") }
      for (index, read) in reads.enumerated() { #expect(try read.wait().text.hasSuffix(#","data":\#(index)}"#)) }
    }
    #expect(try node.metric("backplane_plugin_http_http2_connections") != nil)
    #expect(client.isOpen)
    withExtendedLifetime(client) { #expect(node.stop() == 0) }
  }

  @Test func aStopLetsStreamsFinish() throws {
    let node = try SecureNode.start(nil, authority: nil)
    let client = try NIOClient(port: node.port, http2: true)
    #expect(try client.get("/health").status == 200)
    #expect(node.stop() == 0)
    try client.waitForEnd()
  }
}
