import Foundation
import Glibc
import MessageCrypto

/// Reads what must not stand among the arguments of a process, which everybody on the machine can list: from a file,
/// from standard input (`-`) or from an environment variable (`env:NAME`). It goes into locked memory at once.
enum SecretInput {
  static let sizeBytesMax = 64 << 10
  static let standardInput = "-"
  private static let environmentPrefix = "env:"

  /// The bytes at `place`. `what` is what they are, for the error.
  static func read(_ place: String, what: String) throws -> SecretBytes {
    if place.hasPrefix(environmentPrefix) {
      let name = String(place.dropFirst(environmentPrefix.count))
      guard let value = getenv(name) else {
        throw CommandFailure(.usage, "\(what) cannot be read: the environment variable \(name) is not set.")
      }
      return SecretBytes(copying: UnsafeRawBufferPointer(start: value, count: strlen(value)))
    }
    guard place != standardInput else { return try read(STDIN_FILENO, what: what, from: "standard input") }
    let descriptor = open(place, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw CommandFailure(.usage, "\(what) cannot be read from \(place): \(String(cString: strerror(errno))).")
    }
    defer { close(descriptor) }
    var status = stat()
    if fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_mode & 0o077 != 0 {
      Output.warning("others can read \(place), which holds \(what): chmod 600 \(place)")
    }
    return try read(descriptor, what: what, from: place)
  }

  private static func read(_ descriptor: Int32, what: String, from place: String) throws -> SecretBytes {
    var count = 0
    // One byte more than may be, to see that there are more.
    let buffer = try SecretBytes(count: sizeBytesMax + 1) { buffer in
      while count < buffer.count {
        let piece = Glibc.read(descriptor, buffer.baseAddress.map { $0 + count }, buffer.count - count)
        if piece == 0 { return }
        if piece < 0 {
          if errno == EINTR { continue }
          throw CommandFailure(.usage, "\(what) cannot be read from \(place): \(String(cString: strerror(errno))).")
        }
        count += piece
      }
      throw CommandFailure(.usage, "\(what) in \(place) is longer than \(sizeBytesMax >> 10) KiB.")
    }
    return buffer.withUnsafeBytes { SecretBytes(copying: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
  }
}

extension SecretBytes {
  /// Without the white space (ASCII) at both ends.
  var trimmed: SecretBytes {
    withUnsafeBytes { bytes in
      var range = 0..<bytes.count
      while let first = range.first, Self.isSpace(bytes[first]) { range = (first + 1)..<range.upperBound }
      while let last = range.last, Self.isSpace(bytes[last]) { range = range.lowerBound..<last }
      return SecretBytes(copying: UnsafeRawBufferPointer(rebasing: bytes[range]))
    }
  }

  /// Without its last line break, which an editor leaves behind.
  var withoutLastLineBreak: SecretBytes {
    withUnsafeBytes { bytes in
      var count = bytes.count
      if count > 0, bytes[count - 1] == 0x0A {
        count -= 1
        if count > 0, bytes[count - 1] == 0x0D { count -= 1 }
      }
      return SecretBytes(copying: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    }
  }

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
}
