import Foundation
import PluginAPI
import PluginTestHost
import Testing

/// What nobody sends who means well: bounded time and memory, and a reason. One after the other, because they measure
/// this process's memory.
@Suite(.serialized) struct HostileTests {
  private static let failed = Judgement.rejected("Signature verification failed")

  private static func nested(_ depth: Int) -> String {
    String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
  }

  /// Resident memory now, bytes.
  private static func residentBytes() -> Int {
    let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ") ?? []
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
  }

  @Test(.timeLimit(.minutes(2))) func aHundredThousandLevels() async throws {
    let owner = try Signer(1)
    let deep = Self.nested(100_000)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      #expect(try await host.judge(received: "mutable://open/x", json: deep) == stored("mutable://open/x", deep))
      let hash = "hash://sha256/" + String(repeating: "1", count: 64)
      #expect(
        try await host.judge(received: hash, json: deep)
          == .rejected(
            "Validation error: The JSON text is nested deeper than 10000 levels at byte 10000: flatten it."))
      let uri = "mutable://accounts/\(owner.key)/x"
      let message = #"{"auth":[\#(try owner.entry("1"))],"payload":\#(deep)}"#
      #expect(
        try await host.judge(received: uri, json: message)
          == .rejected(
            "Validation error: The payload cannot be verified: The JSON text is nested deeper than 10000 levels at byte "
              + "10000: flatten it."))
      // Where the depth does not matter nobody minds it.
      #expect(try await host.judge(received: uri, json: deep) == .rejected("write.value.auth is not iterable"))
      #expect(try await host.judge(received: uri, json: #"{"auth":\#(deep),"payload":1}"#) == Self.failed)
      let value = #"{"payload":{"inputs":\#(deep),"outputs":[["mutable://open/y",\#(deep)]]}}"#
      guard case .accepted(let ops) = try await host.judge(received: "mutable://open/x", json: value) else {
        Issue.record("refused")
        return
      }
      #expect(ops.count == 2)
    }
  }

  @Test(.timeLimit(.minutes(5))) func aHundredMegabytesOfDigits() async throws {
    let owner = try Signer(1)
    let count = 100 << 20
    let digits = [UInt8](repeating: UInt8(ascii: "7"), count: count)
    let head = Array(#"{"auth":[\#(try owner.entry("1"))],"payload":"#.utf8)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let before = Self.residentBytes()
      guard case .accepted(let ops) = try await host.judge(received: "mutable://open/x", digits) else {
        Issue.record("refused")
        return
      }
      #expect(ops.count == 1)
      #expect(
        try await host.judge(received: "mutable://accounts/\(owner.key)/x", digits)
          == .rejected("write.value.auth is not iterable"))
      // Infinity has no JSON; JavaScript prints null. As much as a node takes, unless told otherwise.
      let most = Array(digits[..<(16 << 20)])
      #expect(
        try await host.judge(received: "mutable://accounts/\(owner.key)/x", head + most + [UInt8(ascii: "}")])
          == Self.failed)
      #expect(
        try await host.judge(received: "hash://sha256/" + String(repeating: "1", count: 64), most)
          == .rejected(
            "Validation error: The JSON text has a number too large for a double at byte 0: it has no canonical form."))
      // A few copies of the message are the test host's and this test's own.
      #expect(Self.residentBytes() - before < 8 * count)
    }
  }

  @Test func namesGivenTwice() async throws {
    let owner = try Signer(1)
    let other = try Signer(2)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let uri = "mutable://accounts/\(owner.key)/x"
      let good = try owner.entry("1")
      // Whoever reads the first one and whoever reads the last one must not see different messages.
      for json in [
        #"{"auth":[\#(good)],"payload":1,"payload":2}"#, #"{"auth":[\#(good)],"auth":null,"payload":1}"#,
        #"{"auth":[\#(good)],"auth":[\#(try other.entry("1"))],"payload":1}"#,
        #"{"auth":[{"pubkey":"\#(owner.key)","pubkey":"\#(other.key)","signature":"\#(try owner.signature("1"))"}],"payload":1}"#,
      ] {
        guard case .rejected = try await host.judge(received: uri, json: json) else {
          Issue.record("accepted: \(json)")
          continue
        }
      }
      for json in [
        #"{"payload":2,"auth":[],"auth":[\#(good)],"payload":1}"#, #"{"payload":2,"auth":[\#(good)],"\u0070ayload":1}"#,
      ] {
        #expect(try await host.judge(received: uri, json: json) == stored(uri, json))
      }
      // As many as a message can hold.
      let many = (0..<200_000).map { "\"k\($0 % 1_000)\":\($0)" }.joined(separator: ",")
      let message = try owner.message("{\(many)}")
      #expect(try await host.judge(received: uri, json: message) == stored(uri, message))
    }
  }

  @Test(.timeLimit(.minutes(2))) func aHundredThousandOutputsAndNotOneMore() async throws {
    let outputs = (0..<100_000).map { "[\"mutable:\\/\\/open/\($0)\",\($0)]" }
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let before = Self.residentBytes()
      guard case .accepted(let ops) = try await host.judge(received: "mutable://open/e", json: envelope(outputs)) else {
        Issue.record("refused")
        return
      }
      #expect(ops.count == 100_001 && ops.last?.uri == "mutable://open/99999")
      #expect(Self.residentBytes() - before < 512 << 20)
      #expect(
        try await host.judge(received: "mutable://open/e", json: envelope(outputs + [#"["mutable://open/x",1]"#]))
          == .rejected(
            "Validation error: the envelope has 100001 outputs, and 100000 is the most that one may have: send several "
              + "envelopes."))
    }
  }

  @Test(.timeLimit(.minutes(2))) func aHundredThousandSignatures() async throws {
    let owner = try Signer(1)
    let wrong = #"{"pubkey":"\#(owner.key)","signature":"\#(try owner.signature("2"))"}"#
    let theirs = try Signer(2).entry("1")
    let good = try owner.entry("1")
    func message(_ entry: String, _ count: Int) -> String {
      "{\"auth\":[\(Array(repeating: entry, count: count).joined(separator: ",")),\(good)],\"payload\":1}"
    }
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let uri = "mutable://accounts/\(owner.key)/x"
      let tooMany =
        "Validation error: The message has more than 256 entries in auth, the most that are verified: leave some out."
      for entry in [wrong, theirs, "0"] {
        #expect(try await host.judge(received: uri, json: message(entry, 100_000)) == .rejected(tooMany))
        // Up to the bound the one that is valid is found, on a thread of the instance's own.
        let most = message(entry, 255)
        #expect(try await host.judge(received: uri, json: most) == stored(uri, most))
        #expect(try await host.judge(received: uri, json: message(entry, 256)) == .rejected(tooMany))
      }
    }
  }

  @Test func manySignaturesOverALargePayload() async throws {
    let owner = try Signer(1)
    let payload = "\"" + String(repeating: "x", count: 1 << 20) + "\""
    let wrong = #"{"pubkey":"\#(owner.key)","signature":"\#(try owner.signature("2"))"}"#
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let uri = "mutable://accounts/\(owner.key)/x"
      let good = try owner.message(payload)
      #expect(try await host.judge(received: uri, json: good) == stored(uri, good))
      let auth = Array(repeating: wrong, count: 200).joined(separator: ",")
      let judgement = try await host.judge(received: uri, json: #"{"auth":[\#(auth)],"payload":\#(payload)}"#)
      guard case .rejected(let text) = judgement else {
        Issue.record("accepted")
        return
      }
      #expect(text.contains("ask for more than 67108864 bytes to be hashed"))
    }
  }

  @Test func envelopesInEnvelopes() async throws {
    try await withB3nd { (host: TestHost, node: InMemoryNode) async throws in
      let small = SmallNode(host: host, node: node)
      var message = envelope([])
      for level in 0..<16 { message = envelope([#"["mutable://open/\#(level)",\#(message)]"#]) }
      #expect(try await small.receive("mutable://open/e", message) == nil)
      #expect(node.records.count == 17)
      #expect(
        try await small.receive("mutable://open/e", envelope([#"["mutable://open/x",\#(message)]"#]))
          == "nested deeper than 16")
    }
  }

  /// The transport checks JSON; a caller who did not gets a reason, never a crash.
  @Test(arguments: 1...4) func damagedMessages(_ seed: UInt64) async throws {
    let owner = try Signer(1)
    let digest = try Texts.digestURI("1")
    let uris = [
      "mutable://open/a", "mutable://accounts/\(owner.key)/x", "immutable://accounts/\(owner.key)", "link://open/x",
      "link://accounts/\(owner.key)/x", "immutable://open/x", digest, "hash://md5/x", "nonsense", "",
      "mutable://none/x",
    ]
    let messages = [
      try owner.message(#"{"inputs":[],"outputs":[["mutable://open/a",{"x":"\u00e9"}]]}"#), "1",
      try owner.message(#""link:\/\/open\/a""#), envelope([#"["\#(digest)",1]"#]), #""hash://\u0073ha256/x""#,
      #"{"auth":"\ud800","payload":[1e400,-0,"\\"]}"#,
    ]
    try await withB3nd(#"{"delete":"owner"}"#) { (host: TestHost, _: InMemoryNode) async throws in
      var generator = SeededGenerator(seed: seed)
      var accepted = 0
      for _ in 0..<1_500 {
        var data = Array(messages.randomElement(using: &generator)!.utf8)
        for _ in 0..<Int.random(in: 0...2, using: &generator) where !data.isEmpty {
          switch Int.random(in: 0..<3, using: &generator) {
          case 0: data[Int.random(in: 0..<data.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
          case 1: data.removeLast(Int.random(in: 0...data.count, using: &generator))
          default: data.removeFirst(Int.random(in: 0...min(40, data.count), using: &generator))
          }
        }
        let uri = uris.randomElement(using: &generator)!
        let content = Int.random(in: 0..<5, using: &generator) == 0 ? Content.bytes : .json
        let depth = UInt32.random(in: 0...2, using: &generator)
        switch try await host.judge(received: uri, data, content, depth: depth) {
        case .rejected(let text): #expect(!text.isEmpty)
        case .accepted(let ops):
          accepted += 1
          #expect(!ops.isEmpty && ops[0].verb == .put(data: data, content: content))
        }
      }
      #expect(accepted > 100)
    }
  }
}
