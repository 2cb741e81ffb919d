import Foundation
import NodeTesting

/// Runs curl and says what came back.
enum Curl {
  struct Answer {
    var status: Int
    /// "2" or "1.1".
    var version: String
    var body: String
    /// 0: curl is content.
    var exit: Int32
  }

  static func run(_ arguments: [String], in folder: TemporaryFolder) throws -> Answer {
    let (output, _, status) = try CommandLineTool.run(
      "/usr/bin/curl", ["-s", "-S", "--max-time", "60", "-w", "\n%{http_code} %{http_version}"] + arguments,
      in: folder.path)
    let parts = output.split(separator: "\n", omittingEmptySubsequences: false)
    let last = (parts.last ?? "").split(separator: " ")
    return Answer(
      status: last.first.flatMap { Int($0) } ?? 0, version: last.count > 1 ? String(last[1]) : "",
      body: parts.dropLast().joined(separator: "\n"), exit: status)
  }
}
