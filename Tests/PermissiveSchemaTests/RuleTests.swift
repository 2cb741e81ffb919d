import PluginAPI
import PluginTestHost
import Testing

@Suite struct RuleTests {
  private static let empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

  @Test func noProgramIsListed() async throws {
    try await withPermissive { (host: TestHost) async throws in
      #expect(
        try host.programs() == [.fallback, Program("hash://sha256", isCanonical: true, isUnlisted: true)])
      #expect(try host.programs().allSatisfy(\.isUnlisted))
    }
  }

  @Test func everyProgramIsAccepted() async throws {
    try await withPermissive { (host: TestHost) async throws in
      for uri in ["mutable://open/a", "x-y+z://Whatever", "immutable://accounts/k/x", "http://host/a"] {
        for depth: UInt32 in [0, 1, 16] {
          let judgement = try await host.judge(received: uri, json: #"{"a": [1]}"#, depth: depth)
          #expect(judgement == .accepted([.put(uri, Array(#"{"a": [1]}"#.utf8))]))
        }
      }
    }
  }

  @Test(arguments: [
    ("nonsense", "Invalid URI format"), ("9bad://x/y", "Invalid URI format"),
    (" hash://s pace/x", "Invalid hash URI format"), ("HA\nSH://<x", "Invalid hash URI format"),
    ("hashes://o pen", "Invalid URI format"), ("hash", "Invalid URI format"), ("", "Invalid URI format"),
  ])
  func aTextThatIsNoURI(_ uri: String, _ text: String) async throws {
    try await withPermissive { (host: TestHost) async throws in
      #expect(try await host.judge("", Array("1".utf8), uriReceived: uri) == .rejected(text))
      #expect(try await host.judge("", [1, 2], .bytes, uriReceived: uri) == .rejected(text))
      let envelope = Array(#"{"payload":{"inputs":[],"outputs":[]}}"#.utf8)
      #expect(try await host.judge("", envelope, uriReceived: uri) == .rejected("Invalid envelope URI format"))
    }
  }

  @Test(arguments: [
    ("hash://sha256/\(empty)/x", "Content hash mismatch"), ("hash:///\(empty)", "Unsupported algorithm: "),
    ("hash://sha256//", "Invalid hash URI format"), ("hash://sha-256/\(empty)", "Unsupported algorithm: sha-256"),
    ("hash://sha256/\(empty.dropLast())g", "Content hash mismatch"),
    ("hash://sha256/0\(empty)", "Content hash mismatch"),
  ])
  func aHashURIThatDoesNotHold(_ uri: String, _ text: String) async throws {
    try await withPermissive { (host: TestHost) async throws in
      #expect(try await host.judge(received: uri, json: "{}") == .rejected(text))
      #expect(try await host.judge(received: uri, json: "{}", depth: 3) == .rejected(text))
    }
  }

  @Test func whatTheNormalFormDropsIsNotPartOfTheDigest() async throws {
    try await withPermissive { (host: TestHost) async throws in
      for suffix in ["", "?q", "#f", "?q#f", "/", "/x/.."] {
        let judgement = try await host.judge(received: "hash://sha256/\(Self.empty)\(suffix)", json: "{}")
        #expect(judgement == .accepted([.put("hash://sha256/\(Self.empty)", Array("{}".utf8))]))
      }
    }
  }

  @Test func canonicalFoldsDigestsOnly() async throws {
    try await withPermissive { (host: TestHost) async throws in
      let upper = "hash://sha256/" + Self.empty.uppercased()
      #expect(try host.canonical(upper) == "hash://sha256/" + Self.empty)
      #expect(try host.canonical("hash://sha256/ABC") == "hash://sha256/abc")
      for uri in [
        "hash://sha256", "hash://sha256/" + Self.empty, upper + "/X", upper + "0", "hash://sha256/ABCG",
        "hash://SHA256/ABC", "mutable://open/ABC",
      ] {
        #expect(try host.canonical(uri) == uri)
      }
    }
  }

  @Test func whatHasNoCanonicalFormIsRefusedWithAReason() async throws {
    let uri = "hash://sha256/" + Self.empty
    try await withPermissive { (host: TestHost) async throws in
      func nested(_ depth: Int) -> String {
        String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
      }
      #expect(try await host.judge(received: uri, json: nested(10_000)) == .rejected("Content hash mismatch"))
      #expect(
        try await host.judge(received: uri, json: nested(10_001))
          == .rejected("Validation error: The JSON text is nested deeper than 10000 levels at byte 10000: flatten it."))
      #expect(
        try await host.judge(received: uri, json: "[1e400]")
          == .rejected(
            "Validation error: The JSON text has a number too large for a double at byte 1: it has no canonical form."))
      // Elsewhere neither matters, not even inside something that could be an envelope.
      for json in [nested(20_000), #"{"payload":{"inputs":[],"outputs":{},"deep":\#(nested(20_000)),"x":1e400}}"#] {
        let judgement = try await host.judge(received: "mutable://open/x", json: json)
        #expect(judgement == .accepted([.put("mutable://open/x", Array(json.utf8))]))
      }
    }
  }

  /// The transport checks JSON; a caller who did not gets a reason when it matters, never a crash.
  @Test func brokenJSONThatLooksLikeAnEnvelope() async throws {
    try await withPermissive { (host: TestHost) async throws in
      let json = #"{"payload":{"inputs":[],"outputs":[["mutable://open/x",1]"#
      guard case .rejected(let text) = try await host.judge(received: "mutable://open/x", json: json) else {
        Issue.record("accepted")
        return
      }
      #expect(text.hasPrefix("Validation error: The JSON text ends too early"))
    }
  }

  @Test func theSelfTestPasses() async throws {
    let host = try TestHost(entry: entry.pointer, purpose: .test)
    try await host.selfTest(scratchDirectory: "")
    host.destroy()
    #expect(host.violations.isEmpty)
  }

  @Test func anUnknownKeyOfTheConfigurationIsAMistake() throws {
    #expect(throws: TestHostError.self) { try TestHost(entry: entry.pointer, configuration: #"{"strict":true}"#) }
  }
}
