import PluginAPI
import SodiumShim

/// SHA-256 by libsodium. The function is pure and needs no initialisation of the library.
enum SHA256 {
  private static let digestBytes = 32

  /// Whether `hexadecimal`, in either case, is the digest of `bytes`. Allocates nothing.
  static func isDigest(_ hexadecimal: BorrowedBytes, of bytes: BorrowedBytes) -> Bool {
    guard hexadecimal.count == 2 * digestBytes else { return false }
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: digestBytes) { digest in
      guard let target = digest.baseAddress else { return false }
      crypto_hash_sha256(target, bytes.baseAddress, UInt64(bytes.count))
      for index in 0..<digestBytes {
        guard let high = Hexadecimal.value(hexadecimal[2 * index]),
          let low = Hexadecimal.value(hexadecimal[2 * index + 1]), digest[index] == high << 4 | low
        else { return false }
      }
      return true
    }
  }
}

enum Hexadecimal {
  /// 0 to 15, or nil for a byte that is no digit.
  static func value(_ byte: UInt8) -> UInt8? {
    if byte &- UInt8(ascii: "0") < 10 { return byte &- UInt8(ascii: "0") }
    let letter = (byte | 0x20) &- UInt8(ascii: "a")
    return letter < 6 ? letter + 10 : nil
  }
}
