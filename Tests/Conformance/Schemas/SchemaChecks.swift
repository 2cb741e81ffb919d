import PluginAPI
import PluginTestHost

/// The rules of schema.h.
struct SchemaChecks {
  let bench: Workbench
  init(_ bench: Workbench) { self.bench = bench }

  private static let callLimit = Duration.seconds(10)
  private static let messagesCount = 400

  func run() async {
    var programs: [Program] = []
    let isListed = await bench.recording.check("schema.programs") {
      programs = try await bench.serving { host in try listed(host) }
      return "\(programs.count) programs"
    }
    guard isListed else { return }
    let served = programs
    await bench.recording.check("schema.judge") {
      try await bench.serving { host in try await judge(host, programs) }
      return "\(SchemaChecks.messagesCount) messages"
    }
    await bench.recording.check("schema.hostile") {
      try await bench.serving { host in try await hostile(host, programs) }
      return ""
    }
    await bench.recording.check("schema.concurrent") {
      try await bench.serving { host in
        try await withThrowingTaskGroup(of: Void.self) { group in
          for worker in 0..<8 as Range<UInt64> {
            group.addTask {
              var random = SeededGenerator(seed: bench.seed &+ worker)
              for _ in 0..<50 { try await ask(host, Message.random(served, deletes: false, &random)) }
            }
          }
          try await group.waitForAll()
        }
      }
      return ""
    }
    await canonical(programs)
  }

  // MARK: Programs

  private func listed(_ host: TestHost) throws -> [Program] {
    let programs = try host.programs()
    try require(!programs.isEmpty, "it serves no program: name some, or be the fallback")
    try require(programs.filter(\.isFallback).count <= 1, "more than one program is the fallback")
    var keys: Set<String> = []
    for program in programs {
      if program.isFallback {
        try require(program.key.isEmpty, "the fallback's key is '\(program.key)'; it must be empty")
      } else {
        try require(
          SchemaChecks.isProgramKey(program.key),
          "'\(program.key)' is no program: ^[a-z][a-z0-9+.-]*://[^/]*$ is asked for")
      }
      try require(keys.insert(program.key).inserted, "the program '\(program.key)' is listed twice")
    }
    if programs.contains(where: \.isCanonical) {
      let table = host.extensionTable("backplane.schema/1", as: bp_schema.self)
      try require(table?.pointee.canonical_uri != nil, "a program asks for canonical_uri, which is NULL")
    }
    try require(try host.programs() == programs, "programs() listed something else at the second call")
    return programs
  }

  static func isProgramKey(_ key: String) -> Bool {
    guard let separator = key.utf8.firstRange(of: "://".utf8), let first = key.utf8.first else { return false }
    let scheme = key.utf8[..<separator.lowerBound]
    let isScheme = scheme.allSatisfy { byte in
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        || "+.-".utf8.contains(byte)
    }
    return isScheme && (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(first)
      && !key.utf8[separator.upperBound...].contains(UInt8(ascii: "/"))
  }

  // MARK: Judging

  private struct Message: Sendable {
    var uri: String
    var data: [UInt8]
    var content = Content.json
    var isDelete = false

    static func random(_ programs: [Program], deletes: Bool, _ random: inout SeededGenerator) -> Message {
      let program = programs.randomElement(using: &random)!
      let key = program.isFallback ? ["mutable://open", "x-unknown://a"].randomElement(using: &random)! : program.key
      let tail = ["", "/a", "/a/b", "/sha256/\(String(repeating: "aB", count: 32))", "/%20", "/\(random.next())"]
        .randomElement(using: &random)!
      var message = Message(uri: key + tail, data: Array(json(&random).utf8))
      if random.oneIn(4) {
        message.content = .bytes
        message.data = random.bytes(Int.random(in: 0...100, using: &random))
      }
      message.isDelete = deletes && random.oneIn(5)
      if message.isDelete { message.data = [] }
      return message
    }

    private static func json(_ random: inout SeededGenerator, depth: Int = 0) -> String {
      let keys = ["auth", "payload", "inputs", "outputs", "content", "uri", "data", "sha256", "ü"]
      switch Int.random(in: 0..<(depth > 4 ? 5 : 9), using: &random) {
      case 0: return "null"
      case 1: return "true"
      case 2: return "\(Int.random(in: -99...99, using: &random))"
      case 3: return #""mutable://open/x""#
      case 4: return #""\u0000\ud83d\ude00""#
      case 5, 6:
        return "["
          + (0..<Int.random(in: 0...3, using: &random)).map { _ in json(&random, depth: depth + 1) }
          .joined(separator: ",") + "]"
      default:
        return "{"
          + (0..<Int.random(in: 0...4, using: &random)).map { _ in
            "\"\(keys.randomElement(using: &random)!)\":\(json(&random, depth: depth + 1))"
          }.joined(separator: ",") + "}"
      }
    }
  }

  private func judge(_ host: TestHost, _ programs: [Program]) async throws {
    var random = SeededGenerator(seed: bench.seed)
    let table = host.extensionTable("backplane.schema/1", as: bp_schema.self)
    let deletes = table.map { $0.pointee.flags & BP_SCHEMA_JUDGES_DELETES != 0 } ?? false
    for number in 1...SchemaChecks.messagesCount {
      let message = Message.random(programs, deletes: deletes, &random)
      do {
        try await ask(host, message)
      } catch {
        throw Problem(
          "\(error) (message \(number), seed \(bench.seed): \(message.uri), \(message.content), "
            + "\(TraceRun.shown(message.data)))")
      }
    }
  }

  /// Judges one message and looks at the verdict as it is on the boundary.
  private func ask(_ host: TestHost, _ message: Message, mayFail: Bool = false) async throws {
    guard let table = host.extensionTable("backplane.schema/1", as: bp_schema.self) else {
      throw Problem("extension(\"backplane.schema/1\") is NULL")
    }
    let mode = CallMode(rawValue: table.pointee.judge_mode)
    try require(mode != nil, "judge_mode is \(table.pointee.judge_mode), which is no BP_MODE")
    let judge = table.pointee.judge
    let program = SchemaChecks.program(of: message.uri)
    let answer: Result<Void, Problem> = try await host.call(
      bp_verdict.self, mode: mode ?? .async, deadline: SchemaChecks.callLimit,
      submit: { arena, call, token in
        let raw = arena.make(
          bp_message(
            size: .size(of: bp_message.self), verb: message.isDelete ? BP_VERB_DELETE : BP_VERB_PUT,
            content: message.content.rawValue, depth: 0, ts_ms: 1_700_000_000_000, uri: arena.view(message.uri),
            uri_received: arena.view(message.uri), program: arena.view(program), data: arena.view(message.data)))
        judge?(host.pluginSelf, call, raw, token)
      }, read: { verdict in Result { () throws(Problem) in try SchemaChecks.check(verdict, mayFail) } })
    try answer.get()
  }

  static func program(of uri: String) -> String {
    guard let separator = uri.firstRange(of: "://") else { return "" }
    let end = uri[separator.upperBound...].firstIndex(of: "/") ?? uri.endIndex
    return String(uri[..<end])
  }

  /// During complete: the views are still good.
  private static func check(_ verdict: bp_verdict, _ mayFail: Bool) throws(Problem) {
    switch verdict.result.code {
    case BP_OK: break
    case BP_REJECTED:
      try require(verdict.result.message.size > 0, "a message was refused without a text; the client gets the text")
      return
    case BP_DEADLINE_EXCEEDED: throw Problem("judge did not complete within \(callLimit)")
    default:
      if mayFail { return }
      throw Problem(
        "judge failed with code \(verdict.result.code): \(verdict.result.message.text); a message that is not liked "
          + "is refused with BP_REJECTED")
    }
    guard verdict.ops_count > 0, let first = verdict.ops else { throw Problem("a verdict accepts and has no ops") }
    let stride = Int(first.pointee.size)
    try require(stride >= MemoryLayout<bp_op>.size, "an op of a verdict has size \(stride)")
    for index in 0..<Int(verdict.ops_count) {
      let op = UnsafeRawPointer(first).load(fromByteOffset: index * stride, as: bp_op.self)
      let what = "op \(index) of a verdict"
      try require(op.verb == BP_VERB_PUT || op.verb == BP_VERB_DELETE, "\(what) has verb \(op.verb)")
      try require(op.condition <= BP_IF_VERSION, "\(what) has condition \(op.condition)")
      try require(op.verb == BP_VERB_DELETE || op.content <= BP_CONTENT_BYTES, "\(what) has content \(op.content)")
      try require(op.flags & ~BP_OP_TO_JUDGE == 0, "\(what) has flags \(op.flags)")
      for (name, view) in [("uri", op.uri), ("data", op.data)] {
        try require(view.data != nil || view.size == 0, "\(what) has a \(name) of \(view.size) bytes at NULL")
      }
      try require(op.uri.size > 0, "\(what) has no URI")
      // Every byte is touched: a view that points outside crashes here, where the check has a name.
      var sum: UInt8 = 0
      for byte in op.data.bytes { sum &+= byte }
      let uri = String(validating: op.uri.bytes, as: UTF8.self)
      try require(uri != nil && sum &- sum == 0, "\(what) has a URI that is not UTF-8")
    }
  }

  // MARK: Bad input

  private func hostile(_ host: TestHost, _ programs: [Program]) async throws {
    let keys = programs.map { $0.isFallback ? "mutable://open" : $0.key }
    let texts = [
      "", "{", "}", "[1,]", "{\"a\":}", "\"", "nul", "+1", "01", "\u{feff}{}", "{\"a\":1 \"b\":2}", "\"\\ud800\"",
      String(repeating: "[", count: 100_000), String(repeating: "{\"payload\":", count: 50_000),
      String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000),
      "{\"payload\":{\"inputs\":[],\"outputs\":[[\"\(String(repeating: "x", count: 1 << 20))\",1]]}}",
      "{\"auth\":[],\"payload\":{\"inputs\":[],\"outputs\":[\(String(repeating: "[\"mutable://open/x\",1],", count: 5_000))[\"\",1]]}}",
      "\"\(String(repeating: "\\u0000", count: 200_000))\"",
    ]
    for key in keys {
      for tail in ["/x", "/sha256/\(String(repeating: "0", count: 64))", "/\(String(repeating: "u", count: 4_000))"] {
        for text in texts { try await ask(host, Message(uri: key + tail, data: Array(text.utf8)), mayFail: true) }
        try await ask(host, Message(uri: key + tail, data: [0x22, 0xff, 0xc0, 0x80, 0x22]), mayFail: true)
      }
    }
    if programs.contains(where: \.isFallback) {
      // What is not a URI at all comes to the fallback, which refuses it in its own words.
      let judgement = try await host.judge("", Array("1".utf8), uriReceived: "no uri", deadline: SchemaChecks.callLimit)
      guard case .rejected(let text) = judgement, !text.isEmpty else {
        throw Problem("the fallback accepted a message whose URI is none (uri is empty, uri_received \"no uri\")")
      }
    }
  }

  // MARK: Canonical URIs

  private func canonical(_ programs: [Program]) async {
    let keys = programs.filter(\.isCanonical).map(\.key)
    guard !keys.isEmpty else { return }
    await bench.recording.check("schema.canonical") {
      try await bench.serving { host in
        var random = SeededGenerator(seed: bench.seed)
        for key in keys {
          for _ in 0..<200 {
            let digest = String((0..<64).map { _ in "0123456789abcdefABCDEF".randomElement(using: &random)! })
            let tails = ["", "/", "/\(digest)", "/\(digest)/x", "/sha256/\(digest)", "/short", "/\(random.next())"]
            let uri = key + tails.randomElement(using: &random)!
            let once = try host.canonical(uri)
            let where_ = "of '\(uri)' (seed \(bench.seed))"
            try require(try host.canonical(uri) == once, "canonical_uri \(where_) is not the same at every call")
            try require(try host.canonical(once) == once, "canonical_uri \(where_) is '\(once)', which has another one")
          }
        }
      }
      return keys.joined(separator: ", ")
    }
  }
}
