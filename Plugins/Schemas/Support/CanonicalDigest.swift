import MessageCrypto
import PluginAPI

/// Digests are compared without regard to case, so the record of a digest has one URI: the one in lower case.
package enum CanonicalDigest {
  private static let program: StaticString = "hash://sha256/"
  private static let digestCharactersMax = 64

  /// Calls `write` with `hash://sha256/<digest>` in lower case, when `uri` (in normal form) is that and has a capital
  /// in it. Everything else is canonical already. Allocates nothing.
  package static func fold(_ uri: BorrowedBytes, _ write: (BorrowedBytes) -> Void) {
    let start = program.utf8CodeUnitCount
    guard uri.starts(with: program), uri.count <= start + digestCharactersMax else { return }
    var hasCapital = false
    for byte in uri[start...] {
      guard Hexadecimal.value(byte) < 16 else { return }
      if byte &- UInt8(ascii: "A") < 6 { hasCapital = true }
    }
    guard hasCapital else { return }
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: uri.count) { folded in
      // Digits have bit 5 set already; capitals get it.
      for index in uri.indices {
        folded.initializeElement(at: index, to: index < start ? uri[index] : uri[index] | 0x20)
      }
      write(BorrowedBytes(folded))
    }
  }
}
