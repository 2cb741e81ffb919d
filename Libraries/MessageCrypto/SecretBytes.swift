import SodiumShim

/// Bytes that nobody else may see: a seed, a key, a password.
///
/// They stand on pages of their own between guard pages, locked into memory where the system allows it
/// (`RLIMIT_MEMLOCK`), and are zeroed when the last reference goes. Nothing prints them: description, debug description
/// and mirror say how many there are and no more. Equality takes the same time wherever two secrets differ.
public final class SecretBytes {
  /// Bytes.
  public let count: Int
  private let start: UnsafeMutableRawPointer

  /// Calls `fill` with `count` zeroed bytes to be written. What it throws is passed on, and what it wrote is zeroed.
  public init<Failure: Error>(
    count: Int, _ fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Void
  ) throws(Failure) {
    precondition(count >= 0, "a secret cannot have a negative number of bytes")
    precondition(Sodium.isReady, "libsodium cannot be initialised: this system gives no random bytes")
    // One byte at least: what an allocation of none returns is not specified.
    guard let start = sodium_malloc(max(count, 1)) else {
      preconditionFailure("no memory is left for a secret of \(count) bytes")
    }
    sodium_memzero(start, count)
    self.start = start
    self.count = count
    try fill(UnsafeMutableRawBufferPointer(start: start, count: count))
  }

  /// A copy of `bytes`. Whoever holds the original zeroes it.
  public convenience init(copying bytes: UnsafeRawBufferPointer) {
    self.init(count: bytes.count) { $0.copyMemory(from: bytes) }
  }

  /// Fresh random bytes.
  public convenience init(randomCount count: Int) {
    self.init(count: count) { RandomBytes.fill($0) }
  }

  deinit {
    sodium_free(start)
  }

  /// Calls `body` with the bytes. The pointer is valid inside `body` only; what is copied out of it is no longer
  /// protected.
  public func withUnsafeBytes<Value, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Value
  ) throws(Failure) -> Value {
    try body(UnsafeRawBufferPointer(start: start, count: count))
  }

  /// Overwrites `bytes` with zeros in a way that the optimiser keeps: for copies of secrets in ordinary memory.
  public static func zero(_ bytes: inout [UInt8]) {
    bytes.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return }
      sodium_memzero(base, buffer.count)
    }
    bytes.removeAll()
  }
}

// The bytes are written during `init` only, and freed when nobody has a reference any more.
extension SecretBytes: @unchecked Sendable {}

extension SecretBytes: Equatable {
  public static func == (left: SecretBytes, right: SecretBytes) -> Bool {
    left.count == right.count && sodium_memcmp(left.start, right.start, left.count) == 0
  }
}

extension SecretBytes: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  public var description: String { "<secret of \(count) bytes>" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: [], displayStyle: .class) }
}
