import PluginAPI
import PluginTestHost
import Testing

/// What each rule accepts, in the reference's words.
@Suite struct RuleTests {
  private static let empty = "hash://sha256/44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

  @Test func theProgramsStandInTheOrderOfTheWire() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let programs = try host.programs()
      #expect(
        programs.filter { !$0.isUnlisted }.map(\.key) == [
          "mutable://open", "mutable://inbox", "immutable://inbox", "mutable://accounts", "immutable://open",
          "immutable://accounts", "hash://sha256", "link://accounts", "link://open",
        ])
      #expect(programs.filter(\.isCanonical).map(\.key) == ["hash://sha256"])
      #expect(programs.last == .fallback)
    }
  }

  @Test func openProgramsAcceptEverything() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let values = ["null", "1", #""x""#, "[]", #"{"auth":[],"payload":1}"#, #"{"payload":1}"#]
      for program in ["mutable://open", "mutable://inbox", "immutable://inbox"] {
        for json in values {
          #expect(try await host.judge(received: "\(program)/a", json: json) == stored("\(program)/a", json))
          #expect(try await host.judge(received: program, json: json) == stored(program, json))
        }
        let bytes = try await host.judge(received: "\(program)/a", [0, 255], .bytes)
        #expect(bytes == .accepted([.put("\(program)/a", [0, 255], .bytes)]))
      }
    }
  }

  @Test func writeOnceIsAConditionOfTheWrite() async throws {
    try await withB3nd { (host: TestHost, node: InMemoryNode) async throws in
      let uri = "immutable://open/a"
      #expect(
        try await host.judge(received: uri, json: "1") == storedOnce(uri, "1", otherwise: "Validation failed"))
      // As an output, the text names the URI as it was received.
      #expect(
        try await host.judge(received: "immutable://open//a?x", json: "1", depth: 1)
          == storedOnce(uri, "1", otherwise: "Validation failed for output: immutable://open//a?x"))
      guard case .accepted(let ops) = try await host.judge(received: uri, json: envelope([])) else {
        Issue.record("refused")
        return
      }
      #expect(ops.map(\.condition) == [.absent] && ops[0].refusal == "Envelope validation failed")
      #expect(node.reads.isEmpty)
    }
  }

  @Test func aRecordUnderItsDigestIsWrittenOnce() async throws {
    let text = "hash:// is write-once: resource already exists"
    try await withB3nd { (host: TestHost, node: InMemoryNode) async throws in
      #expect(try await host.judge(received: Self.empty, json: "{}") == storedOnce(Self.empty, "{}", otherwise: text))
      #expect(node.reads.isEmpty)
      #expect(try await host.judge(received: Self.empty, json: "[]") == .rejected("Content hash mismatch"))
      // A wrong digest at an existing record: that it exists is said first.
      node.put(Self.empty, Array("{}".utf8))
      #expect(try await host.judge(received: Self.empty, json: "[]") == .rejected(text))
      #expect(node.reads.map(\.uri) == [Self.empty, Self.empty])
      // The read is part of the message: it sees what an envelope writes before.
      #expect(node.reads.allSatisfy { $0.parent != 0 })
    }
  }

  @Test func linksHoldTheTextOfAURI() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let uri = "link://open/a"
      for json in [#""hash://sha256/ab""#, #""mailto:x""#, #""mut\u0061ble://open/x""#, #" "http://[::1]/" "#] {
        #expect(try await host.judge(received: uri, json: json) == stored(uri, json))
      }
      for json in ["null", "1", "[]", #"{"payload":"mutable://open/x"}"#, envelope([])] {
        #expect(try await host.judge(received: uri, json: json) == .rejected("Link value must be a string URI"))
      }
      #expect(
        try await host.judge(received: uri, Array("hash://a".utf8), .bytes)
          == .rejected("Link value must be a string URI"))
      for json in [#""nonsense""#, #""""#, #""9x://a""#, #""http://a b/""#] {
        #expect(try await host.judge(received: uri, json: json) == .rejected("Link value must be a valid URI"))
      }
    }
  }

  @Test func signedLinksAreSignedAndLinks() async throws {
    let owner = try Signer(1)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let uri = "link://accounts/\(owner.key)/x"
      let good = try owner.message(#""hash://sha256/ab""#)
      #expect(try await host.judge(received: uri, json: good) == stored(uri, good))
      for (payload, text) in [
        ("1", "Link value must be a string URI"), (#""x""#, "Link value must be a valid URI"),
        (#"{"inputs":[],"outputs":[]}"#, "Link value must be a string URI"),
      ] {
        let message = try owner.message(payload)
        #expect(try await host.judge(received: uri, json: message) == .rejected(text))
      }
      let other = try Signer(2).message(#""hash://sha256/ab""#)
      #expect(try await host.judge(received: uri, json: other) == .rejected("Signature verification failed"))
      #expect(
        try await host.judge(received: uri, json: #""hash://sha256/ab""#)
          == .rejected("write.value.auth is not iterable"))
    }
  }

  @Test func immutableAccountsAreSignedAndWrittenOnce() async throws {
    let owner = try Signer(1)
    try await withB3nd { (host: TestHost, node: InMemoryNode) async throws in
      let uri = "immutable://accounts/\(owner.key)/x"
      let message = try owner.message("1")
      #expect(
        try await host.judge(received: uri, json: message)
          == storedOnce(uri, message, otherwise: "immutable object exists"))
      let small = SmallNode(host: host, node: node)
      #expect(try await small.receive(uri, message) == nil)
      #expect(try await small.receive(uri, message) == "immutable object exists")
      // The signature comes first.
      let theirs = try Signer(2).message("1")
      #expect(try await small.receive(uri, theirs) == "Signature verification failed")
      #expect(try await small.receive(uri, "null") == "Cannot read properties of null (reading 'auth')")
    }
  }

  @Test func whatNobodyServes() async throws {
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      for (uri, text) in [
        ("mutable://other/x", "Unknown program: mutable://other"),
        ("MUTABLE://Open/x", "Unknown program: mutable://Open"),
        ("nonsense", "Invalid URI format"), ("", "Invalid URI format"), ("hash://s pace/x", "Invalid hash URI format"),
        ("hash://md5/x", "Unsupported algorithm: md5"), ("hash://SHA256/x", "Unsupported algorithm: SHA256"),
        ("hash:x", "Invalid hash URI format"),
      ] {
        #expect(try await host.judge(received: uri, json: "1") == .rejected(text), "\(uri)")
      }
      for (uri, text) in [
        ("mutable://other/x", "Unknown program: mutable://other"), ("nonsense", "Invalid output URI: nonsense"),
        ("", "Invalid output URI: "), ("hash://s pace/x", "Invalid hash URI format"),
      ] {
        #expect(try await host.judge(received: uri, json: "1", depth: 1) == .rejected(text), "\(uri)")
        #expect(try await host.judge(received: uri, json: envelope([]), depth: 2) == .rejected(text), "\(uri)")
      }
      for (uri, text) in [
        ("mutable://other/x", "Unknown program: mutable://other"), ("nonsense", "Invalid envelope URI format"),
        ("hash://s pace/x", "Invalid envelope URI format"),
      ] {
        #expect(try await host.judge(received: uri, json: envelope([])) == .rejected(text), "\(uri)")
      }
    }
  }

  @Test func theSelfTestPasses() async throws {
    let host = try TestHost(entry: entry.pointer, purpose: .test)
    try await host.selfTest(scratchDirectory: "")
    host.destroy()
    #expect(host.violations.isEmpty)
  }
}
