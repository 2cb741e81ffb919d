import Foundation
import Glibc
import MessageCrypto

/// Writes secrets to where the operator wants them, without a copy in ordinary memory.
enum SecretOutput {
  /// To standard output, each piece with a line break.
  static func print(_ lines: [SecretBytes]) {
    for line in lines {
      _ = line.withUnsafeBytes { write($0, to: STDOUT_FILENO) }
      Output.bytes([0x0A])
    }
  }

  /// Into a file that only its owner can read. What stands there is replaced, as a whole, only when `replaces` says so:
  /// a lost private key is lost for good.
  static func write(_ lines: [SecretBytes], toFile path: String, replaces: Bool) throws {
    func failure(_ error: Int32) -> CommandFailure {
      if error == EEXIST {
        return CommandFailure(.usage, "\(path) is there already. Choose another file, or replace it with --force.")
      }
      return CommandFailure(.usage, "\(path) cannot be written: \(String(cString: strerror(error))).")
    }
    // Written beside it first, so that half a key never stands under the name.
    let temporary = "\(path).\(getpid()).part"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw failure(errno) }
    defer { unlink(temporary) }
    var error: Int32 = 0
    for line in lines where error == 0 {
      error = line.withUnsafeBytes { write($0, to: descriptor) }
      if error == 0 { error = [UInt8(0x0A)].withUnsafeBytes { write($0, to: descriptor) } }
    }
    // The mode that was asked for, whatever the umask left of it.
    if error == 0, fchmod(descriptor, 0o600) != 0 || fsync(descriptor) != 0 { error = errno }
    close(descriptor)
    guard error == 0 else { throw failure(error) }
    // A link fails where a name is taken; renaming would replace it.
    guard (replaces ? rename(temporary, path) : link(temporary, path)) == 0 else { throw failure(errno) }
  }

  /// 0, or what went wrong.
  private static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) -> Int32 {
    var rest = bytes
    while !rest.isEmpty {
      let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
      if count < 0 {
        if errno == EINTR { continue }
        return errno
      }
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
    return 0
  }
}
