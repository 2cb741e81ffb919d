import PluginAPI
import PluginTestHost
import RulesSchema
import Testing

private let entry = PluginEntry(Rules.self, id: "org.backplane.rules", version: "0.1.0") { Rules.create($0, $1, $2) }

/// The plugin as the kernel sees it.
@Suite struct BoundaryTests {
  private func withRules(_ programs: String, _ body: (TestHost) async throws -> Void) async throws {
    let host = try TestHost(
      entry: entry.pointer, configuration: #"{"rules":{"version":1,"programs":\#(programs)}}"#)
    try await host.start()
    try await body(host)
    try await host.stop()
    host.destroy()
    #expect(host.violations.isEmpty)
  }

  private func judge(_ host: TestHost, _ uri: String, _ json: String) async throws -> Judgement {
    try await host.judge(uri, Array(json.utf8))
  }

  @Test func writeOnceIsAPreconditionWithItsText() async throws {
    try await withRules(#"{"a://a":{"write_once":"Taken."}}"#) { (host: TestHost) async throws in
      guard case .accepted(let ops) = try await judge(host, "a://a/x", #"{"a":1}"#) else {
        return #expect(Bool(false))
      }
      #expect(ops.count == 1 && ops[0].uri == "a://a/x" && ops[0].condition == .absent && ops[0].refusal == "Taken.")
      #expect(ops[0].verb == .put(data: Array(#"{"a":1}"#.utf8), content: .json) && !ops[0].isToJudge)
    }
  }

  @Test func outputsOfAnEnvelopeAreJudgedAfterIt() async throws {
    try await withRules(#"{"a://a":"write_once"}"#) { (host: TestHost) async throws in
      let text = envelope(#"["b://b/1",1],["B://b/\u0032",{"x":2}]"#)
      guard case .accepted(let ops) = try await judge(host, "a://a/x", text) else { return #expect(Bool(false)) }
      #expect(ops.map(\.uri) == ["a://a/x", "b://b/1", "B://b/2"])
      #expect(ops.map(\.isToJudge) == [false, true, true])
      #expect(ops.map(\.condition) == [.absent, .any, .any])
    }
  }

  @Test func anOutputWithoutAURIRefusesTheEnvelope() async throws {
    try await withRules(#"{"a://a":"allow"}"#) { (host: TestHost) async throws in
      let text = envelope(#"["b://b/1",1],["",2]"#)
      #expect(try await judge(host, "a://a/x", text) == .rejected("Invalid output URI: "))
    }
  }

  @Test func slowRulesAreJudgedOnThreadsOfTheInstance() async throws {
    try await withRules(#"{"a://a":{"json_schema":{"type":"object"}}}"#) { (host: TestHost) async throws in
      for _ in 0..<100 {
        #expect(try await judge(host, "a://a/x", "{}") != .rejected(""))
        guard case .rejected = try await judge(host, "a://a/x", "1") else { return #expect(Bool(false)) }
      }
    }
  }

  @Test func aBoundThatIsHitIsCounted() async throws {
    try await withRules(#"{"a://a":{"json_schema":{}}}"#) { (host: TestHost) async throws in
      let deep = String(repeating: "[", count: 10) + String(repeating: "]", count: 10)
      #expect(try await judge(host, "a://a/x", deep) != .rejected(""))
      let large = "\"" + String(repeating: "x", count: 1 << 20) + "\""
      guard case .rejected = try await judge(host, "a://a/x", large) else { return #expect(Bool(false)) }
      let counted = host.metrics.filter { $0.name == "rules_bounds_hit_total" && !$0.recorded.isEmpty }
      #expect(counted.map(\.labels["bound"]) == ["json_schema_size_bytes_max"])
    }
  }

  @Test func digestsHaveOneURI() async throws {
    try await withRules(#"{"*":"allow"}"#) { (host: TestHost) async throws in
      #expect(try host.canonical("hash://sha256/ABCD") == "hash://sha256/abcd")
      #expect(try host.programs().contains { $0.isFallback })
    }
  }

  @Test func deletesAreJudgedWhenAProgramAsksForIt() async throws {
    try await withRules(#"{"a://a":{"rules":"allow","delete":"none"}}"#) { (host: TestHost) async throws in
      let schema = try #require(host.extensionTable("backplane.schema/1", as: bp_schema.self))
      #expect(schema.pointee.flags == BP_SCHEMA_JUDGES_DELETES)
      #expect(
        try await host.judge("a://a/x", [], isDelete: true) == .rejected("Records of this program are not deleted."))
    }
  }

  @Test func wrongRulesAreRefusedWithTheirPointers() throws {
    let host = try TestHost(creating: entry.pointer)
    do {
      try host.configure(#"{"rules":{"version":1,"programs":{"a://a":"alow","b":"deny"}}}"#)
      Issue.record("it was taken")
    } catch let error as TestHostError {
      #expect(error.diagnostics.map(\.pointer) == ["/rules/programs/a:~1~1a", "/rules/programs/b"])
    }
    do {
      try host.configure("{}")
      Issue.record("it was taken")
    } catch let error as TestHostError {
      #expect(error.diagnostics.map(\.pointer) == ["/rules"])
    }
    host.destroy()
  }

  @Test func theSelfTestNeedsNoRules() async throws {
    let host = try TestHost(entry: entry.pointer, configuration: "{}", purpose: .test)
    try await host.selfTest(scratchDirectory: "/nonexistent")
    host.destroy()
  }
}
