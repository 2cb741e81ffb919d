import BackendSupport
import BackendTesting
import MongoDBBackend
import MongoWireServer
import PluginAPI
import Testing

/// Counts of this process's threads and descriptors: nobody else may make any meanwhile.
@Suite(.serialized) struct LeakTests {
  private func counts() -> (threads: Int, descriptors: Int) { (ProcessCounts.threads, ProcessCounts.descriptors) }

  @Test func manyReconfigurationsLeaveNothingBehind() throws {
    let server = MongoWireServer()
    func cycle(_ index: Int) throws {
      let backend = try Bench.start(server.url(options: "collection=c\(index % 7)"))
      #expect(backend.put("mutable://open/a", "1").code == BP_OK)
      #expect(backend.apply([.put("mutable://open/a", [0x31]), .put("mutable://open/b", [0x32])]).code == BP_OK)
      #expect(backend.text("mutable://open/b") == "2")
      #expect(backend.scan("").count == 2)
      try backend.stop()
    }
    try cycle(0)
    #expect(wait { server.connections.open == 0 })
    let before = counts()
    for index in 0..<100 { try cycle(index) }
    #expect(wait { server.connections.open == 0 })
    // A connection's thread is joined when the next one comes.
    try cycle(0)
    #expect(wait { server.connections.open == 0 })
    let isBack = wait { counts().descriptors <= before.descriptors && counts().threads <= before.threads }
    #expect(isBack, "\(before) became \(counts())")
  }

  @Test func refusedStartsLeaveNothingBehind() throws {
    let server = MongoWireServer(user: "u", password: "right")
    func refused() {
      #expect(Bench.refusal("mongodb://u:wrong@\(server.address)/test") != nil)
      #expect(Bench.refusal("mongodb://127.0.0.1:1/test?serverSelectionTimeoutMS=50") != nil)
    }
    refused()
    #expect(wait { server.connections.open == 0 })
    let before = counts()
    for _ in 0..<20 { refused() }
    #expect(wait { server.connections.open == 0 })
    refused()
    let isBack = wait { counts().descriptors <= before.descriptors && counts().threads <= before.threads }
    #expect(isBack, "\(before) became \(counts())")
  }

  @Test func stoppingWithAServerGoneEnds() throws {
    let server = MongoWireServer()
    let backend = try Bench.start(server.url(options: "serverSelectionTimeoutMS=100"))
    #expect(backend.put("mutable://open/a", "1").code == BP_OK)
    server.stop()
    let calls = backend.submit(
      (0..<5_000).map { LocalUnit([.put("mutable://open/\($0)", [0x31])], timestampMs: 1, version: UInt64($0)) })
    try backend.stop()
    #expect(calls.allSatisfy { $0.completionsCount == 1 })
    #expect(calls.allSatisfy { $0.wait().code == BP_UNAVAILABLE })
  }
}
