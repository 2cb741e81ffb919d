import Foundation

@testable import MessageCrypto

/// Bytes of a hexadecimal text; a test's own data, so a wrong one stops the test.
func bytes(hex: String) -> [UInt8] {
  guard let bytes = Hexadecimal.decode(hex) else { fatalError("\(hex) is not hexadecimal") }
  return bytes
}

func secret(hex: String) -> SecretBytes { bytes(hex: hex).withUnsafeBytes { SecretBytes(copying: $0) } }

func secret(_ text: String) -> SecretBytes { Array(text.utf8).withUnsafeBytes { SecretBytes(copying: $0) } }

extension SecretBytes {
  var hex: String { withUnsafeBytes { Hexadecimal.text($0) } }
  var text: String { withUnsafeBytes { String(decoding: $0, as: UTF8.self) } }
}

func privateKey(pem text: String) throws -> PrivateKey {
  let text = Array(text.utf8)
  return try text.withUnsafeBytes { try PrivateKey(pem: $0) }
}

func privateKey(pkcs8Hex text: String) throws -> PrivateKey {
  let text = Array(text.utf8)
  return try text.withUnsafeBytes { try PrivateKey(pkcs8Hex: $0) }
}

func privateKey(pkcs8 bytes: [UInt8]) throws -> PrivateKey {
  try bytes.withUnsafeBytes { try PrivateKey(pkcs8: $0) }
}

func isValid(signature: [UInt8], message: [UInt8], key: [UInt8]) -> Bool {
  signature.withUnsafeBytes { signature in
    message.withUnsafeBytes { message in
      key.withUnsafeBytes { Ed25519.verify(signature: signature, message: message, publicKey: $0) }
    }
  }
}

/// The same numbers each run (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var word = state
    word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
    word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
    return word ^ word >> 31
  }
}
