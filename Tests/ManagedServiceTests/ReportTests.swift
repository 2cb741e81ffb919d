import ManagedNode
import Testing

@testable import ManagedService

/// What the node says of itself.
@Suite struct ReportTests {
  @Test func aStatusHasThePeersShape() async throws {
    let scene = try Scene()
    try scene.publish(scene.configuration(), timestampMs: 77)
    let manager = scene.manager()
    await manager.pollConfiguration()
    scene.clock.skip(ms: 1_234)
    await manager.writeStatus()
    let now = Int64(scene.clock.wallMs)
    #expect(
      try scene.statusTexts().map(text) == [
        #"{"nodeId":"\#(scene.cast.nodeID)","name":"north","status":"online","lastHeartbeat":\#(now),"uptime":1234,"#
          + #""configTimestamp":77,"server":{"port":9942},"backends":[{"type":"memory","status":"connected"}]}"#
      ])
  }

  @Test func backendsAreAsTheHostSeesThem() async throws {
    let scene = try Scene()
    let manager = scene.manager()
    await manager.pollConfiguration()
    await manager.writeStatus()
    #expect(try scene.statuses().last?.backends.map(\.type) == ["memory"])
    #expect(try scene.statuses().last?.name == scene.cast.nodeID)
    try scene.publish(
      scene.configuration(
        backends: #"[{"type":"postgresql","url":"postgres://db/x"},{"type":"http","url":"https://up.example"}]"#,
        #""peers":[{"url":"http://peer.example","direction":"push"}]"#))
    await manager.pollConfiguration()
    // The peer's slot is behind the backend of the same scheme.
    scene.node.state.withLock {
      $0.slots = [FakeNode.backend("postgres", .unhealthy), FakeNode.backend("https"), FakeNode.backend("http")]
    }
    await manager.writeStatus()
    var status = try #require(try scene.statuses().last)
    #expect(
      status.backends == [
        NodeStatus.Backend(type: "postgresql", status: "error"), NodeStatus.Backend(type: "http", status: "connected"),
      ])
    #expect(status.status == .degraded && status.problem == nil)
    // A backend that has no slot is no better than one that does not answer.
    scene.node.state.withLock { $0.slots = [FakeNode.backend("postgres")] }
    await manager.writeStatus()
    status = try #require(try scene.statuses().last)
    #expect(status.backends.map(\.status) == ["connected", "error"])
    scene.node.state.withLock { $0.slots = [FakeNode.backend("postgres"), FakeNode.backend("https", .degraded)] }
    await manager.writeStatus()
    #expect(try scene.statuses().last?.status == .online)
  }

  @Test func metricsAreOfTheirWindowAlone() async throws {
    let scene = try Scene()
    try scene.publish(scene.configuration(metrics: true))
    let manager = scene.manager()
    await manager.pollConfiguration()
    func count(_ name: String, _ calls: UInt64, _ failures: UInt64, bucket: Int) {
      var buckets = [UInt64](repeating: 0, count: 24)
      buckets[bucket] = calls
      scene.node.state.withLock {
        $0.operations[name] = CallCounts(calls: calls, failures: failures, buckets: buckets)
      }
    }
    func last() throws -> NodeMetrics {
      let data = try #require(scene.store.writes(to: scene.metricsURI).last)
      return try NodeMetrics(
        try ManagedDocument.metrics(nodeId: scene.cast.nodeID).open(data).payload.bytes)
    }
    count("receive", 300, 3, bucket: 12)
    count("read", 600, 0, bucket: 8)
    count("list", 1_000, 1_000, bucket: 20)
    scene.clock.skip(ms: 30_000)
    await manager.writeMetrics()
    var metrics = try last()
    #expect(metrics.opsPerSecond == 30 && metrics.errorRate == 3.0 / 900)
    // Bucket 12 ends at 1.05 ms.
    #expect(metrics.writeLatencyP50Ms > 0.5 && metrics.writeLatencyP99Ms < 1.05)
    #expect(metrics.readLatencyP99Ms > 0.03 && metrics.readLatencyP99Ms < 0.07)
    scene.clock.skip(ms: 30_000)
    await manager.writeMetrics()
    metrics = try last()
    #expect(metrics == NodeMetrics())
    await manager.writeStatus()
    #expect(try scene.statuses().last?.metrics == NodeMetrics())
    // Nothing is written when the configuration does not want it, and the window goes on.
    try scene.publish(scene.configuration(metrics: false))
    await manager.pollConfiguration()
    let before = scene.store.writes(to: scene.metricsURI).count
    await manager.writeMetrics()
    #expect(scene.store.writes(to: scene.metricsURI).count == before)
  }

  @Test func reportsAreEncryptedToTheOperator() async throws {
    let cast = try Cast()
    let key = cast.operatorEncryption.publicKeyHex
    let scene = try Scene(#""operator_encryption_public_key_hex":"\#(key)""#)
    await scene.manager().writeStatus()
    let data = try #require(scene.store.writes(to: scene.statusURI).last)
    let document = ManagedDocument.status(nodeId: scene.cast.nodeID)
    let opened = try document.open(data, decryptionKey: cast.operatorEncryption)
    #expect(opened.wasEncrypted)
    #expect(try NodeStatus(opened.payload.bytes).nodeId == scene.cast.nodeID)
    #expect(throws: ManagedMessageError.self) { try document.open(data, decryptionKey: scene.cast.nodeEncryption) }
  }

  @Test func whatIsNotWrittenIsSaid() async throws {
    let scene = try Scene()
    try scene.publish(scene.configuration(metrics: true))
    let manager = scene.manager()
    await manager.pollConfiguration()
    scene.journal.forget()
    scene.store.state.withLock {
      $0.writeTrouble = Trouble("it refuses it: Signature verification failed", isRefusal: true)
    }
    await manager.writeStatus()
    await manager.writeMetrics()
    await manager.writeStatus()
    #expect(
      scene.journal.lines == [
        "[heartbeat] Failed to write status: it refuses it: Signature verification failed",
        "[metrics] Failed to write metrics: it refuses it: Signature verification failed",
      ])
    #expect(scene.meter.state.withLock { $0.reports } == ["status failed", "metrics failed", "status failed"])
  }
}
