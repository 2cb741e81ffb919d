import PluginAPI
import PluginTestHost
import Testing

/// What the reference lets through, and this schema does not.
@Suite struct EnvelopeTests {
  private static let wrong = "hash://sha256/" + String(repeating: "1", count: 64)

  private func withNode(_ body: (SmallNode) async throws -> Void) async throws {
    try await withB3nd { (host: TestHost, node: InMemoryNode) async throws in
      try await body(SmallNode(host: host, node: node))
    }
  }

  @Test func aForgedEnvelopeDigestIsRefused() async throws {
    try await withNode { (node: SmallNode) async throws in
      let message = envelope([#"["mutable://open/a",1]"#])
      #expect(try await node.receive(Self.wrong, message) == "Content hash mismatch")
      #expect(try await node.receive("hash://md5/x", message) == "Unsupported algorithm: md5")
      #expect(node.node.records.isEmpty)
      let uri = try Texts.digestURI(message)
      #expect(try await node.receive(uri, message) == nil)
      #expect(Set(node.node.records.keys) == [uri, "mutable://open/a"])
      // Written once, envelopes as well.
      #expect(try await node.receive(uri, message) == "hash:// is write-once: resource already exists")
    }
  }

  @Test func aForgedNestedOutputIsRefused() async throws {
    try await withNode { (node: SmallNode) async throws in
      let inner = envelope([#"["\#(Self.wrong)","forged"]"#])
      var message = inner
      for level in 0..<10 {
        #expect(try await node.receive("mutable://open/e", message) == "Content hash mismatch", "level \(level)")
        message = envelope([#"["mutable://open/\#(level)",\#(message)]"#])
      }
      #expect(node.node.records.isEmpty)
    }
  }

  @Test func anEnvelopeIsAppliedWholeOrNotAtAll() async throws {
    let owner = try Signer(1)
    try await withNode { (node: SmallNode) async throws in
      let first = #"["mutable://open/a",1]"#
      for (bad, text) in [
        (#"["nonsense",1]"#, "Invalid output URI: nonsense"), (#"["",1]"#, "Invalid output URI: "),

        (#"["mutable://no/x",1]"#, "Unknown program: mutable://no"),
        (#"["hash://s p",1]"#, "Invalid hash URI format"), (#"["\#(Self.wrong)",1]"#, "Content hash mismatch"),
        (#"["mutable://accounts/\#(owner.key)/x",1]"#, "write.value.auth is not iterable"),
        (#"["mutable://accounts/\#(owner.key)/x",{"auth":[],"payload":1}]"#, "Signature verification failed"),
        (#"["link://open/x",1]"#, "Link value must be a string URI"),
      ] {
        #expect(try await node.receive("mutable://open/e", envelope([first, bad])) == text)
        #expect(try await node.receive("mutable://open/e", envelope([bad, first])) == text)
        #expect(node.node.records.isEmpty)
      }
      let good = #"["mutable://accounts/\#(owner.key)/x",\#(try owner.message("1"))]"#
      #expect(try await node.receive("mutable://open/e", envelope([first, good])) == nil)
      #expect(node.node.records.count == 3)
    }
  }

  @Test func twoOutputsToOneWriteOnceURIAreRefusedAsAWhole() async throws {
    let owner = try Signer(1)
    let digest = try Texts.digestURI("{}")
    try await withNode { (node: SmallNode) async throws in
      for (uri, value, text) in [
        ("immutable://open/x", "1", "Validation failed for output: immutable://open/x"),
        ("immutable://accounts/\(owner.key)/x", try owner.message("1"), "immutable object exists"),
        (digest, "{}", "hash:// is write-once: resource already exists"),
      ] {
        let output = "[\"\(uri)\",\(value)]"
        #expect(try await node.receive("mutable://open/e", envelope([output, output])) == text)
        #expect(node.node.records.isEmpty)
        // The other one may stand in an envelope within.
        let nested = #"["mutable://open/n",\#(envelope([output]))]"#
        #expect(try await node.receive("mutable://open/e", envelope([output, nested])) == text)
        #expect(node.node.records.isEmpty)
      }
      // The envelope itself is the first.
      let itself = envelope([#"["immutable://open/e",1]"#])
      #expect(
        try await node.receive("immutable://open/e", itself) == "Validation failed for output: immutable://open/e")
      #expect(node.node.records.isEmpty)
    }
  }

  @Test func whereNothingForbidsItTheLastOutputWins() async throws {
    try await withNode { (node: SmallNode) async throws in
      let message = envelope([#"["mutable://open/a",1]"#, #"["mutable://open/a",2]"#, #"["mutable://open/e",3]"#])
      #expect(try await node.receive("mutable://open/e", message) == nil)
      #expect(node.node.records["mutable://open/a"]?.data == Array("2".utf8))
      #expect(node.node.records["mutable://open/e"]?.data == Array("3".utf8))
      #expect(try await node.receive("mutable://open/e", message) == nil)
    }
  }

  @Test func anEnvelopeIsRefusedByItsOwnProgramFirst() async throws {
    try await withNode { (node: SmallNode) async throws in
      let bad = envelope([#"["nonsense",1]"#])
      #expect(try await node.receive("link://open/x", bad) == "Link value must be a string URI")
      #expect(try await node.receive("mutable://accounts/x", bad) == "write.value.auth is not iterable")
      #expect(try await node.receive("mutable://none/x", bad) == "Unknown program: mutable://none")
      #expect(try await node.receive("nonsense", bad) == "Invalid envelope URI format")
      node.node.put("immutable://open/x", Array("1".utf8))
      #expect(try await node.receive("immutable://open/x", envelope([])) == "Envelope validation failed")
      #expect(try await node.receive("immutable://open/x", "1") == "Validation failed")
      #expect(
        try await node.receive("mutable://open/e", envelope([#"["immutable://open/x",1]"#]))
          == "Validation failed for output: immutable://open/x")
    }
  }
}
