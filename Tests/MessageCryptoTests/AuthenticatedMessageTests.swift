import JSONText
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
