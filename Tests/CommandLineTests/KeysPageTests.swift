import Foundation
import NodeTesting
import Testing

/// docs/keys.md as it stands: every command of it, in order, against a whole node.
@Suite struct KeysPageTests {
  private struct Step {
    var command: String
    var expected: String
  }

  @Test func everythingOnThePageIsSo() async throws {
    let page = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../docs/keys.md").standardized
    let steps = try Self.steps(String(contentsOf: page, encoding: .utf8))
    #expect(steps.count > 20)
    let node = try NodeProcess(plugins: ["backend-memory", "schema-permissive", "transport-http"])
    defer { node.stop() }
    let outputs = try await Self.run(steps.map(\.command), node: "http://127.0.0.1:\(node.port)")
    #expect(outputs.count == steps.count)
    for (step, output) in zip(steps, outputs) {
      #expect(Self.matches(output, step.expected), "$ \(step.command)\n\(output)\nand not\n\(step.expected)")
    }
  }

  /// The lines of `console` blocks: a command after `$ `, and what it prints up to the next.
  private static func steps(_ page: String) -> [Step] {
    var steps: [Step] = []
    var isInside = false
    for line in page.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("```") {
        isInside = line == "```console"
      } else if isInside, line.hasPrefix("$ ") {
        steps.append(Step(command: String(line.dropFirst(2)), expected: ""))
      } else if isInside, !steps.isEmpty {
        steps[steps.count - 1].expected += line + "\n"
      }
    }
    return steps
  }

  /// What each command printed, on either stream.
  private static func run(_ commands: [String], node: String) async throws -> [String] {
    let folder = try TestFolder()
    let mark = "-- \(UUID().uuidString)"
    let script = "exec 2>&1\numask 022\n" + commands.map { "echo '\(mark)'\n\($0)\n" }.joined()
    try Data(script.utf8).write(to: URL(filePath: folder.path + "/page.sh"))
    let environment = [
      "PATH": BuiltProducts.directory + ":" + (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"),
      "BACKPLANE_NODE": node,
    ]
    let output = try await CommandLineRun.run(
      ["page.sh"], environment: environment, directory: folder.path, executable: URL(filePath: "/bin/bash"))
    return output.output.components(separatedBy: mark + "\n").dropFirst().map { $0 }
  }

  private static func matches(_ output: String, _ expected: String) -> Bool {
    let pattern = expected.components(separatedBy: "…").map { NSRegularExpression.escapedPattern(for: $0) }
      .joined(separator: "[^\\n]+")
    return output.range(of: "^\(pattern)$", options: .regularExpression) == output.startIndex..<output.endIndex
      || output == expected
  }
}
