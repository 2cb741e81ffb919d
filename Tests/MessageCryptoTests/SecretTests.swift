import Foundation
import Testing

@testable import MessageCrypto

@Suite struct SecretTests {
  @Test func secretsAreNotPrinted() throws {
    let secret = secret("hunter2-hunter2-hunter2-hunter2-")
    let pair = try #require(Ed25519.KeyPair(seed: secret))
    let agreement = try #require(X25519.KeyPair(privateKey: secret))
    let values: [Any] = [secret, pair, agreement, PrivateKey.ed25519(pair), PrivateKey.x25519(agreement), [secret]]
    let digits = "hunter2".utf8.map { String($0) }.joined(separator: ", ")
    for value in values {
      var dumped = ""
      dump(value, to: &dumped)
      for text in [String(describing: value), String(reflecting: value), "\(value)", dumped] {
        #expect(!text.contains("hunter2") && !text.contains(secret.hex.prefix(14)) && !text.contains(digits), "\(text)")
      }
    }
    #expect("\(secret)" == "<secret of 32 bytes>")
    #expect(Mirror(reflecting: secret).children.isEmpty)
    #expect("\(PrivateKey.ed25519(pair))" == "ed25519 private key of \(pair.publicKeyHex)")
  }

  @Test func equalityIsOfContent() {
    #expect(secret("a") == secret("a"))
    #expect(secret("a") != secret("b"))
    #expect(secret("a") != secret("ab"))
    #expect(secret("") == secret(""))
    #expect(SecretBytes(randomCount: 32) != SecretBytes(randomCount: 32))
  }

  @Test func copiesAreZeroed() {
    var copy = Array("hunter2".utf8)
    SecretBytes.zero(&copy)
    #expect(copy.isEmpty)
  }

  /// Each secret has pages of its own, so one that stays shows among the mappings.
  @Test func whatFailsWhileItIsFilledIsFreed() throws {
    struct Refusal: Error {}
    func mappings() throws -> Int {
      try String(contentsOfFile: "/proc/self/maps", encoding: .utf8).utf8.count { $0 == 0x0A }
    }
    let before = try mappings()
    for _ in 0..<3_000 {
      #expect(throws: Refusal.self) { try SecretBytes(count: 32) { _ throws(Refusal) in throw Refusal() } }
      _ = SecretBytes(randomCount: 32)
    }
    #expect(try mappings() < before + 1_500)
  }
}

@Suite struct DigestTests {
  /// RFC 4231, cases 1, 2, 6, and a key of no bytes.
  @Test func hmac() {
    func code(_ key: [UInt8], _ message: String) -> String {
      let message = Array(message.utf8)
      return Hexadecimal.text(
        message.withUnsafeBytes { message in key.withUnsafeBytes { HMACSHA256.code(of: message, key: $0) } })
    }
    #expect(
      code([UInt8](repeating: 0x0B, count: 20), "Hi There")
        == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
    #expect(
      code(Array("Jefe".utf8), "what do ya want for nothing?")
        == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    #expect(
      code([UInt8](repeating: 0xAA, count: 131), "Test Using Larger Than Block-Size Key - Hash Key First")
        == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    #expect(code([], "") == "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad")
  }

  @Test func digestsInPiecesAndCompared() {
    let content = RandomBytes.bytes(1000)
    let whole = content.withUnsafeBytes { SHA256.digest(of: $0) }
    var pieces = SHA256()
    for start in stride(from: 0, to: content.count, by: 77) {
      content[start..<min(start + 77, content.count)].withUnsafeBytes { pieces.update($0) }
    }
    #expect(pieces.digest() == whole && pieces.digest() == whole)
    func isDigest(_ text: String) -> Bool {
      let text = Array(text.utf8)
      return text.withUnsafeBytes { text in content.withUnsafeBytes { SHA256.isDigest(text, of: $0) } }
    }
    let text = Hexadecimal.text(whole)
    #expect(isDigest(text) && isDigest(text.uppercased()))
    #expect(
      !isDigest(String(text.dropLast())) && !isDigest(text + "0") && !isDigest("") && !isDigest("g" + text.dropFirst()))
    #expect(!isDigest(String(text.reversed())))
  }
}
