import Foundation
import NodeTesting
import Testing

/// docs/rules.md does what it says.
@Suite struct DocumentationTests {
  /// The fenced blocks of the page in order.
  private func blocks() throws -> [(language: String, text: String)] {
    let page = try String(contentsOfFile: "\(SourceTree.root)/docs/rules.md", encoding: .utf8)
    var blocks: [(String, String)] = []
    var language: String?
    var lines: [Substring] = []
    for line in page.split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("```") {
        if let open = language {
          blocks.append((open, lines.joined(separator: "\n") + "\n"))
          language = nil
        } else {
          (language, lines) = (String(line.dropFirst(3)), [])
        }
      } else if language != nil {
        lines.append(line)
      }
    }
    return blocks
  }

  @Test func theExampleIsTrue() throws {
    let blocks = try blocks()
    let folder = try TemporaryFolder()
    try folder.write(try #require(blocks.first { $0.language == "yaml" }).text, to: "rules.yaml")
    try folder.write(try #require(blocks.first { $0.language == "json" }).text, to: "schemas/order.json")
    let console = try #require(blocks.first { $0.language == "console" }).text
    var commands: [(command: String, output: String)] = []
    for line in console.split(separator: "\n") {
      if line.hasPrefix("$ ") {
        commands.append((String(line.dropFirst(2)), ""))
      } else {
        commands[commands.count - 1].output += line + "\n"
      }
    }
    #expect(commands.count == 3)
    for (command, output) in commands {
      let run = try CommandLineTool.run(
        "/bin/sh", ["-c", command.replacing("backplane ", with: "'\(BuiltProducts.backplane)' ", maxReplacements: 1)],
        in: folder.path)
      #expect(run.output == output, "\(command)\n\(run.errors)")
    }
  }

  @Test func theExampleServes() throws {
    let blocks = try blocks()
    let yaml = blocks.filter { $0.language == "yaml" }
    let folder = try TemporaryFolder()
    try folder.write(yaml[0].text, to: "rules.yaml")
    try folder.write(try #require(blocks.first { $0.language == "json" }).text, to: "schemas/order.json")
    let node = try NodeProcess(
      folder: folder, plugins: RulesNode.plugins, environment: ["BACKEND_URL": "memory://"], configuration: yaml[1].text
    )
    #expect(try node.put("mutable://open/a", "1").status == 200)
    #expect(try node.put("immutable://notes/a", "1").status == 200)
    #expect(try node.put("immutable://notes/a", "2").status == 400)
  }

  @Test func thePluginConforms() throws {
    let folder = try TemporaryFolder()
    let rules = #"{"version":1,"programs":{"*":"allow","a://a":["write_once",{"json_schema":{"type":"object"}}]}}"#
    let run = try CommandLineTool.run(
      BuiltProducts.backplane,
      ["plugin", "check", BuiltProducts.plugin("schema-rules"), "--configuration", #"{"rules":\#(rules)}"#],
      in: folder.path)
    #expect(run.status == 0, "\(run.output)\(run.errors)")
  }

  @Test func exitCodesAreTheOtherCommands() throws {
    let folder = try TemporaryFolder()
    try folder.write("version: 1\nprograms:\n  a://a: deny\n", to: "good.yaml")
    try folder.write("version: 1\nprograms:\n  a://a: denied\n", to: "wrong.yaml")
    func run(_ arguments: String...) throws -> (output: String, status: Int32) {
      let run = try CommandLineTool.run(BuiltProducts.backplane, ["schema", "check"] + arguments, in: folder.path)
      return (run.output, run.status)
    }
    #expect(try run("good.yaml").status == 0)
    #expect(try run("good.yaml", "--message", "a://a/x=1").status == 1)
    #expect(try run("good.yaml", "--message", "a://a/x={").status == 64)
    let wrong = try run("wrong.yaml")
    #expect(wrong.status == 78)
    #expect(
      wrong.output
        == "wrong.yaml:3: /programs/a:~1~1a: The rule \"denied\" is unknown. The rules are all, allow, any, content, deny, json_schema, requires_output, signed_by, size_bytes_max, uri_pattern, write_once.\n"
    )
    let json =
      try JSONSerialization.jsonObject(with: Data(try run("wrong.yaml", "--json").output.utf8)) as? [String: Any]
    let problem = (json?["problems"] as? [[String: Any]])?.first
    #expect(problem?["line"] as? Int == 3 && problem?["pointer"] as? String == "/programs/a:~1~1a")
    #expect(try run("none.yaml").status == 78)
  }
}
