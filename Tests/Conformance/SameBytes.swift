import Glibc

extension [UInt8] {
  /// Equality at the speed of memory, whatever the build: records of 64 MiB are compared.
  func isSame(as other: [UInt8]) -> Bool {
    count == other.count
      && withUnsafeBytes { own in
        other.withUnsafeBytes { own.count == 0 || memcmp(own.baseAddress!, $0.baseAddress!, own.count) == 0 }
      }
  }
}
