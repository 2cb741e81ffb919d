import Foundation
import Glibc

extension FileHandle {
  /// What is there to be read, at least a byte; empty at the end. Foundation's own ends the process when a signal comes.
  func piece() -> Data {
    var bytes = [UInt8](repeating: 0, count: 65_536)
    var count = 0
    repeat { count = Glibc.read(fileDescriptor, &bytes, bytes.count) } while count < 0 && errno == EINTR
    return Data(bytes.prefix(max(0, count)))
  }

  /// Everything to the end.
  func rest() -> Data {
    var all = Data()
    while case let piece = piece(), !piece.isEmpty { all += piece }
    return all
  }
}

/// Another program, run to its end.
public enum Shell {
  /// What it printed, or nil when it failed.
  public static func output(_ program: String, _ arguments: [String]) throws -> String? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [program] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let data = pipe.fileHandleForReading.rest()
    process.waitUntilExit()
    return process.terminationStatus == 0 ? String(decoding: data, as: UTF8.self) : nil
  }
}
