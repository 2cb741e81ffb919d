import Foundation
import Testing

@testable import MessageCrypto

/// What libsodium refuses although the equation holds.
@Suite struct Ed25519Tests {
  private let message = Array("message".utf8)

  @Test func lengthsMustBeRight() throws {
    let pair = Ed25519.KeyPair()
    let signature = message.withUnsafeBytes { pair.sign($0) }
    #expect(isValid(signature: signature, message: message, key: pair.publicKey))
    for wrong in [[], Array(signature.dropLast()), signature + [0], Array(signature.prefix(32))] {
      #expect(!isValid(signature: wrong, message: message, key: pair.publicKey))
    }
    for wrong in [[], Array(pair.publicKey.dropLast()), pair.publicKey + [0]] {
      #expect(!isValid(signature: signature, message: message, key: wrong))
    }
    #expect(!isValid(signature: signature, message: [], key: pair.publicKey))
    let none = [UInt8]().withUnsafeBytes { pair.sign($0) }
    #expect(isValid(signature: none, message: [], key: pair.publicKey))
  }

  @Test func everyBitCounts() throws {
    let pair = Ed25519.KeyPair()
    let signature = message.withUnsafeBytes { pair.sign($0) }
    for bit in 0..<512 {
      var changed = signature
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(!isValid(signature: changed, message: message, key: pair.publicKey), "bit \(bit)")
    }
    for bit in 0..<256 {
      var changed = pair.publicKey
      changed[bit / 8] ^= 1 << (bit % 8)
      #expect(!isValid(signature: signature, message: message, key: changed), "bit \(bit)")
    }
  }

  /// S and S + L stand for the same scalar: without this refusal everybody could make a second signature.
  @Test func aSecondHalfThatIsNotReducedIsRefused() throws {
    let order = bytes(hex: "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
    let pair = Ed25519.KeyPair()
    var signature = message.withUnsafeBytes { pair.sign($0) }
    var carry = 0
    for index in 0..<32 {
      let sum = Int(signature[32 + index]) + Int(order[index]) + carry
      signature[32 + index] = UInt8(truncatingIfNeeded: sum)
      carry = sum >> 8
    }
    #expect(carry == 0)
    #expect(!isValid(signature: signature, message: message, key: pair.publicKey))
  }

  /// With such a key and S = 0 one signature would hold for any message.
  @Test(arguments: [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    // Not canonical: p, p + 1, and the neutral element with a sign.
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0100000000000000000000000000000000000000000000000000000000000080",
  ])
  func keysOfSmallOrderAreRefused(hex: String) throws {
    let key = bytes(hex: hex)
    for first in [key, bytes(hex: "01" + String(repeating: "0", count: 62))] {
      let signature = first + [UInt8](repeating: 0, count: 32)
      for number in 0..<64 {
        #expect(!isValid(signature: signature, message: [UInt8(number)], key: key))
      }
    }
    // The first half of an honest signature is never of small order either.
    let pair = Ed25519.KeyPair()
    let signature = message.withUnsafeBytes { pair.sign($0) }
    #expect(!isValid(signature: key + signature[32...], message: message, key: pair.publicKey))
  }

  @Test func manyThreadsAtOnce() throws {
    let pair = Ed25519.KeyPair()
    let message = message
    DispatchQueue.concurrentPerform(iterations: 64) { _ in
      let signature = message.withUnsafeBytes { pair.sign($0) }
      #expect(isValid(signature: signature, message: message, key: pair.publicKey))
    }
  }

  @Test func seedsHave32Bytes() {
    #expect(Ed25519.KeyPair(seed: SecretBytes(randomCount: 31)) == nil)
    #expect(Ed25519.KeyPair(seed: SecretBytes(randomCount: 33)) == nil)
    #expect(Ed25519.KeyPair().publicKey != Ed25519.KeyPair().publicKey)
  }
}

@Suite struct X25519Tests {
  @Test func bothSidesShare() throws {
    let (one, other) = (X25519.KeyPair(), X25519.KeyPair())
    let shared = one.publicKey.withUnsafeBytes { other.sharedSecret(with: $0) }
    #expect(shared != nil)
    #expect(shared == other.publicKey.withUnsafeBytes { one.sharedSecret(with: $0) })
    #expect(one.publicKey.dropLast().withUnsafeBytes { other.sharedSecret(with: $0) } == nil)
    #expect(X25519.KeyPair(privateKey: SecretBytes(randomCount: 31)) == nil)
  }

  @Test(arguments: [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  ])
  func aSecretThatEverybodyKnowsIsRefused(hex: String) {
    #expect(bytes(hex: hex).withUnsafeBytes { X25519.KeyPair().sharedSecret(with: $0) } == nil)
  }
}
