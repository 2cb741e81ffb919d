import Foundation
import NodeTesting
import Testing

/// What `network compose` writes, judged by compose's own schema and by docker-compose, which reads it without an engine.
@Suite struct NetworkCompose {
  /// Debian's docker-compose carries the compose specification's JSON schema.
  private static let schemaCheck = """
    import json, sys, yaml, jsonschema, compose.config, os
    folder = os.path.dirname(compose.config.__file__)
    schema = json.load(open(os.path.join(folder, "compose_spec.json")))
    document = yaml.safe_load(open(sys.argv[1]))
    jsonschema.Draft7Validator(schema).validate(document)
    print(len(document["services"]))
    """

  private static func home(_ options: [String]) throws -> NetworkFolder {
    let home = try NetworkFolder(plugins: [])
    try home.make(
      ["north=postgresql://b3nd:b3nd@postgres:5432/b3nd", "South Pole=mongodb://mongo:27017/b3nd", "east=sqlite://"],
      options + ["--for", "compose"])
    return home
  }

  @Test(arguments: [false, true])
  func composeTakesTheFileAndTheSecrets(isEncrypted: Bool) throws {
    let home = try Self.home(isEncrypted ? ["--encrypted"] : [])
    let said = try home.run(["network", "compose", "-o", "compose.yaml", "--env-file", ".env"])
    #expect(said.status == 0, "\(said.errors)")
    #expect(try home.mode(".env") == 0o600)

    let (count, errors, status) = try CommandLineTool.run(
      "/usr/bin/python3", ["-c", Self.schemaCheck, "compose.yaml"], in: home.path)
    #expect(status == 0 && count == "6\n", "\(errors)")

    let (text, problems, result) = try CommandLineTool.run(
      "/usr/bin/docker-compose", ["-f", "compose.yaml", "--env-file", ".env", "config"], in: home.path)
    #expect(result == 0 && !problems.contains("not set"), "\(problems)")
    #expect(text.contains("CONFIG_URL: http://config-server:9900"))
    // The whole key of each node comes through, on one line with \\n in it.
    for (service, file) in [("north", "north"), ("south-pole", "south-pole"), ("east", "east")] {
      let pem = try home.text("keys/\(file).signing.pem").components(separatedBy: "\nPUBLIC_KEY_HEX")[0]
      let line = pem.replacingOccurrences(of: "\n", with: "\\n")
      let unfolded = text.replacingOccurrences(of: #"\s*\n\s+"#, with: " ", options: .regularExpression)
      #expect(unfolded.contains(line), "\(service)\n\(text)")
    }
    #expect(text.contains("NODE_ENCRYPTION_PRIVATE_KEY_HEX: 302e") == isEncrypted)
    #expect(try home.text("compose.yaml").contains("BEGIN") == false)
  }

  /// A node starts with what the file of secrets says.
  @Test func aNodeReadsTheKeyOfTheEnvironmentFile() throws {
    let home = try Self.home([])
    #expect(try home.run(["network", "compose", "-o", "compose.yaml", "--env-file", ".env"]).status == 0)
    let line = try #require(
      try home.text(".env").split(separator: "\n").first { $0.hasPrefix("NORTH_PRIVATE_KEY_PEM=") })
    let value = line.dropFirst("NORTH_PRIVATE_KEY_PEM='".count).dropLast()
    let shown = try home.run(["keys", "show", "env:KEY"], environment: ["KEY": String(value)])
    #expect(shown.output.contains("public key: \(try home.nodeId("north"))"), "\(shown.output)\(shown.errors)")
  }

  @Test func anImageTakesTheBuildsPlace() throws {
    let home = try Self.home([])
    let built = try home.run(["network", "compose", "--project-root", "/src"])
    #expect(built.output.contains("context: \"/src\"") && built.output.contains("dockerfile: \"Dockerfile\""))
    let image = try home.run([
      "network", "compose", "--image", "registry.example/backplane:1", "--config-backend", "memory://",
    ])
    #expect(image.output.contains("image: \"registry.example/backplane:1\"") && !image.output.contains("build:"))
    #expect(!image.output.contains("sqlite://"))
  }

  @Test func secretsAreNotReplacedUnasked() throws {
    let home = try Self.home([])
    try home.folder.write("mine", to: ".env")
    let refused = try home.run(["network", "compose", "-o", "compose.yaml", "--env-file", ".env"])
    #expect(refused.status == 64 && refused.errors.contains("--force"), "\(refused.errors)")
    #expect(try home.text(".env") == "mine")
    #expect(!FileManager.default.fileExists(atPath: home.path + "/compose.yaml"))
    #expect(try home.run(["network", "compose", "-o", "compose.yaml", "--env-file", ".env", "--force"]).status == 0)
    #expect(try home.mode(".env") == 0o600)
  }

  @Test func whatCannotBeOneMachineIsRefused() throws {
    let home = try NetworkFolder(plugins: [])
    try home.make(["north", "south"])
    try home.edit("\"port\": 9943", "\"port\": 9942")
    let said = try home.run(["network", "compose"])
    #expect(said.status == 78 && said.errors.contains("The port 9942 of the node \"south\""), "\(said.errors)")
  }
}
