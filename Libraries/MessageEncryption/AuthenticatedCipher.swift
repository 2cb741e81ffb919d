import Crypto
import Foundation
import MessageCrypto

/// AES-256-GCM with nonces of 12 bytes and tags of 16, no additional data: what the reference's peers read and write.
///
/// By swift-crypto and not by libsodium, which has AES-GCM only where the processor has AES instructions: two
/// implementations would be two to trust and to test, and the portable one uses those instructions as well.
enum AuthenticatedCipher {
  static let keySizeBytes = 32
  static let nonceSizeBytes = 12
  static let tagSizeBytes = 16
  /// GCM itself ends at 64 GiB; nobody sends that.
  static let textSizeBytesMax = 1 << 30

  /// The encrypted bytes, the tag behind them. A nonce must never be used twice with one key.
  static func seal(
    _ text: UnsafeRawBufferPointer, key: SecretBytes, nonce: [UInt8]
  ) throws(EncryptionError) -> [UInt8] {
    guard key.count == keySizeBytes else { throw .keySize(sizeBytes: key.count) }
    guard text.count <= textSizeBytesMax else { throw .tooLarge(limitBytes: textSizeBytesMax) }
    do {
      let box = try AES.GCM.seal(text, using: symmetric(key), nonce: AES.GCM.Nonce(data: nonce))
      return [UInt8](box.ciphertext) + [UInt8](box.tag)
    } catch {
      // Key, nonce and text have the sizes that are asked for.
      preconditionFailure("AES-GCM refused to encrypt: \(error)")
    }
  }

  /// The text, if `sealed` is what `seal` made of it with this key and nonce.
  static func open(_ sealed: [UInt8], key: SecretBytes, nonce: [UInt8]) throws(EncryptionError) -> [UInt8] {
    guard key.count == keySizeBytes else { throw .keySize(sizeBytes: key.count) }
    guard nonce.count == nonceSizeBytes, sealed.count >= tagSizeBytes else { throw .decryptionFailed }
    do {
      let box = try AES.GCM.SealedBox(
        nonce: AES.GCM.Nonce(data: nonce), ciphertext: sealed.dropLast(tagSizeBytes), tag: sealed.suffix(tagSizeBytes))
      return [UInt8](try AES.GCM.open(box, using: symmetric(key)))
    } catch {
      throw .decryptionFailed
    }
  }

  /// swift-crypto keeps a copy of its own and zeroes it at its end.
  private static func symmetric(_ key: SecretBytes) -> SymmetricKey {
    key.withUnsafeBytes { SymmetricKey(data: $0) }
  }
}
