import Foundation
import Testing

/// Another program, run to its end.
enum Shell {
  /// What it printed, or nil when it failed.
  static func output(_ program: String, _ arguments: [String]) throws -> String? {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [program] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let data = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return process.terminationStatus == 0 ? String(decoding: data, as: UTF8.self) : nil
  }

  /// Changes a database from outside, as an operator would.
  static func sqlite(_ path: String, _ sql: String) throws -> String {
    try #require(try output("sqlite3", [path, sql]), "sqlite3 could not run: \(sql)")
  }
}
