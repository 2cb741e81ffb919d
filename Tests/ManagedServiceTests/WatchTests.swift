import ManagedNode
import MessageCrypto
import Testing

@testable import ManagedService

/// The configuration as it is read, verified and applied.
@Suite struct WatchTests {
  @Test func aStartSaysWhatThePeersSays() async throws {
    let scene = try Scene()
    try scene.publish(scene.configuration())
    let manager = scene.manager()
    let work = Task { await manager.run() }
    await scene.clock.settled(5)
    #expect(
      scene.journal.lines == [
        "[managed] Node ID: \(scene.cast.nodeID)", "[managed] Operator: \(scene.cast.operatorKey)",
        "[managed] Config URL: http://config.test:9900", "[managed] Loaded config: \"north\" (v1)",
        "[managed] Backends hot-swapped from config", "[managed] Managed mode active",
      ])
    #expect(
      scene.kernel.proposals == [
        #"{"replaces":["backend"],"node":{"name":"north"},"backends":[{"url":"memory://"}],"#
          + #""slots":{"http":{"port":9942,"cors_origin":"*"}}}"#
      ])
    work.cancel()
    await manager.end()
    await work.value
  }

  @Test func withoutAConfigurationItTriesAgain() async throws {
    let scene = try Scene()
    let manager = scene.manager()
    await manager.pollConfiguration()
    #expect(
      scene.journal.lines == [
        "[managed] Config not available yet: Config not found at \(scene.configURI)",
        "[managed] Running with Phase 1 backends; config watcher will retry", "[managed] Managed mode active",
      ])
    #expect(scene.kernel.proposals.isEmpty)
    scene.journal.forget()
    scene.store.fail("http://config.test:9900 cannot be reached: connection refused")
    await manager.pollConfiguration()
    #expect(
      scene.journal.lines == [
        "[managed] Config poll error: http://config.test:9900 cannot be reached: connection refused"
      ])
    // Not a second time in the same moment.
    await manager.pollConfiguration()
    #expect(scene.journal.lines.count == 1)
    scene.clock.skip(ms: 30_000)
    await manager.pollConfiguration()
    #expect(scene.journal.lines.count == 2)
    scene.store.fail(nil)
    try scene.publish(scene.configuration(name: "late"))
    await manager.pollConfiguration()
    #expect(
      scene.journal.lines.suffix(2) == [
        "[managed] Config change detected, applying...", "[managed] Config applied: \"late\"",
      ])
  }

  @Test func onlyAChangeIsApplied() async throws {
    let scene = try Scene()
    try scene.publish(scene.configuration(), timestampMs: 10)
    let manager = scene.manager()
    for _ in 0..<3 { await manager.pollConfiguration() }
    #expect(scene.kernel.proposals.count == 1)
    try scene.publish(scene.configuration(), timestampMs: 11)
    await manager.pollConfiguration()
    #expect(scene.kernel.proposals.count == 2)
    // An older record is a change too: operators republish freely.
    try scene.publish(scene.configuration(name: "south"), timestampMs: 5)
    await manager.pollConfiguration()
    #expect(scene.kernel.proposals.count == 3)
    #expect(await manager.inForce?.configuration.name == "south")
  }

  @Test func whatIsRefusedIsTriedAgainAndSaidOnce() async throws {
    let scene = try Scene()
    try scene.publish(scene.configuration())
    let manager = scene.manager()
    await manager.pollConfiguration()
    scene.journal.forget()
    scene.kernel.judge { _ in .refused(reason: "db.example:5432 refuses the connection") }
    try scene.publish(
      scene.configuration(name: "south", backends: #"[{"type":"postgresql","url":"postgresql://db.example/x"}]"#))
    for _ in 0..<3 { await manager.pollConfiguration() }
    #expect(scene.kernel.proposals.count == 4)
    #expect(
      scene.journal.lines == [
        "[managed] Config change detected, applying...",
        "[managed] Failed to apply config: db.example:5432 refuses the connection",
      ])
    #expect(await manager.inForce?.configuration.name == "north")
    #expect(scene.meter.health == "the configuration was not applied: db.example:5432 refuses the connection")
    await manager.writeStatus()
    let status = try #require(try scene.statuses().last)
    #expect(status.status == .degraded && status.problem == "db.example:5432 refuses the connection")
    // Another reason is news.
    scene.kernel.judge { _ in .refused(reason: "the password is wrong") }
    await manager.pollConfiguration()
    #expect(scene.journal.lines.last == "[managed] Failed to apply config: the password is wrong")
    scene.kernel.judge { _ in .inPlace }
    await manager.pollConfiguration()
    #expect(scene.journal.lines.last == "[managed] Config applied: \"south\"")
    #expect(scene.meter.health == nil)
  }

  @Test func aFirstOneThatFailsLeavesThePhaseOneBackends() async throws {
    let scene = try Scene()
    scene.kernel.judge { _ in .refused(reason: "db.example:5432 refuses the connection") }
    try scene.publish(scene.configuration())
    let manager = scene.manager()
    await manager.pollConfiguration()
    #expect(
      scene.journal.lines == [
        "[managed] Loaded config: \"north\" (v1)",
        "[managed] Failed to build backends from config: db.example:5432 refuses the connection",
        "[managed] Continuing with Phase 1 backends", "[managed] Managed mode active",
      ])
    #expect(await manager.inForce == nil)
  }

  /// Messages that are not the operator's word to this node.
  @Test func strangersAreRefused() async throws {
    let scene = try Scene()
    let (uri, key) = (scene.configURI, scene.cast.operatorKey)
    try scene.publish(scene.configuration())
    let manager = scene.manager()
    await manager.pollConfiguration()
    let good = scene.store.state.withLock { $0.records[uri]!.data }

    func refusal(_ store: () throws -> Void) async throws -> String? {
      try store()
      scene.clock.skip(ms: 20_000)
      scene.journal.forget()
      await manager.pollConfiguration()
      return scene.journal.lines.last
    }
    let prefix = "[managed] Config poll error: "
    let unsigned = "Config at \(uri) has no valid signature from operator \(key)"
    #expect(try await refusal { try scene.publish(scene.configuration(), by: Ed25519.KeyPair()) } == prefix + unsigned)
    #expect(
      try await refusal {
        scene.store.put(uri, Array(text(good).replacing(#""north""#, with: #""south""#).utf8))
      } == prefix + unsigned)
    #expect(
      try await refusal { try scene.publish(scene.configuration(), to: scene.cast.nodeEncryption) }
        == prefix + "Config at \(uri) is encrypted but no decryption key provided")
    let other = String(repeating: "ab", count: 32)
    #expect(
      try await refusal { try scene.publish(scene.configuration(nodeID: other)) }
        == prefix + "Config at \(uri) is for the node \(other), and this node is \(scene.cast.nodeID)")
    #expect(
      try await refusal { try scene.publish(#"{"configVersion":2}"#) }
        == prefix + "Invalid config data at \(uri): configVersion must be 1")
    #expect(
      try await refusal { scene.store.put(uri, Array(#"{"a":1}"#.utf8)) }
        == prefix + "Config at \(uri) is not a signed AuthenticatedMessage")
    #expect(try await refusal { scene.store.put(uri, Array("7".utf8)) } == prefix + "Invalid config data at \(uri)")
    #expect(scene.kernel.proposals.count == 1)
    #expect(scene.meter.health == "Invalid config data at \(uri)")
    await manager.writeStatus()
    #expect(try scene.statuses().last?.status == .degraded)
    scene.store.put(uri, good)
    await manager.pollConfiguration()
    #expect(scene.meter.health == nil)
  }

  @Test func encryptedOnesAreReadEveryTime() async throws {
    let cast = try Cast()
    let scene = try Scene(#""node_encryption_private_key_hex":"\#(cast.nodeEncryptionHex)""#)
    let manager = scene.manager()
    for name in ["a", "b", "c"] {
      try scene.publish(scene.configuration(name: name), to: cast.nodeEncryption)
      await manager.pollConfiguration()
      #expect(await manager.inForce?.configuration.name == name)
    }
    try scene.publish(scene.configuration(), to: X25519.KeyPair())
    await manager.pollConfiguration()
    #expect(scene.journal.lines.last?.contains("cannot be decrypted") == true)
    #expect(await manager.inForce?.configuration.name == "c")
  }

  @Test func theGoldenMessagesAreTaken() async throws {
    let cast = try Cast()
    for key in ["signedConfig", "signedEncryptedConfig"] {
      let scene = try Scene(#""node_encryption_private_key_hex":"\#(cast.nodeEncryptionHex)""#)
      scene.store.put(scene.configURI, try cast.recorded(key))
      await scene.manager().pollConfiguration()
      #expect(
        scene.kernel.proposals == [
          #"{"replaces":["backend"],"node":{"name":"evergreen-1"},"backends":[{"url":"memory://"},"#
            + #"{"url":"http://127.0.0.1:9943","peer":"pull"}],"slots":{"http":{"port":9942,"cors_origin":"*"}}}"#
        ], "\(key)")
    }
    let scene = try Scene()
    let uris = try #require(cast.vectors["uris"] as? [String: String])
    #expect(uris["config"] == scene.configURI && uris["update"] == scene.updateURI)
    #expect(uris["status"] == scene.statusURI && uris["metrics"] == scene.metricsURI)
    scene.store.put(scene.updateURI, try cast.recorded("signedUpdate"))
    await scene.manager().checkForUpdate()
    #expect(
      scene.journal.lines == [
        "[managed] Update available: v1.2.0 at https://releases.example.com/node-1.2.0.ts",
        "[managed] Release notes: notes",
      ])
  }

  @Test func theLastOneIsKeptForAStartWithoutAServer() async throws {
    let first = try Scene()
    try first.publish(first.configuration())
    await first.manager().pollConfiguration()
    let second = try Scene(folder: first.folder)
    second.store.fail("nobody is there")
    let manager = second.manager()
    await manager.pollConfiguration()
    #expect(
      second.journal.lines == [
        "[managed] Config not available yet: nobody is there",
        "[managed] Using the configuration that was kept from the last time", "[managed] Loaded config: \"north\" (v1)",
        "[managed] Backends hot-swapped from config", "[managed] Managed mode active",
      ])
    #expect(second.kernel.proposals.count == 1)
    // It is the operator's word that counts and not the file.
    let other = try Scene(folder: first.folder)
    let files = StateFiles(first.folder.path)
    let kept = try #require(files.read("last-configuration.json"))
    try files.write("last-configuration.json", Array(text(kept).replacing(#""north""#, with: #""evil""#).utf8))
    other.store.fail("nobody is there")
    await other.manager().pollConfiguration()
    #expect(other.kernel.proposals.isEmpty)
    #expect(other.journal.count("cannot be used") == 1)
    // And not at all when it is not wanted.
    let unwanted = try Scene(#""keep_last_configuration":false"#)
    try unwanted.publish(unwanted.configuration())
    await unwanted.manager().pollConfiguration()
    #expect(StateFiles(unwanted.folder.path).read("last-configuration.json") == nil)
  }

  @Test func oldOnesCanBeRefused() async throws {
    let scene = try Scene(#""require_newer_configuration":true"#)
    try scene.publish(scene.configuration(name: "a"), timestampMs: 100)
    let manager = scene.manager()
    await manager.pollConfiguration()
    try scene.publish(scene.configuration(name: "b"), timestampMs: 200)
    await manager.pollConfiguration()
    // Replayed: the server stamps it anew.
    try scene.publish(scene.configuration(name: "a"), timestampMs: 300)
    await manager.pollConfiguration()
    #expect(await manager.inForce?.configuration.name == "b")
    #expect(scene.journal.lines.last?.contains("was in force before and has been replaced") == true)
    // Brought back by a server that has forgotten the last hour; and remembered by another process.
    try scene.publish(scene.configuration(name: "c"), timestampMs: 150)
    let next = try Scene(#""require_newer_configuration":true"#, folder: scene.folder)
    try next.publish(next.configuration(name: "c"), timestampMs: 150)
    let successor = next.manager()
    await successor.pollConfiguration()
    #expect(next.journal.lines.first?.contains("is older than the one that was applied last") == true)
    #expect(await successor.inForce?.configuration.name == "b")
    try next.publish(next.configuration(name: "d"), timestampMs: 400)
    await successor.pollConfiguration()
    #expect(await successor.inForce?.configuration.name == "d")
  }

  @Test func anOutageIsSeenAfterThreeIntervals() async throws {
    let scene = try Scene()
    try scene.publish(scene.configuration(pollMs: 1_000))
    let manager = scene.manager()
    await manager.pollConfiguration()
    scene.store.fail("nobody is there")
    for second in 1...4 {
      scene.clock.skip(ms: 1_000)
      await manager.pollConfiguration()
      #expect(
        scene.meter.health == (second < 3 ? nil : "the configuration cannot be refreshed: nobody is there"), "\(second)"
      )
    }
    scene.store.fail(nil)
    await manager.pollConfiguration()
    #expect(scene.meter.health == nil)
  }
}
