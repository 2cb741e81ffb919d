import Foundation
import JSONText
import VectorTesting
import Testing

@testable import MessageCrypto

/// Everything that the reference computed and this library computes too.
@Suite struct VectorTests {
  private func printed(_ json: String, _ order: CanonicalText.Order) throws -> [UInt8] {
    var output: [UInt8] = []
    try Array(json.utf8).withUnsafeBytes { try CanonicalText.append($0, order: order, to: &output) }
    return output
  }

  private func digestHex(_ bytes: [UInt8]) -> String {
    Hexadecimal.text(bytes.withUnsafeBytes { SHA256.digest(of: $0) })
  }

  @Test func digestsOfCanonicalText() throws {
    let cases = try SharedVectors.list("canonical")
    #expect(cases.count == 20)
    for item in cases {
      let name = item["name"] as? String ?? "?"
      let text = try printed(try #require(item["json"] as? String), .canonical)
      #expect(String(decoding: text, as: UTF8.self) == item["canonical"] as? String, "\(name)")
      #expect(digestHex(text) == item["sha256"] as? String, "\(name)")
    }
  }

  @Test func digestsOfBytes() throws {
    let cases = try SharedVectors.list("bytes")
    #expect(cases.count == 4)
    for item in cases {
      let content = bytes(hex: try #require(item["hex"] as? String))
      let digest = try #require(item["sha256"] as? String)
      #expect(digestHex(content) == digest)
      let base64 = try #require(item["base64"] as? String)
      #expect(Array(base64.utf8).withUnsafeBytes { Base64Reader.decode($0) } == content)
      var pieces = SHA256()
      for byte in content { [byte].withUnsafeBytes { pieces.update($0) } }
      #expect(Hexadecimal.text(pieces.digest()) == digest)
    }
  }

  /// Of the digest rule this library has the comparison; the URI's form is the schema's.
  @Test func hashChecks() throws {
    let cases = try SharedVectors.list("hashChecks")
    #expect(cases.count == 13)
    var compared = 0
    for item in cases {
      let uri = try #require(item["uri"] as? String)
      let error = item["error"] as? String
      guard error == nil || error == "Content hash mismatch" else { continue }
      compared += 1
      let stated = try #require(URL(string: uri)?.path().dropFirst())
      let content = try printed(try #require(item["json"] as? String), .canonical)
      let isDigest = Array(stated.utf8).withUnsafeBytes { stated in
        content.withUnsafeBytes { SHA256.isDigest(stated, of: $0) }
      }
      #expect(isDigest == (error == nil), "\(uri)")
    }
    #expect(compared == 7)
  }

  @Test func signingText() throws {
    let cases = try SharedVectors.list("signingText")
    #expect(cases.count == 8)
    for item in cases {
      let text = try printed(try #require(item["json"] as? String), .signing)
      #expect(String(decoding: text, as: UTF8.self) == item["text"] as? String)
    }
  }

  @Test func ed25519() throws {
    let cases = try SharedVectors.list("ed25519")
    #expect(cases.count == 12)
    for item in cases {
      let seed = try #require(item["seed"] as? String)
      let pair = try #require(Ed25519.KeyPair(seed: secret(hex: seed)))
      #expect(pair.publicKeyHex == item["publicKeyHex"] as? String)
      let message = try printed(try #require(item["payloadJson"] as? String), .signing)
      #expect(String(decoding: message, as: UTF8.self) == item["signedText"] as? String)
      #expect(Hexadecimal.text(message) == item["signedUtf8Hex"] as? String)
      let signature = message.withUnsafeBytes { pair.sign($0) }
      #expect(Hexadecimal.text(signature) == item["signature"] as? String)
      #expect(isValid(signature: signature, message: message, key: pair.publicKey))

      let pkcs8Hex = try #require(item["pkcs8Hex"] as? String)
      let pem = try #require(item["pem"] as? String)
      for key in [try privateKey(pkcs8Hex: pkcs8Hex), try privateKey(pem: pem), PrivateKey.ed25519(pair)] {
        #expect(key.pkcs8.hex == pkcs8Hex)
        #expect(key.pem.text == pem)
        #expect(key.publicKey == pair.publicKey)
        #expect(key.secret == pair.seed)
      }
    }
  }

  @Test func x25519() throws {
    let cases = try SharedVectors.list("encrypted")
    #expect(cases.count == 6)
    for item in cases {
      let key = try privateKey(pkcs8Hex: try #require(item["recipientPkcs8Hex"] as? String))
      guard case .x25519(let pair) = key else {
        Issue.record("\(key) is no X25519 key")
        continue
      }
      #expect(pair.publicKeyHex == item["recipientPublicKeyHex"] as? String)
      #expect(pair.privateKey.hex == item["recipientPrivateRawHex"] as? String)
      let payload = try #require(item["payload"] as? [String: String])
      let other = bytes(hex: try #require(payload["ephemeralPublicKey"]))
      let shared = other.withUnsafeBytes { pair.sharedSecret(with: $0) }
      #expect(shared?.hex == item["sharedSecretHex"] as? String)
      #expect(try privateKey(pem: key.pem.text).pkcs8 == key.pkcs8)
    }
  }

  @Test func obfuscatedPaths() throws {
    let cases = try SharedVectors.list("obfuscatedPath")
    #expect(cases.count == 4)
    for item in cases {
      let key = Array(try #require(item["secret"] as? String).utf8)
      let parts = try #require(item["parts"] as? [String])
      #expect(
        key.withUnsafeBytes { ObfuscatedPath.text(secret: $0, parts: parts) } == item["path"] as? String)
    }
  }

  /// Of all lists of the file with signed messages: verified by everybody who signed, and signed again alike.
  @Test func signedMessagesOfTheReference() throws {
    let seeds = Set(try SharedVectors.list("ed25519").compactMap { $0["seed"] as? String })
    var pairs: [String: Ed25519.KeyPair] = [:]
    for seed in seeds {
      let pair = try #require(Ed25519.KeyPair(seed: secret(hex: seed)))
      pairs[pair.publicKeyHex] = pair
    }
    let texts = try SharedVectors.signedMessages()
    #expect(texts.count == 7)
    for text in texts {
      try withMessage(text) { message in
        let message = try #require(message)
        let result = try message.verify()
        #expect(result.isByAll && result.signers.count == message.entryCount, "\(text)")
        let signers = result.signers.compactMap { pairs[Hexadecimal.text($0)] }
        guard signers.count == result.signers.count else { return }
        var output: [UInt8] = []
        try AuthenticatedMessage.append(payload: message.payload, signers: signers, to: &output)
        #expect(String(decoding: output, as: UTF8.self) == text)
      }
    }
  }
}
