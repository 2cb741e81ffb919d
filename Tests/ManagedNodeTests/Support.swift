import Foundation
import JSONText
import MessageCrypto
import VectorTesting

@testable import ManagedNode

struct BadVectors: Error {
  let description: String
}

/// The keys and messages that were recorded on the reference implementation.
struct ManagedVectors {
  let object: [String: Any]

  init() throws {
    guard let object = try SharedVectors.object("b3nd.json")["managed"] as? [String: Any] else {
      throw BadVectors(description: "b3nd.json has no object managed")
    }
    self.object = object
  }

  func text(_ key: String) throws -> String {
    guard let text = object[key] as? String else { throw BadVectors(description: "no text \(key)") }
    return text
  }

  var operatorKey: String { get throws { try text("operatorPublicKeyHex") } }
  var nodeId: String { get throws { try text("nodePublicKeyHex") } }
  var operatorPair: Ed25519.KeyPair { get throws { try pair(seed: text("operatorSeed")) } }
  var nodePair: Ed25519.KeyPair { get throws { try pair(seed: text("nodeSeed")) } }

  var nodeDecryptionKey: X25519.KeyPair {
    get throws {
      let digits = Array(try text("nodeEncryptionPkcs8Hex").utf8)
      guard case .x25519(let pair) = try digits.withUnsafeBytes({ try PrivateKey(pkcs8Hex: $0) }) else {
        throw BadVectors(description: "nodeEncryptionPkcs8Hex is no x25519 key")
      }
      return pair
    }
  }

  /// A recorded value, as the very text of the file: the order of its members is what was signed.
  func raw(_ key: String) throws -> [UInt8] {
    let file = Array(try SharedVectors.data("b3nd.json"))
    guard let whole = RawJSON(file) else { throw BadVectors(description: "b3nd.json is no JSON") }
    let found: [UInt8]? = whole.withSlice { whole in
      for (name, value) in whole.member("managed")?.members ?? whole.members where name.text == key {
        return Array(value.bytes)
      }
      return nil
    }
    guard let found else { throw BadVectors(description: "managed has no \(key)") }
    return found
  }

  private func pair(seed: String) throws -> Ed25519.KeyPair {
    guard let bytes = Hexadecimal.decode(seed),
      let pair = Ed25519.KeyPair(seed: bytes.withUnsafeBytes { SecretBytes(copying: $0) })
    else { throw BadVectors(description: "a seed is none") }
    return pair
  }
}

/// The list `name` of b3nd.json, each entry's member `key` as the text of the file.
func rawMembers(of name: String, _ key: String) throws -> [[UInt8]] {
  guard let whole = RawJSON(Array(try SharedVectors.data("b3nd.json"))) else { return [] }
  return whole.withSlice { whole in
    var found: [[UInt8]] = []
    for (list, entries) in whole.members where list.text == name {
      for entry in entries.elements {
        for (member, value) in entry.members where member.text == key { found.append(Array(value.bytes)) }
      }
    }
    return found
  }
}

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

func json(_ text: String) -> [UInt8] { Array(text.utf8) }

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
