import Foundation
import NodeTesting
import Testing

@Test func aNodeStartsServesAndStops() throws {
  let node = try NodeProcess()
  do {
    let client = try HTTPConnection(port: node.port)
    let written = try client.post("/api/v1/receive", #"{"tx":["mutable://open/a",{"x":1}]}"#)
    #expect(written.status == 200)
    #expect(written.headers["x-backplane-durability"] == "memory")
    let read = try client.get("/api/v1/read/mutable/open/a")
    #expect(read.text.hasSuffix(#""data":{"x":1}}"#))
  }
  // The client is gone: a node waits for idle ones.
  #expect(node.stop() == 0)
}
