import Foundation
import PluginAPI
import PluginTestHost
import Testing

/// A toy of every kind, in C and in Swift, through the boundary. Each ends with clean manners.
@Suite(.timeLimit(.minutes(1)))
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
      // One credit for the head, four for bytes: the echo of more has to wait.
      let connection = try host.upgrade("/socket", credits: 5)
      var sent = connection.chunks.makeAsyncIterator()
      #expect(await sent.next() == .accepted(status: 101, header: "upgrade: toy"))
      #expect(connection.inputCredits == 8)
      #expect(await host.send("onetwo", over: connection))
      #expect(await sent.next() == .bytes("onet"))
      // Six came in, four went out: the window is what the toy can still hold.
      #expect(connection.inputCredits == 6)
      // More than the window: the rest is sent as the toy allows it, and it allows it as its bytes leave.
      let sending = Task { await host.send("three-and-more-than-that", over: connection) }
      var echo = ""
      while echo.utf8.count < "wothree-and-more-than-that".utf8.count {
        connection.grant(3)
        guard case .bytes(let text) = await sent.next() else { break }
        echo += text
      }
      #expect(echo == "wothree-and-more-than-that")
      #expect(await sending.value)
      #expect(connection.inputCredits == 8)
      #expect(!connection.isCompleted)
      host.endInput(of: connection)
      #expect(await connection.value == BP_OK)
      #expect(await sent.next() == nil)
      #expect(!(await host.send("late", over: connection)))
    }
  }

  @Test(arguments: Language.allCases)
  func anUpgradeIsGivenUpOrStopped(_ language: Language) async throws {
    try await withToy(language, "http_upgrade", Entry(ServiceToy.entry)) { (host: TestHost) async throws in
      // The client goes while its input waits for credit.
      let gone = try host.upgrade("/socket", credits: 1)
      let sending = Task { await host.send("more than the toy can hold", over: gone) }
      while gone.inputCredits > 0, !Task.isCancelled { await Task.yield() }
      gone.cancel()
      #expect(await gone.value == BP_CANCELLED)
      #expect(!(await sending.value))
      // The toy notices a host that sends more than was granted.
      let flooded = try host.upgrade("/socket", credits: 1)
      host.breakGrant(of: flooded, "nine bytes")
      #expect(await flooded.value == BP_INTERNAL)
      // One that stop must end.
      _ = try host.upgrade("/socket", credits: 2)
    }
  }

  @Test(arguments: Language.allCases)
  func state(_ language: Language) async throws {
    let records = ["+a://b/1\0one", "+a://b/2\0two", "+a://b/3\0three"].map { [UInt8]($0) }
    try await withToy(language, "state", Entry(ServiceToy.entry)) { (old: TestHost) async throws in
      for (index, record) in records.enumerated() {
        let code = try await old.importState(
          record, phase: BP_STATE_SNAPSHOT, sequence: UInt64(index), isLast: index == records.count - 1)
        #expect(code == BP_OK)
      }
      // The toy in C waits for credit; the one in Swift needs it up front.
      #expect(try await export(old, BP_STATE_SNAPSHOT, credits: language == .c ? 1 : 16) == records)

      // The rest: one put again, one deleted, one new, one that came and went.
      func put(_ uri: String, _ value: String) async throws {
        if language == .c {
          try await old.apply(.put(uri, [UInt8](value)))
        } else {
          try await old.handle(uri, method: "PUT", body: value)
        }
      }
      func delete(_ uri: String) async throws {
        if language == .c { try await old.apply(.delete(uri)) } else { try await old.handle(uri, method: "DELETE") }
      }
      try await put("a://b/1", "replaced")
      try await delete("a://b/2")
      try await put("a://b/4", "new")
      try await put("a://b/5", "brief")
      try await delete("a://b/5")
      let rest = try await export(old, BP_STATE_REST, credits: language == .c ? 1 : 16)
      #expect(
        rest.map { String(decoding: $0, as: UTF8.self) }
          == ["+a://b/1\0replaced", "-a://b/2", "+a://b/4\0new", "-a://b/5"])

      // The successor ends with exactly what the old one has.
      let entry = language == .c ? try await Toolbox.c("state") : Entry(ServiceToy.entry)
      let new = try TestHost(entry: entry.pointer)
      try await new.start()
      for (phase, chunks) in [(BP_STATE_SNAPSHOT, records), (BP_STATE_REST, rest)] {
        for (index, chunk) in (chunks + [[]]).enumerated() {
          let code = try await new.importState(
            chunk, phase: phase, sequence: UInt64(index), isLast: index == chunks.count)
          #expect(code == BP_OK)
        }
      }
      let ended = ["+a://b/1\0replaced", "+a://b/3\0three", "+a://b/4\0new"].map { [UInt8]($0) }
      #expect(try await export(old, BP_STATE_SNAPSHOT, credits: 16) == ended)
      #expect(try await export(new, BP_STATE_SNAPSHOT, credits: 16) == ended)
      try await new.stop()
      new.destroy()
      #expect(new.violations.isEmpty)
    }
  }

  private func export(_ host: TestHost, _ phase: UInt32, credits: UInt32) async throws -> [[UInt8]] {
    let stream = try host.export(phase: phase, credits: credits)
    var exported: [[UInt8]] = []
    for await chunk in stream.chunks {
      exported.append(chunk)
      stream.grant(1)
    }
    #expect(await stream.value == BP_OK)
    return exported
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
