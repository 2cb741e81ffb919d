import PluginAPI
import PluginTestHost
import Testing

@Suite struct ConfigurationTests {
  private func listed(_ configuration: String) throws -> [String] {
    let host = try TestHost(entry: entry.pointer, configuration: configuration)
    defer { host.destroy() }
    return try host.programs().map(\.key)
  }

  @Test func aListNamesBuiltInProgramsInItsOrder() throws {
    #expect(
      try listed(#"{"programs":["hash://sha256","mutable://open"]}"#) == ["hash://sha256", "mutable://open", ""])
    #expect(try listed(#"{"programs":["link://open"],"fallback":false}"#) == ["link://open"])
    #expect(try listed("{}").count == 10)
    #expect(try listed(#"{"fallback":false}"#).count == 9)
  }

  @Test func aMappingGivesRulesToProgramsOfOnesOwn() async throws {
    let configuration =
      #"{"programs":{"mutable://people":"account","immutable://docs":"write-once","mutable://open":"open","#
      + #""hash://sha256":"hash","link://z":"link"}}"#
    #expect(
      try listed(configuration)
        == ["mutable://open", "hash://sha256", "immutable://docs", "link://z", "mutable://people", ""])
    let owner = try Signer(1)
    try await withB3nd(configuration) { (host: TestHost, _: InMemoryNode) async throws in
      #expect(
        try await host.judge(received: "immutable://docs/a", json: "1")
          == storedOnce("immutable://docs/a", "1", otherwise: "Validation failed"))
      let uri = "mutable://people/\(owner.key)"
      let message = try owner.message("1")
      #expect(try await host.judge(received: uri, json: message) == stored(uri, message))
      #expect(try await host.judge(received: uri, json: "1") == .rejected("write.value.auth is not iterable"))
      #expect(try await host.judge(received: "link://z/a", json: "1") == .rejected("Link value must be a string URI"))
      #expect(
        try await host.judge(received: "mutable://inbox/a", json: "1") == .rejected("Unknown program: mutable://inbox"))
    }
  }

  /// Whatever the rule, what stands under `hash://` has its digest.
  @Test func theDigestIsEnforcedUnderEveryRule() async throws {
    let wrong = "hash://sha256/" + String(repeating: "1", count: 64)
    let right = try Texts.digestURI("1")
    try await withB3nd(#"{"programs":{"hash://sha256":"open"}}"#) { (host: TestHost, node: InMemoryNode) async throws in
      #expect(try await host.judge(received: wrong, json: "1") == .rejected("Content hash mismatch"))
      #expect(try await host.judge(received: right, json: "1") == stored(right, "1"))
      #expect(node.reads.isEmpty)
    }
    // Also when nobody serves the program.
    try await withB3nd(#"{"programs":["mutable://open"]}"#) { (host: TestHost, _: InMemoryNode) async throws in
      #expect(try await host.judge(received: wrong, json: "1") == .rejected("Content hash mismatch"))
      #expect(try await host.judge(received: right, json: "1") == .rejected("Unknown program: hash://sha256"))
    }
  }

  @Test(arguments: [
    (#"{"programs":["mutable://mine"]}"#, "/programs/0", "'mutable://mine' is none of the built-in programs"),
    (#"{"programs":["link://open","link://open"]}"#, "/programs/1", "stands in the list already"),
    (#"{"programs":[]}"#, "/programs", "programs is empty"),
    (#"{"programs":{}}"#, "/programs", "programs is empty"),
    (
      #"{"programs":{"mutable://a~b":"opne"}}"#, "/programs/mutable:~1~1a~0b",
      "there is no rule 'opne': the rules are open,"
    ),
    (#"{"programs":{"Mutable://a":"open"}}"#, "/programs/Mutable:~1~1a", "'Mutable://a' is no program"),
    (#"{"programs":{"mutable://a/b":"open"}}"#, "/programs/mutable:~1~1a~1b", "'mutable://a/b' is no program"),
    (#"{"programs":{"nonsense":"open"}}"#, "/programs/nonsense", "'nonsense' is no program"),
    (#"{"programs":{"mutable://a":"hash"}}"#, "/programs/mutable:~1~1a", "the rule hash is for hash://sha256 alone"),
    (#"{"programs":{"mutable://a":1}}"#, "/programs/mutable:~1~1a", "expected a text"),
    (#"{"programs":"all"}"#, "/programs", "expected an object"),
    (#"{"delete":"never"}"#, "/delete", "there is no delete policy 'never': set it to open, owner or none."),
    (#"{"fallback":"no"}"#, "/fallback", "expected true or false"),
    (#"{"deletes":"open"}"#, "/deletes", "unknown key"),
  ])
  func aMistakeIsNamed(_ configuration: String, _ pointer: String, _ text: String) throws {
    do {
      let host = try TestHost(entry: entry.pointer, configuration: configuration)
      host.destroy()
      Issue.record("accepted: \(configuration)")
    } catch let error as TestHostError {
      let diagnostic = try #require(error.diagnostics.first)
      #expect(diagnostic.pointer == pointer, "\(diagnostic)")
      #expect(diagnostic.message.contains(text), "\(diagnostic)")
    }
  }

  @Test func everyMistakeIsNamedAtOnce() throws {
    let error = #expect(throws: TestHostError.self) {
      try TestHost(entry: entry.pointer, configuration: #"{"programs":{"mutable://a":"x","b":"open"}}"#)
    }
    #expect(Set(error?.diagnostics.map(\.pointer) ?? []) == ["/programs/mutable:~1~1a", "/programs/b"])
  }
}
