import Crypto

/// SHA-256, fed in pieces. By swift-crypto, which uses the processor's instructions for it: a first start hashes every
/// plugin file, and some have ten megabytes.
struct SHA256 {
  private var hash = Crypto.SHA256()

  mutating func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bufferPointer: bytes) }

  /// Ends the computation; lower-case hexadecimal, 64 characters.
  func finishHexadecimal() -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: hash.finalize().flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }
}
