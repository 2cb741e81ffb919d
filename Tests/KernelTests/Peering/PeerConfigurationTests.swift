import Testing

@testable import Kernel

/// The kernel's keys of a peer.
@Suite struct PeerConfigurationTests {
  private func folder(_ slots: String, _ before: String = "") throws -> ConfigurationFolder {
    try ConfigurationFolder(["backplane.yaml": "\(before)slots:\n\(slots)"])
  }

  @Test func keysAreTheKernelsAndHaveDefaults() throws {
    let loaded = try folder(
      """
        records: {kind: backend, url: "memory://"}
        plain: {kind: backend, url: "http://127.0.0.1:1", peer: push}
        full:
          kind: backend
          url: http://127.0.0.1:2
          order: -5
          timeout_ms: 7
          peer: bidirectional
          push: {durable: true, queue_units_max: 5, queue_size_bytes_max: 65536}
          pull: {timeout_ms: 250}
        other: {kind: backend, url: "http://127.0.0.1:3", peer: pull}
      """
    ).load()
    let plain = try #require(loaded.slot("plain")?.peer)
    #expect(plain == PeerSettings(.push) && plain.pushes && !plain.pulls)
    #expect(!plain.push.isDurable && plain.push.queueUnitsMax == 100_000 && plain.push.queueSizeBytesMax == 64 << 20)
    let full = try #require(loaded.slot("full"))
    let peer = try #require(full.peer)
    #expect(peer.direction == .bidirectional && peer.push.isDurable && peer.push.queueUnitsMax == 5)
    #expect(peer.push.queueSizeBytesMax == 65_536 && peer.pull.timeoutMs == 250 && peer.pushes && peer.pulls)
    // The plugin gets what is its own.
    #expect(full.json == #"{"timeout_ms":7,"url":"http://127.0.0.1:2"}"#)
    #expect(try #require(loaded.slot("other")?.peer).pull.timeoutMs == 2_000)
    // Peers need no order among the backends, and come after them.
    #expect(loaded.node.slots(of: .backend).map(\.name) == ["records", "full", "other", "plain"])
    #expect(loaded.value("slots.full.push.durable")?.hasPrefix("true") == true)
  }

  @Test func whatIsWrongIsSaid() throws {
    let problems = try folder(
      """
        records: {kind: backend, url: "memory://"}
        a: {kind: backend, url: "http://h:1", peer: pul}
        b: {kind: backend, url: "http://h:1", peer: pull, push: {durable: true}}
        c: {kind: backend, url: "http://h:1", push: {durable: true}}
        d: {kind: backend, url: "http://h:1", peer: push, push: {durabel: true, queue_units_max: 0}}
        e: {kind: backend, url: "http://h:1", peer: pull, pull: {timeout_ms: "5"}}
        f: {kind: backend, url: "http://h:1", peer: push, push: yes}
      """
    ).problems()
    #expect(
      problems == [
        #"file backplane.yaml:3: slots.a.peer (/slots/a/peer): The value must be one of push, pull, bidirectional, but is the text "pul". Did you mean "pull"?"#,
        "file backplane.yaml:4: slots.b.push (/slots/b/push): push has no effect on a peer that is pull only. Leave it out, or make the peer bidirectional.",
        "file backplane.yaml:5: slots.c.push (/slots/c/push): push is about a peer, and this backend is none. Give it peer: with one of push, pull, bidirectional, or leave push out.",
        #"file backplane.yaml:6: slots.d.push.durabel (/slots/d/push/durabel): The key "durabel" is unknown. Did you mean "durable"?"#,
        "file backplane.yaml:6: slots.d.push.queue_units_max (/slots/d/push/queue_units_max): The value must be a whole number from 1 to 10000000, but is 0.",
        #"file backplane.yaml:7: slots.e.pull.timeout_ms (/slots/e/pull/timeout_ms): The value must be a whole number from 1 to 600000, but is the text "5"."#,
        #"file backplane.yaml:8: slots.f.push (/slots/f/push): The value must be a mapping of durable, queue_units_max, queue_size_bytes_max, but is the text "yes"."#,
      ])
  }

  @Test func peersAreNoBackendsOfTheNode() throws {
    let peers =
      "  a: {kind: backend, url: \"http://h:1\", peer: push}\n  b: {kind: backend, url: \"http://h:1\", peer: pull}\n"
    #expect(
      try folder(peers).problems() == [
        "default: slots (/slots): The node has peers (a, b) and no backend of its own to keep its records in. Add a slot with kind: backend and without peer:, or set BACKEND_URL."
      ])
    // BACKEND_URL names the backends and leaves the peers alone.
    let loaded = try folder(peers).load(["BACKEND_URL": "memory://"])
    #expect(loaded.node.slots(of: .backend).map(\.name) == ["memory", "a", "b"] && loaded.warnings.isEmpty)
    let named = try folder(
      peers + "  records: {kind: backend, url: \"memory://\"}\n", "node: {backends: [records, a]}\n"
    ).problems()
    #expect(
      named == [
        #"file backplane.yaml:1: node.backends.1 (/node/backends/1): The slot "a" is a peer, which is not among the backends that are read from in order. Leave it out; its own order: says when it is asked among the peers."#
      ])
    let listed = try folder(
      peers + "  records: {kind: backend, url: \"memory://\"}\n", "node: {backends: [records]}\n"
    ).load()
    #expect(listed.node.slots(of: .backend).map(\.name) == ["records", "a", "b"])
  }

  @Test func aChangedPeerIsAnotherSlot() throws {
    let text = "  records: {kind: backend, url: \"memory://\"}\n  a: {kind: backend, url: \"http://h:1\""
    let push = try folder(text + ", peer: push}\n").load().slot("a")
    let pull = try folder(text + ", peer: pull}\n").load().slot("a")
    #expect(push != pull && push?.json == pull?.json)
  }
}
