import Foundation
import JSONText
import MessageCrypto
import VectorTesting
import Testing

@testable import MessageEncryption

/// Reads `json` as an encrypted payload.
func payload(_ json: String) throws -> EncryptedPayload {
  try Array(json.utf8).withUnsafeBytes { try EncryptedPayload(try JSONScanner().scan($0).get()) }
}

func payload(_ members: [String: String]) throws -> EncryptedPayload {
  try payload(String(decoding: try JSONSerialization.data(withJSONObject: members), as: UTF8.self))
}

func text(_ payload: EncryptedPayload) -> String {
  var output: [UInt8] = []
  payload.append(to: &output)
  return String(decoding: output, as: UTF8.self)
}

func secret(_ text: String) -> SecretBytes { Array(text.utf8).withUnsafeBytes { SecretBytes(copying: $0) } }

func secret(hex: String) throws -> SecretBytes {
  try #require(Hexadecimal.decode(hex)).withUnsafeBytes { SecretBytes(copying: $0) }
}

func recipient(pkcs8Hex: String) throws -> X25519.KeyPair {
  let key = try Array(pkcs8Hex.utf8).withUnsafeBytes { try PrivateKey(pkcs8Hex: $0) }
  guard case .x25519(let pair) = key else { throw EncryptionError.unusablePublicKey }
  return pair
}

func encrypt(_ text: [UInt8], to pair: X25519.KeyPair) throws -> EncryptedPayload {
  try text.withUnsafeBytes { text in
    try pair.publicKey.withUnsafeBytes { try EncryptedPayload.encrypt(text, to: $0) }
  }
}

/// What the reference encrypted, and what it must be able to read.
@Suite struct EncryptionVectorTests {
  @Test func encryptedToAKey() throws {
    let cases = try SharedVectors.list("encrypted")
    #expect(cases.count == 6)
    for item in cases {
      let pair = try recipient(pkcs8Hex: try #require(item["recipientPkcs8Hex"] as? String))
      let encrypted = try payload(try #require(item["payload"] as? [String: String]))
      let plain = try #require(item["plaintextUtf8"] as? String)
      #expect(String(decoding: try encrypted.decrypt(with: pair), as: UTF8.self) == plain)
      let shared = try secret(hex: try #require(item["sharedSecretHex"] as? String))
      #expect(String(decoding: try encrypted.decrypt(key: shared), as: UTF8.self) == plain)
      let own = try encrypt(Array(plain.utf8), to: pair)
      #expect(own != encrypted)
      #expect(own.data.count == encrypted.data.count && own.nonce.count == 12)
      #expect(String(decoding: try own.decrypt(with: pair), as: UTF8.self) == plain)
    }
  }

  @Test func symmetric() throws {
    let cases = try SharedVectors.list("symmetric")
    #expect(cases.count == 2)
    for item in cases {
      let key = try PasswordKey.derive(
        secret(try #require(item["seed"] as? String)), salt: Array(try #require(item["salt"] as? String).utf8),
        iterations: try #require(item["iterations"] as? Int))
      #expect(key == (try secret(hex: try #require(item["keyHex"] as? String))))
      let encrypted = try payload(try #require(item["payload"] as? [String: String]))
      let plain = try #require(item["plaintextUtf8"] as? String)
      #expect(String(decoding: try encrypted.decrypt(key: key), as: UTF8.self) == plain)
      let own = try Array(plain.utf8).withUnsafeBytes { try EncryptedPayload.encrypt($0, key: key) }
      #expect(own.ephemeralPublicKey == nil)
      #expect(String(decoding: try own.decrypt(key: key), as: UTF8.self) == plain)
    }
  }

  @Test func signedAndEncrypted() throws {
    var cases = try SharedVectors.list("signedEncrypted")
    #expect(cases.count == 1)
    let managed = try #require(try SharedVectors.object("b3nd.json")["managed"] as? [String: Any])
    cases.append([
      "message": try #require(managed["signedEncryptedConfig"]),
      "recipientPkcs8Hex": try #require(managed["nodeEncryptionPkcs8Hex"]),
      "plain": try #require(managed["configPlaintext"]),
    ])
    for item in cases {
      let pair = try recipient(pkcs8Hex: try #require(item["recipientPkcs8Hex"] as? String))
      let message = try #require(item["message"] as? [String: Any])
      let parts = try #require(message["payload"] as? [String: String])
      // Foundation loses the order of members, which the signature is over.
      let encrypted = try payload(parts)
      if let signed = item["signedText"] as? String { #expect(text(encrypted) == signed) }
      let auth = String(
        decoding: try JSONSerialization.data(withJSONObject: try #require(message["auth"])), as: UTF8.self)
      let bytes = Array(#"{"auth":\#(auth),"payload":\#(text(encrypted))}"#.utf8)
      try bytes.withUnsafeBytes { bytes in
        let value = try JSONScanner().scan(bytes).get()
        let found = try #require(try AuthenticatedMessage.find(in: value))
        let opened = try SignedEncryptedMessage.open(found, with: pair)
        #expect(opened.verification.isByAll)
        if let plain = item["plain"] as? String { #expect(String(decoding: opened.text, as: UTF8.self) == plain) }
        guard let result = item["result"] as? [String: Any] else { return }
        #expect(opened.verification.signers.map { Hexadecimal.text($0) } == result["signers"] as? [String])
        let data = try JSONSerialization.jsonObject(with: Data(opened.text)) as? NSDictionary
        #expect(data == result["data"] as? NSDictionary)
      }
    }
  }
}

@Suite struct EncryptionTests {
  private let pair = X25519.KeyPair()
  private let plain = Array(#"{"secret":"hi"}"#.utf8)

  @Test func isPrintedAsTheReferencePrintsIt() throws {
    let encrypted = try encrypt(plain, to: pair)
    let printed = text(encrypted)
    let pattern =
      #/\{"data":"[A-Za-z0-9+/]{42}[A-Za-z0-9+/=]{2}","nonce":"[A-Za-z0-9+/]{16}","ephemeralPublicKey":"[0-9a-f]{64}"\}/#
    #expect(try pattern.wholeMatch(in: printed) != nil, "\(printed)")
    #expect(try payload(printed) == encrypted)
    let symmetric = try plain.withUnsafeBytes { try EncryptedPayload.encrypt($0, key: SecretBytes(randomCount: 32)) }
    #expect(!text(symmetric).contains("ephemeralPublicKey"))
    #expect(try payload(text(symmetric)) == symmetric)
  }

  @Test func everyBitCounts() throws {
    let encrypted = try encrypt(plain, to: pair)
    let printed = text(encrypted)
    let key = try #require(encrypted.ephemeralPublicKey)
    var changes: [(data: [UInt8], nonce: [UInt8], key: [UInt8])] = []
    for bit in 0..<(encrypted.data.count * 8) {
      var data = encrypted.data
      data[bit / 8] ^= 1 << (bit % 8)
      changes.append((data, encrypted.nonce, key))
    }
    for bit in 0..<96 {
      var nonce = encrypted.nonce
      nonce[bit / 8] ^= 1 << (bit % 8)
      changes.append((encrypted.data, nonce, key))
    }
    // X25519 passes over the highest bit.
    for bit in 0..<255 {
      var changed = key
      changed[bit / 8] ^= 1 << (bit % 8)
      changes.append((encrypted.data, encrypted.nonce, changed))
    }
    for count in 0..<encrypted.data.count { changes.append((Array(encrypted.data[..<count]), encrypted.nonce, key)) }
    for nonce in [[], Array(encrypted.nonce.dropLast()), encrypted.nonce + [0]] {
      changes.append((encrypted.data, nonce, key))
    }
    for wrong in [
      Array(key.dropLast()), key + [0], [UInt8](repeating: 0, count: 32), [1] + [UInt8](repeating: 0, count: 31),
    ] {
      changes.append((encrypted.data, encrypted.nonce, wrong))
    }
    for change in changes {
      let changed = try payload([
        "data": Data(change.data).base64EncodedString(), "nonce": Data(change.nonce).base64EncodedString(),
        "ephemeralPublicKey": Hexadecimal.text(change.key),
      ])
      #expect(throws: EncryptionError.decryptionFailed) { try changed.decrypt(with: pair) }
    }
    #expect(throws: EncryptionError.decryptionFailed) { try encrypted.decrypt(with: X25519.KeyPair()) }
    #expect(throws: EncryptionError.decryptionFailed) { try encrypted.decrypt(key: SecretBytes(randomCount: 32)) }
    #expect(try payload(printed).decrypt(with: pair) == plain)
  }

  @Test func theTextsAreTheReferences() throws {
    #expect("\(EncryptionError.missingEphemeralPublicKey)" == "Missing ephemeral public key")
    #expect("\(EncryptionError.decryptionFailed)" == "Decryption failed")
    let symmetric = #"{"data":"AAAAAAAAAAAAAAAAAAAAAAAA","nonce":"AAAAAAAAAAAAAAAA"#
    for json in [
      symmetric + "\"}", symmetric + #"","ephemeralPublicKey":null}"#, symmetric + #"","ephemeralPublicKey":""}"#,
    ] {
      #expect(throws: EncryptionError.missingEphemeralPublicKey, "\(json)") { try payload(json).decrypt(with: pair) }
      #expect(throws: EncryptionError.decryptionFailed) { try payload(json).decrypt(key: SecretBytes(randomCount: 32)) }
    }
  }

  @Test func isRecognisedByItsTwoTexts() throws {
    for json in [
      "null", "[]", "\"data\"", "{}", #"{"data":"AA=="}"#, #"{"nonce":"AA=="}"#, #"{"data":1,"nonce":"AA=="}"#,
      #"{"data":"AA==","nonce":null}"#,
    ] {
      #expect(throws: EncryptionError.notEncrypted, "\(json)") { try payload(json) }
      try Array(json.utf8).withUnsafeBytes {
        let value = try JSONScanner().scan($0).get()
        #expect(!EncryptedPayload.isEncrypted(value))
      }
    }
    let any = #"{"nonce":"","x":1,"data":"\u0041A=="}"#
    try Array(any.utf8).withUnsafeBytes {
      let value = try JSONScanner().scan($0).get()
      #expect(EncryptedPayload.isEncrypted(value))
    }
    #expect(throws: EncryptionError.decryptionFailed) { try payload(any).decrypt(key: SecretBytes(randomCount: 32)) }
  }

  /// Another spelling of the same bytes would be a second text for one message.
  @Test func spellingsThatNobodyWritesAreRefused() throws {
    let printed = text(try encrypt(plain, to: pair))
    #expect(throws: Never.self) { try payload(printed) }
    for (old, new) in [
      (#""data":""#, #""data":" "#), (#""data":""#, #""data":"-"#), (#""nonce":""#, #""nonce":"\n"#),
      (#""nonce":""#, #""nonce":"="#), (#""ephemeralPublicKey":""#, #""ephemeralPublicKey":"0x"#),
      (#""ephemeralPublicKey":""#, #""ephemeralPublicKey":"z"#),
      (#""ephemeralPublicKey":""#, #""ephemeralPublicKey":"0"#),
      (#""ephemeralPublicKey":"#, #""ephemeralPublicKey":{},"ephemeralPublicKey":1,"x":"#),
    ] {
      let changed = printed.replacingOccurrences(of: old, with: new)
      #expect(throws: EncryptionError.decryptionFailed, "\(changed)") { try payload(changed).decrypt(with: pair) }
    }
  }

  @Test func recipientsWithoutASecretAreRefused() throws {
    for key in [
      [], [UInt8](repeating: 0, count: 32), [1] + [UInt8](repeating: 0, count: 31), [UInt8](repeating: 9, count: 31),
    ] {
      #expect(throws: EncryptionError.unusablePublicKey) {
        try key.withUnsafeBytes { key in try plain.withUnsafeBytes { try EncryptedPayload.encrypt($0, to: key) } }
      }
    }
    for count in [0, 16, 31, 33] {
      #expect(throws: EncryptionError.keySize(sizeBytes: count)) {
        try plain.withUnsafeBytes { try EncryptedPayload.encrypt($0, key: SecretBytes(randomCount: count)) }
      }
    }
    #expect(throws: EncryptionError.emptySecret) { try PasswordKey.derive(secret(""), salt: []) }
    for iterations in [Int.min, 0, PasswordKey.iterationsMax + 1] {
      #expect(throws: EncryptionError.iterations(limit: PasswordKey.iterationsMax)) {
        try PasswordKey.derive(secret("x"), salt: [], iterations: iterations)
      }
    }
  }

  @Test func noncesAndKeysAreNewEachTime() throws {
    let all = try (0..<200).map { _ in try encrypt(plain, to: pair) }
    #expect(Set(all.map(\.nonce)).count == 200)
    #expect(Set(all.compactMap(\.ephemeralPublicKey)).count == 200)
    #expect(Set(all.map(\.data)).count == 200)
  }

  @Test func tenMegabytes() throws {
    let large = RandomBytes.bytes(10 << 20)
    let encrypted = try encrypt(large, to: pair)
    #expect(try payload(text(encrypted)).decrypt(with: pair) == large)
    let none = try encrypt([], to: pair)
    #expect(none.data.count == 16)
    #expect(try none.decrypt(with: pair) == [])
  }

  @Test func signedAndEncryptedByTwo() throws {
    let signers = [Ed25519.KeyPair(), Ed25519.KeyPair()]
    var output: [UInt8] = []
    SignedEncryptedMessage.append(try encrypt(plain, to: pair), signers: signers, to: &output)
    try output.withUnsafeBytes { output in
      let message = try #require(try AuthenticatedMessage.find(in: try JSONScanner().scan(output).get()))
      let opened = try SignedEncryptedMessage.open(message, with: pair)
      #expect(opened.text == plain)
      #expect(opened.verification.signers == signers.map(\.publicKey) && opened.verification.isByAll)
      #expect(throws: EncryptionError.decryptionFailed) {
        try SignedEncryptedMessage.open(message, with: X25519.KeyPair())
      }
    }
    // Nobody's message is read, and is nobody's.
    let unsigned = Array(#"{"auth":[],"payload":\#(text(try encrypt(plain, to: pair)))}"#.utf8)
    try unsigned.withUnsafeBytes { unsigned in
      let message = try #require(try AuthenticatedMessage.find(in: try JSONScanner().scan(unsigned).get()))
      let opened = try SignedEncryptedMessage.open(message, with: pair)
      #expect(!opened.verification.isByAll && !opened.verification.isByAnyone)
    }
  }

  /// Whatever is done to it, what is read is what was encrypted, or nothing.
  @Test func fuzz() throws {
    var generator = SeededGenerator(state: 9)
    let text = Array(text(try encrypt(plain, to: pair)).utf8)
    let pieces = ["{", "}", ",", ":", "\"", "\\", "=", "A", "null", "1", "data", "\u{0}", "é"]
    var read = 0
    for _ in 0..<10_000 {
      var changed = text
      let place = Int.random(in: 0..<changed.count, using: &generator)
      switch Int.random(in: 0..<3, using: &generator) {
      case 0: changed[place] = UInt8.random(in: 0...255, using: &generator)
      case 1: changed.remove(at: place)
      default: changed.insert(contentsOf: pieces.randomElement(using: &generator)?.utf8 ?? "".utf8, at: place)
      }
      try changed.withUnsafeBytes { changed in
        guard case .success(let value) = JSONScanner().scan(changed) else { return }
        do {
          let opened = try EncryptedPayload(value).decrypt(with: pair)
          read += 1
          try #require(opened == plain)
        } catch is EncryptionError {}
      }
    }
    #expect(read > 10)
  }
}

/// The same numbers each run (Steele and Vigna's SplitMix64).
private struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var word = state
    word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
    word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
    return word ^ word >> 31
  }
}
