/// The schemes that the WHATWG standard treats by rules of their own.
enum SpecialScheme {
  /// - Parameter scheme: lower-case.
  static func isSpecial(_ scheme: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    switch scheme.count {
    case 2: equals(scheme, "ws")
    case 3: equals(scheme, "wss") || equals(scheme, "ftp")
    case 4: equals(scheme, "http") || isFile(scheme)
    case 5: equals(scheme, "https")
    default: false
    }
  }

  /// - Parameter scheme: lower-case.
  static func isFile(_ scheme: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    equals(scheme, "file")
  }

  private static func equals(_ scheme: Slice<UnsafeBufferPointer<UInt8>>, _ name: StaticString) -> Bool {
    guard scheme.count == name.utf8CodeUnitCount else { return false }
    for offset in 0..<scheme.count where scheme[scheme.startIndex + offset] != name.utf8Start[offset] { return false }
    return true
  }
}
