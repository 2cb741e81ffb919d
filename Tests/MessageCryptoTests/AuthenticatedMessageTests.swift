import JSONText
import VectorTesting
import Testing

@testable import MessageCrypto

/// Calls `body` with the message in `text`, or nil when it is none.
func withMessage<Value>(
  _ text: String, entriesMax: Int = AuthenticatedMessage.entriesMax,
  _ body: (AuthenticatedMessage?) throws -> Value
) throws -> Value {
  let bytes = Array(text.utf8)
  return try bytes.withUnsafeBytes { bytes in
    let value = try JSONScanner().scan(bytes).get()
    return try body(try AuthenticatedMessage.find(in: value, entriesMax: entriesMax))
  }
}

func isVerified(_ text: String, by key: String) throws -> Bool {
  try withMessage(text) { message in
    guard let message else { return false }
    let key = Array(key.utf8)
    return try key.withUnsafeBytes { try message.verifies(by: $0) }
  }
}

func verification(_ text: String) throws -> AuthenticatedMessage.Verification {
  try withMessage(text) { try #require($0).verify() }
}

func entry(_ key: String, _ signature: String) -> String {
  #"{"pubkey":"\#(key)","signature":"\#(signature)"}"#
}

@Suite struct AuthenticatedMessageTests {
  /// Two valid signatures, as the reference made them.
  private func vectors() throws -> (payload: String, keys: [String], signatures: [String]) {
    let cases = try SharedVectors.list("verifyCases")
    let good = try #require(cases.first { $0["name"] as? String == "good" })
    let payload = try #require(good["payloadJson"] as? String)
    let messages = try SharedVectors.list("authenticated")
    let message = try #require(messages.last?["message"] as? [String: Any])
    let auth = try #require(message["auth"] as? [[String: String]])
    return (payload, auth.compactMap { $0["pubkey"] }, auth.compactMap { $0["signature"] })
  }

  @Test func everyVectorOfTheReferenceIsJudgedAlike() throws {
    let cases = try SharedVectors.list("verifyCases")
    #expect(cases.count == 10)
    for item in cases {
      let name = item["name"] as? String ?? "?"
      let key = try #require(item["publicKeyHex"] as? String)
      let signature = try #require(item["signature"] as? String)
      let payload = try #require(item["payloadJson"] as? String)
      let isValid = try #require(item["valid"] as? Bool)
      let text = #"{"auth":[\#(entry(key, signature))],"payload":\#(payload)}"#
      #expect(try verification(text).isByAnyone == isValid, "\(name)")
      #expect(try verification(text).isByAll == isValid, "\(name)")
      #expect(try isVerified(text, by: key) == isValid, "\(name)")
    }
  }

  @Test func severalSignersAreAllVerified() throws {
    let (payload, keys, signatures) = try vectors()
    #expect(keys.count == 2)
    let text =
      #"{"auth":[\#(entry(keys[0], signatures[0])),\#(entry(keys[1], signatures[1]))],"payload":\#(payload)}"#
    let result = try verification(text)
    #expect(result.isByAll)
    #expect(result.signers.map { Hexadecimal.text($0) } == keys)
    for key in keys { #expect(try isVerified(text, by: key)) }
    #expect(try !isVerified(text, by: String(repeating: "0", count: 64)))
  }

  @Test func emptyAuthIsNeverVerified() throws {
    let (payload, keys, _) = try vectors()
    let text = #"{"auth":[],"payload":\#(payload)}"#
    let result = try verification(text)
    #expect(!result.isByAnyone)
    #expect(!result.isByAll)
    #expect(try !isVerified(text, by: keys[0]))
  }
}

/// What is sent to be taken for something else, or to keep the verifier busy.
@Suite struct HostileMessageTests {
  private let pair: Ed25519.KeyPair
  private let payload = #"{"b":1,"a":[true,"x"]}"#
  private let good: String

  init() throws {
    // A key with a zero in its first digit, for the reference's leniency.
    var seed = [UInt8](repeating: 0, count: 32)
    var found: Ed25519.KeyPair?
    while found == nil {
      seed[0] += 1
      let candidate = seed.withUnsafeBytes { Ed25519.KeyPair(seed: SecretBytes(copying: $0)) }
      if let candidate, candidate.publicKey[0] < 16 { found = candidate }
    }
    let pair = try #require(found)
    self.pair = pair
    let signature = Array(payload.utf8).withUnsafeBytes { pair.sign($0) }
    good = entry(pair.publicKeyHex, Hexadecimal.text(signature))
  }

  private func message(_ entries: [String], _ payload: String? = nil) -> String {
    #"{"auth":[\#(entries.joined(separator: ","))],"payload":\#(payload ?? self.payload)}"#
  }

  @Test func aDigitThatIsNoneIsNotZero() throws {
    let key = pair.publicKeyHex
    #expect(key.first == "0")
    #expect(try verification(message([good])).isByAll)
    // The reference reads "za" as 0x0a, "+a" and " a" too, and "a" followed by junk as 0x0a.
    for disguise in ["z", "+", " ", "-", "g", "/", ":", "@", "`", "G", "\\u0000", "é"] {
      let text = message([good.replacingOccurrences(of: key, with: disguise + key.dropFirst())])
      #expect(!(try verification(text)).isByAnyone, "\(disguise)")
      #expect(try !isVerified(text, by: disguise + key.dropFirst()), "\(disguise)")
    }
    for disguise in ["0x" + key.dropFirst(2), key.dropLast(), key + "0", key + "00", ""] as [Substring] {
      let text = message([good.replacingOccurrences(of: key, with: disguise)])
      #expect(!(try verification(text)).isByAnyone, "\(disguise)")
    }
  }

  @Test func keysAreComparedAsTextAndVerifiedAsBytes() throws {
    let upper = message([good.replacingOccurrences(of: pair.publicKeyHex, with: pair.publicKeyHex.uppercased())])
    #expect(try verification(upper).isByAll)
    #expect(try isVerified(upper, by: pair.publicKeyHex.uppercased()))
    #expect(try !isVerified(upper, by: pair.publicKeyHex))
    let escaped = message([
      good.replacingOccurrences(of: pair.publicKeyHex, with: "\\u0030" + pair.publicKeyHex.dropFirst())
    ])
    #expect(try isVerified(escaped, by: pair.publicKeyHex))
    #expect(try !isVerified(message([good]), by: ""))
    #expect(try !isVerified(message([good]), by: "accounts"))
  }

  @Test func theTextIsPrintedAgainAndItsOrderCounts() throws {
    #expect(try verification(message([good], #" { "b" : 1.0e0 , "a":[ true,"\u0078"]}"#)).isByAll)
    #expect(try verification(message([good], #"{"b":7,"a":[true,"x"],"b":1}"#)).isByAll)
    for changed in [
      #"{"a":[true,"x"],"b":1}"#, #"{"b":1,"a":["x",true]}"#, #"{"b":1,"a":[true,"x"],"c":null}"#, "null", "\"\"",
      #"{"b":1.0000001,"a":[true,"x"]}"#, #"{"b":1,"a":[true,"X"]}"#,
    ] {
      #expect(!(try verification(message([good], changed))).isByAnyone, "\(changed)")
    }
  }

  @Test func entriesThatAreNoneDoNotHideThoseThatAre() throws {
    let junk = [
      "null", "1", "[]", "{}", #""x""#, #"{"pubkey":null,"signature":"00"}"#, #"{"pubkey":[],"signature":{}}"#,
      entry(pair.publicKeyHex, ""), entry(pair.publicKeyHex, String(repeating: "0", count: 128)), entry("", ""),
    ]
    let result = try verification(message(junk + [good]))
    #expect(result.signers == [pair.publicKey])
    #expect(result.invalidCount == junk.count)
    #expect(result.isByAnyone && !result.isByAll)
    #expect(try isVerified(message(junk + [good]), by: pair.publicKeyHex))
    #expect(!(try verification(message(junk))).isByAnyone)
  }

  @Test func oneKeyCountsOnce() throws {
    let result = try verification(message(Array(repeating: good, count: 256)))
    #expect(result.signers == [pair.publicKey])
    #expect(result.isByAll)
    let upper = good.replacingOccurrences(of: pair.publicKeyHex, with: pair.publicKeyHex.uppercased())
    #expect(try verification(message([good, upper])).signers.count == 1)
  }

  @Test func whatIsNoAuthenticatedMessageIsNotFound() throws {
    for text in [
      "null", "[]", "\"auth\"", "{}", #"{"auth":[]}"#, #"{"payload":1}"#, #"{"auth":null,"payload":1}"#,
      #"{"auth":{"0":1,"length":1},"payload":1}"#, #"{"auth":"x","payload":1}"#, #"[{"auth":[],"payload":1}]"#,
    ] {
      #expect(try withMessage(text) { $0 == nil }, "\(text)")
    }
    // Of members that are there twice the last counts, as for every JSON parser of the network.
    let text = #"{"auth":[\#(good)],"payload":\#(payload),"auth":[]}"#
    #expect(!(try verification(text)).isByAnyone)
    let other = #"{"auth":[\#(good)],"payload":\#(payload),"payload":2}"#
    #expect(!(try verification(other)).isByAnyone)
  }

  @Test func entriesAreBounded() throws {
    let few = message(Array(repeating: good, count: 4))
    #expect(throws: AuthenticationError.tooManyEntries(limit: 3)) { try withMessage(few, entriesMax: 3) { _ in } }
    let many = message(Array(repeating: "{}", count: 100_000))
    let error = #expect(throws: AuthenticationError.self) { try verification(many) }
    #expect(error == .tooManyEntries(limit: 256))
    #expect("\(try #require(error))".contains("more than 256 entries"))
  }

  @Test func hashingIsBounded() throws {
    let large = "\"" + String(repeating: "x", count: 10 << 20) + "\""
    let signature = Array(large.utf8).withUnsafeBytes { pair.sign($0) }
    let valid = entry(pair.publicKeyHex, Hexadecimal.text(signature))
    #expect(try isVerified(message([valid], large), by: pair.publicKeyHex))
    let wrong = entry(pair.publicKeyHex, Hexadecimal.text(signature.reversed()))
    let busy = message(Array(repeating: wrong, count: 256), large)
    let error = #expect(throws: AuthenticationError.self) { try verification(busy) }
    #expect(error == .tooMuchToVerify(limitBytes: AuthenticatedMessage.hashedSizeBytesMax))
    #expect(throws: AuthenticationError.self) { try isVerified(busy, by: pair.publicKeyHex) }
    #expect(try !isVerified(busy, by: String(repeating: "1", count: 64)))
  }

  @Test func depthIsBounded() throws {
    let deep = String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)
    let text = Array(message([good], deep).utf8)
    try text.withUnsafeBytes { text in
      let value = try JSONScanner(depthMax: .max).scan(text).get()
      let message = try #require(try AuthenticatedMessage.find(in: value))
      let error = #expect(throws: AuthenticationError.self) { try message.verify() }
      guard case .payload(let problem)? = error else {
        Issue.record("\(String(describing: error)) is not about the payload")
        return
      }
      #expect(problem.kind == .tooDeep)
      #expect(!(try message.verify(depthMax: .max)).isByAnyone)
    }
  }

  /// Whatever is done to a signed message, it is verified only when its payload still prints the same.
  @Test func fuzz() throws {
    var generator = SeededGenerator(seed: 5)
    let text = Array(message([good]).utf8)
    let pieces = [
      "{", "}", "[", "]", ",", ":", "\"", "\\", "0", "a", "1", " ", "null", "auth", "payload", "\u{0}", "é",
    ]
    var verified = 0
    var parsed = 0
    for _ in 0..<20_000 {
      var changed = text
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let place = Int.random(in: 0..<changed.count, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: changed[place] = UInt8.random(in: 0...255, using: &generator)
        case 1: changed.remove(at: place)
        case 2: changed.insert(contentsOf: pieces.randomElement(using: &generator)?.utf8 ?? "".utf8, at: place)
        default: changed.removeSubrange(place..<min(changed.count, place + 9))
        }
      }
      try changed.withUnsafeBytes { changed in
        guard case .success(let value) = JSONScanner().scan(changed) else { return }
        parsed += 1
        guard let message = try? AuthenticatedMessage.find(in: value), let result = try? message.verify(),
          result.isByAnyone
        else { return }
        verified += 1
        try #require(try CanonicalText.signing(message.payload) == Array(payload.utf8))
        try #require(result.signers == [pair.publicKey])
      }
    }
    #expect(parsed > 1000 && verified > 10)
  }
}
