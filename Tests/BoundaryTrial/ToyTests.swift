import Foundation
import PluginAPI
import PluginTestHost
import Testing

/// A toy of every kind, in C and in Swift, through the boundary. Each ends with clean manners.
struct ToyTests {
  private func withToy(
    _ language: Language, _ c: String, _ swift: Entry, node: InMemoryNode = InMemoryNode(),
    _ body: (TestHost) async throws -> Void
  ) async throws {
    let host = try TestHost(entry: (language == .c ? try await Toolbox.c(c) : swift).pointer, node: node)
    try await host.start()
    try await body(host)
    try await host.quiesce()
    try await host.stop()
    host.destroy()
    #expect(host.violations.isEmpty)
    #expect(host.openCallsCount == 0)
  }

  @Test(arguments: Language.allCases)
  func backend(_ language: Language) async throws {
    try await withToy(language, "backend", Entry(BackendToy.entry)) { (host: TestHost) async throws in
      let outcome = try await host.apply(
        .put("mutable://open/a", [UInt8]("1"), if: .absent), .put("mutable://open/b", [UInt8]("2")),
        timestampMs: 7, version: 3)
      #expect(outcome == WriteOutcome(durability: .memory, timestampMs: 7))
      #expect(
        try await host.read("mutable://open/a")
          == Record(data: [UInt8]("1"), content: .json, timestampMs: 7, version: 3))
      #expect(try await host.read("mutable://open/none") == nil)
      // A unit whose second op does not hold changes nothing.
      let failed = await #expect(throws: PreconditionFailed.self) {
        try await host.apply(.put("mutable://open/c", [1]), .put("mutable://open/a", [1], if: .absent), version: 4)
      }
      #expect(failed?.op == 1)
      #expect(try await host.read("mutable://open/c") == nil)
      try await host.apply(.put("mutable://open/a", [UInt8]("3"), if: .version(3)), version: 5)
      #expect(try await host.apply(.delete("mutable://open/none")).absentCount == 1)
      for number in 0..<40 { try await host.apply(.put("list://x/\(number)", [])) }
      let items = try await host.scan(prefix: "list://x/", pageSize: 7)
      #expect(Set(items.map(\.uri)).count == 40 && items.count == 40)
      #expect(host.logs.map(\.message) == ["toy backend started"])
    }
  }

  @Test(arguments: Language.allCases)
  func schema(_ language: Language) async throws {
    let node = InMemoryNode()
    node.put("acct://toy/there", [])
    try await withToy(language, "schema", Entry(SchemaToy.entry), node: node) { (host: TestHost) async throws in
      let reading = language == .c ? "toy://child/a" : "acct://toy/a"
      let prefix = language == .c ? "" : "after "
      #expect(try host.programs().map(\.key).contains(String(reading.dropLast(2))))
      let accepted = try await host.judge(reading, [UInt8](prefix + "acct://toy/there"), .bytes)
      #expect(accepted == .accepted([.put(reading, [UInt8](prefix + "acct://toy/there"), .bytes)]))
      guard case .rejected(let text) = try await host.judge(reading, [UInt8](prefix + "acct://toy/gone"), .bytes) else {
        Issue.record("a message that names nothing was accepted")
        return
      }
      #expect(text.contains("does not exist"))
      // The read was made for the token that was being judged.
      #expect(node.reads.count == 2 && node.reads.allSatisfy { $0.parent != 0 })
      if language == .c {
        #expect(try host.canonical("toy://plain/ABC") == "toy://plain/abc")
        #expect(try host.canonical("toy://plain/abc") == "toy://plain/abc")
        #expect(
          try await host.judge("toy://plain/once", [1]) == .accepted([.put("toy://plain/once", [1], if: .absent)]))
      }
    }
  }

  @Test(arguments: Language.allCases)
  func transport(_ language: Language) async throws {
    let node = InMemoryNode()
    node.put("mutable://open/a", [UInt8]("hello"))
    // Connected and silent until the end: quiesce must end all the same.
    var silent: Int32 = -1
    defer { close(silent) }
    try await withToy(language, "transport", Entry(TransportToy.entry), node: node) { (host: TestHost) async throws in
      let port = try #require(host.port(of: "toy"))
      #expect(try await LineClient.ask("mutable://open/a", port: port) == "hello")
      #expect(try await LineClient.ask("mutable://open/b", port: port) == "none")
      silent = try LineClient.connect(port)
    }
  }

  @Test(arguments: Language.allCases)
  func service(_ language: Language) async throws {
    let node = InMemoryNode()
    try await withToy(language, "service", Entry(ServiceToy.entry), node: node) { (host: TestHost) async throws in
      #expect(try await host.nodeReady() == BP_OK)
      #expect(node.records["toy://plain/service"]?.data == [UInt8]("\"ready\""))
      node.refuse(.unavailable("closed for lunch"))
      #expect(try await host.nodeReady() == BP_UNAVAILABLE)
    }
  }

  @Test(arguments: Language.allCases)
  func languageModel(_ language: Language) async throws {
    try await withToy(language, "llm", Entry(LanguageModelToy.entry)) { (host: TestHost) async throws in
      let stream = try host.generate(5, credits: 2)
      var said: [String] = []
      for await text in stream.chunks {
        said.append(text)
        // Never more than was granted: two, and one for each that was read.
        stream.grant(1)
      }
      #expect(said == ["1", "2", "3", "4", "5"])
      #expect(await stream.value == TestHost.Answered(code: BP_OK, text: "stop", number: 5))

      let given = try host.generate(5, credits: 1)
      var chunks = given.chunks.makeAsyncIterator()
      #expect(await chunks.next() == "1")
      #expect(!given.isCompleted)
      given.cancel()
      #expect(await given.value.code == BP_CANCELLED)
      #expect(await chunks.next() == nil)
      // A grant to a stream that has ended is nothing.
      given.grant(10)
    }
  }

  @Test(arguments: Language.allCases)
  func oracle(_ language: Language) async throws {
    try await withToy(language, "oracle", Entry(OracleToy.entry)) { (host: TestHost) async throws in
      #expect(try await host.observe("power").0 == TestHost.Answered(code: BP_OK, text: "toy", number: 125))
      #expect(try await host.observe("market").state == BP_ORACLE_CLOSED)
      #expect(try await host.observe("weather").0.code == BP_NOT_FOUND)
    }
  }

  @Test(arguments: Language.allCases)
  func httpRoute(_ language: Language) async throws {
    try await withToy(language, "http_route", Entry(ServiceToy.entry)) { (host: TestHost) async throws in
      #expect(
        try await host.handle("/toy?x") == TestHost.Answered(code: BP_OK, text: "text/plain /toy?x", number: 200))
    }
  }

  @Test(arguments: Language.allCases)
  func httpUpgrade(_ language: Language) async throws {
    try await withToy(language, "http_upgrade", Entry(ServiceToy.entry)) { (host: TestHost) async throws in
      let connection = try host.upgrade("/socket", credits: 2)
      var chunks = connection.chunks.makeAsyncIterator()
      #expect(host.input(connection.token, "one") > 0)
      #expect(await chunks.next() == "one")
      #expect(host.input(connection.token, "bye") == 0)
      #expect(await connection.value == BP_OK)
      // One that stop must end.
      _ = try host.upgrade("/socket", credits: 2)
    }
  }

  @Test(arguments: Language.allCases)
  func state(_ language: Language) async throws {
    let lines: [[UInt8]] = [[UInt8]("a://b/1\0one"), [UInt8]("a://b/2\0two"), [UInt8]("a://b/3\0three")]
    try await withToy(language, "state", Entry(ServiceToy.entry)) { (old: TestHost) async throws in
      for (index, line) in lines.enumerated() {
        let code = try await old.importState(
          line, phase: BP_STATE_SNAPSHOT, sequence: UInt64(index), isLast: index == lines.count - 1)
        #expect(code == BP_OK)
      }
      // The toy in C waits for credit; the one in Swift needs it up front.
      let stream = try old.export(phase: BP_STATE_SNAPSHOT, credits: language == .c ? 1 : 16)
      var exported: [[UInt8]] = []
      for await chunk in stream.chunks {
        exported.append(chunk)
        stream.grant(1)
      }
      #expect(exported == lines)
      #expect(await stream.value == BP_OK)
    }
  }

  @Test func aRefusedConfigurationNamesKeyAndPlace() async throws {
    let oracle = try await Toolbox.c("oracle")
    let error = #expect(throws: TestHostError.self) {
      try TestHost(entry: oracle.pointer, configuration: #"{"refuse": "refuse me"}"#)
    }
    #expect(error?.diagnostics.map(\.pointer) == ["/refuse"])
    #expect("\(error!)".contains("configure failed"))
    let unknown = #expect(throws: TestHostError.self) {
      try TestHost(entry: Entry(BackendToy.entry).pointer, configuration: #"{"colour": 1}"#)
    }
    #expect(unknown?.diagnostics.map(\.pointer) == ["/colour"])
  }
}
