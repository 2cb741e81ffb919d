import MessageCrypto
import PluginAPI
import SchemaSupport

extension B3nd {
  /// Proves that the digest and signature libraries are there and compute: the digest of `{"b":1,"a":2}` and the first
  /// signature of RFC 8032's tests.
  public func selfTest(scratchDirectory: String) async throws {
    do throws(Refusal) {
      try DigestRule.checkKnownDigest()
    } catch {
      throw Failure.internal("The digest of a known value came out wrong (\(error.text)): libsodium is not usable.")
    }
    guard Self.knownSignatureIsValid() else {
      throw Failure.internal("A known signature was not verified: libsodium is not usable.")
    }
  }

  private static func knownSignatureIsValid() -> Bool {
    func bytes(_ text: String) -> [UInt8] { Array(text.utf8).withUnsafeBytes { Hexadecimal.decode($0) } ?? [] }
    let key = bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    let signature = bytes(
      "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246"
        + "55141438e7a100b")
    return signature.withUnsafeBufferPointer { signature in
      key.withUnsafeBufferPointer { key in
        Ed25519.verify(signature: signature, message: BorrowedBytes(start: nil, count: 0), publicKey: key)
      }
    }
  }
}
