import PluginAPI
import PluginTestHost
import Testing

/// Who may write to an account.
@Suite struct AccountTests {
  private static let failed = Judgement.rejected("Signature verification failed")
  private static let notIterable = Judgement.rejected("write.value.auth is not iterable")

  @Test func aMessageByTheOwnerIsAccepted() async throws {
    let owner = try Signer(1)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let message = try owner.message(#"{"b":1,"a":[true,null]}"#)
      for tail in ["", "/", "/x", "/x/y?q"] {
        let judgement = try await host.judge(received: "mutable://accounts/\(owner.key)\(tail)", json: message)
        guard case .accepted(let ops) = judgement else {
          Issue.record("\(tail): \(judgement)")
          continue
        }
        #expect(ops.count == 1 && ops[0].condition == .any)
      }
      // Anywhere but in the first segment a key owns nothing.
      #expect(try await host.judge(received: "mutable://accounts/x/\(owner.key)", json: message) == Self.failed)
      #expect(try await host.judge(received: "mutable://accounts/%\(owner.key)", json: message) == Self.failed)
    }
  }

  @Test func theAccountRootNeverVerifies() async throws {
    let owner = try Signer(1)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      for uri in ["mutable://accounts", "mutable://accounts/", "mutable://accounts//?\(owner.key)"] {
        let message = try owner.message("1")
        #expect(try await host.judge(received: uri, json: message) == Self.failed)
        #expect(try await host.judge(received: uri, json: #"{"auth":[],"payload":1}"#) == Self.failed)
        #expect(
          try await host.judge(received: uri, json: #"{"auth":[{"pubkey":"","signature":""}],"payload":1}"#)
            == Self.failed)
      }
    }
  }

  @Test func emptyAuthNeverVerifies() async throws {
    let owner = try Signer(1)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let uri = "mutable://accounts/\(owner.key)/x"
      for auth in ["[]", "[[]]", "[null]", "[{}]", #"["\#(owner.key)"]"#, #""""#, #""text""#] {
        #expect(try await host.judge(received: uri, json: #"{"auth":\#(auth),"payload":1}"#) == Self.failed, "\(auth)")
      }
      // Of names given twice the last counts.
      let entry = try owner.entry("1")
      #expect(try await host.judge(received: uri, json: #"{"auth":[\#(entry)],"auth":[],"payload":1}"#) == Self.failed)
    }
  }

  @Test func valuesWithoutAuthAreRefusedInTheReferencesWords() async throws {
    let uri = "mutable://accounts/\(try Signer(1).key)/x"
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      #expect(
        try await host.judge(received: uri, json: " null ")
          == .rejected("Cannot read properties of null (reading 'auth')"))
      for json in [
        "1", "true", #""auth""#, "[]", "{}", #"{"payload":1}"#, #"{"auth":null,"payload":1}"#, #"{"auth":1}"#,
        #"{"auth":{},"payload":1}"#, #"{"auth":true}"#,
      ] {
        #expect(try await host.judge(received: uri, json: json) == Self.notIterable, "\(json)")
      }
      #expect(try await host.judge(received: uri, [1, 2, 3], .bytes) == Self.notIterable)
    }
  }

  @Test func withoutAPayloadNothingIsSigned() async throws {
    let owner = try Signer(1)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      // Over no bytes at all, which is what JavaScript makes of a payload that is not there.
      let signature = owner.pair.sign(UnsafeRawBufferPointer(start: nil, count: 0))
      let hex = signature.map { byte in String(byte >> 4, radix: 16) + String(byte & 15, radix: 16) }.joined()
      #expect(
        try await host.judge(
          received: "mutable://accounts/\(owner.key)/x",
          json: #"{"auth":[{"pubkey":"\#(owner.key)","signature":"\#(hex)"}]}"#) == Self.failed)
    }
  }

  @Test func oneValidSignatureByTheOwnerIsEnoughAndNobodyElsesCounts() async throws {
    let owner = try Signer(1)
    let other = try Signer(2)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let uri = "mutable://accounts/\(owner.key)/x"
      let wrong = #"{"pubkey":"\#(owner.key)","signature":"\#(try other.signature("1"))"}"#
      let junk = #"null,7,{"pubkey":1},{"pubkey":"\#(owner.key)"},{"pubkey":"\#(owner.key)","signature":[]}"#
      let good = try owner.entry("1")
      let theirs = try other.entry("1")
      for auth in [good, "\(theirs),\(good)", "\(wrong),\(good)", "\(junk),\(good)", "\(good),\(wrong)"] {
        let message = #"{"auth":[\#(auth)],"payload":1}"#
        #expect(try await host.judge(received: uri, json: message) == stored(uri, message))
      }
      for auth in [theirs, wrong, junk, "\(theirs),\(wrong),\(junk)"] {
        #expect(try await host.judge(received: uri, json: #"{"auth":[\#(auth)],"payload":1}"#) == Self.failed)
      }
      // Names may be written with escapes.
      let escaped = #"{"\u0061uth":[\#(good)],"payl\u006fad":1}"#
      #expect(try await host.judge(received: uri, json: escaped) == stored(uri, escaped))
    }
  }

  @Test func theOwnerIsComparedAsText() async throws {
    let owner = try Signer(1)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let message = try owner.message("1")
      let upper = owner.key.uppercased()
      #expect(try await host.judge(received: "mutable://accounts/\(upper)/x", json: message) == Self.failed)
      let shouted = message.replacing(owner.key, with: upper)
      #expect(try await host.judge(received: "mutable://accounts/\(owner.key)/x", json: shouted) == Self.failed)
      let uri = "mutable://accounts/\(upper)/x"
      #expect(try await host.judge(received: uri, json: shouted) == stored(uri, shouted))
    }
  }

  /// The peer reads `zz` as zero and `1z` as one.
  @Test func hexadecimalIsReadStrictly() async throws {
    let owner = try Signer(1)
    let signature = try owner.signature("1")
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      func message(_ key: String, _ signature: String) -> String {
        #"{"auth":[{"pubkey":"\#(key)","signature":"\#(signature)"}],"payload":1}"#
      }
      let uri = "mutable://accounts/\(owner.key)/x"
      let lastZero = "00" + signature.dropFirst(2)
      for bad in [
        String(signature.dropLast()), signature + "0", signature + "00", " " + signature, "0x" + signature.dropFirst(2),
        "zz" + signature.dropFirst(2), String(lastZero), "",
      ] {
        #expect(try await host.judge(received: uri, json: message(owner.key, bad)) == Self.failed, "\(bad)")
      }
      for key in ["zz", "zz" + owner.key.dropFirst(2), String(owner.key.dropLast()), owner.key + "00"] {
        let judgement = try await host.judge(received: "mutable://accounts/\(key)/x", json: message(key, signature))
        #expect(judgement == Self.failed, "\(key)")
      }
    }
  }

  /// A key all zeros is a point of small order: some verifiers accept a signature by it over anything.
  @Test func aSignatureThatFitsEveryMessageIsNone() async throws {
    let zeros = String(repeating: "0", count: 64)
    let one = "01" + String(repeating: "0", count: 62)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      for key in [zeros, one] {
        for half in [zeros, one] {
          let json = #"{"auth":[{"pubkey":"\#(key)","signature":"\#(half)\#(zeros)"}],"payload":1}"#
          #expect(try await host.judge(received: "mutable://accounts/\(key)/x", json: json) == Self.failed)
        }
      }
    }
  }

  @Test func theSignatureIsOverThePayloadAsJavaScriptPrintsIt() async throws {
    let owner = try Signer(1)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let uri = "mutable://accounts/\(owner.key)/x"
      let signed = try owner.entry(#"{"b":1,"a":2,"7":[1.5]}"#)
      func verifies(_ payload: String) async throws -> Bool {
        let message = #"{"auth":[\#(signed)],"payload":\#(payload)}"#
        return try await host.judge(received: uri, json: message) == stored(uri, message)
      }
      #expect(try await verifies(#"{"b":1,"a":2,"7":[1.5]}"#))
      #expect(try await verifies(#" { "7" : [ 15e-1 ], "b" : 1.0, "\u0061" : 2 } "#))
      // The last value of a name given twice, at its first place.
      #expect(try await verifies(#"{"b":9,"a":2,"b":1,"7":[1.5]}"#))
      #expect(try await verifies(#"{"a":2,"b":1,"7":[1.5]}"#) == false)
      #expect(try await verifies(#"{"b":1,"a":2,"b":3,"7":[1.5]}"#) == false)
      #expect(try await verifies(#"{"b":1,"a":2,"7":[1.5],"c":0}"#) == false)
    }
  }

  @Test func anEnvelopeInAnAccountIsSignedToo() async throws {
    let owner = try Signer(1)
    try await withB3nd { (host: TestHost, _: InMemoryNode) async throws in
      let uri = "mutable://accounts/\(owner.key)/x"
      let payload = #"{"inputs":[],"outputs":[["mutable://open/a",1]]}"#
      guard case .accepted(let ops) = try await host.judge(received: uri, json: try owner.message(payload)) else {
        Issue.record("refused")
        return
      }
      #expect(ops.map(\.uri) == [uri, "mutable://open/a"] && ops.map(\.isToJudge) == [false, true])
      let theirs = try Signer(2).message(payload)
      #expect(try await host.judge(received: uri, json: theirs) == Self.failed)
      #expect(try await host.judge(received: uri, json: #"{"payload":\#(payload)}"#) == Self.notIterable)
    }
  }
}
