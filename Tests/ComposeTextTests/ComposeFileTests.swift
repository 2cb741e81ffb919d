import ComposeText
import Foundation
import MessageCrypto
import Testing
import Yams

@Suite struct ComposeFileContent {
  private static func node(
    _ name: String, port: Int = 9942, origin: String = "*", types: [String] = ["memory"], encryptionKey: String? = nil
  ) -> ComposeNetwork.Node {
    ComposeNetwork.Node(
      name: name, publicKey: "aa", encryptionPublicKey: encryptionKey, port: port, corsOrigin: origin,
      backendTypes: types)
  }

  private static func parsed(_ nodes: [ComposeNetwork.Node]) throws -> Node {
    try #require(try Yams.compose(yaml: ComposeFile(operatorPublicKey: "0f").text(ComposeNetwork(nodes: nodes))))
  }

  @Test func aNodeIsConfinedAndWatched() throws {
    let file = try Self.parsed([Self.node("north", types: ["postgresql", "mongodb"], encryptionKey: "cc")])
    for name in ["config-server", "north"] {
      let service = file["services"]?[name]
      #expect(service?["read_only"]?.bool == true)
      #expect(service?["cap_drop"]?.sequence?.first?.string == "ALL")
      #expect(service?["security_opt"]?.sequence?.first?.string == "no-new-privileges:true")
      #expect(service?["tmpfs"]?.sequence?.compactMap(\.string) == ["/tmp", "/run/backplane"])
      #expect(
        service?["healthcheck"]?["test"]?.sequence?.compactMap(\.string) == ["CMD", "backplane", "health"])
    }
    let north = file["services"]?["north"]
    #expect(north?["environment"]?["NODE_ENCRYPTION_PRIVATE_KEY_HEX"]?.string == "${NORTH_ENCRYPTION_PRIVATE_KEY_HEX}")
    #expect(north?["depends_on"]?["postgres"]?["condition"]?.string == "service_healthy")
    #expect(file["services"]?["postgres"]?["healthcheck"]?["test"]?.sequence?.count == 6)
    #expect(file["volumes"]?["north-state"] != nil)
  }

  /// What would be read as something else, or end the text early, comes back as it was.
  @Test(arguments: [
    "*", "", "no", "3.8", "null", "~", "https://a.test # x", "a\"b\\c\nd\te", "{x: 1}", "&a",
    "\u{2028}\u{7F}\u{85}é\u{FEFF}",
    "- x", "@", "%", "'",
  ])
  func textsComeBackAsTheyWere(_ text: String) throws {
    let file = try Self.parsed([Self.node("north", origin: text)])
    #expect(file["services"]?["north"]?["environment"]?["CORS_ORIGIN"]?.string == text)
  }

  @Test func aDollarIsNoVariable() throws {
    let file = try Self.parsed([Self.node("north", origin: "https://$a${B}.test")])
    #expect(file["services"]?["north"]?["environment"]?["CORS_ORIGIN"]?.string == "https://$$a$${B}.test")
  }

  @Test(arguments: [
    ("My Node.v2 (test)", "my-node-v2--test-", "MY_NODE_V2__TEST__PRIVATE_KEY_PEM"),
    ("1st", "1st", "_1ST_PRIVATE_KEY_PEM"), ("NO", "no", "NO_PRIVATE_KEY_PEM"), ("é😀", "---", "____PRIVATE_KEY_PEM"),
  ])
  func namesOfServicesAndVariables(_ name: String, _ service: String, _ variable: String) throws {
    let node = Self.node(name)
    #expect(node.serviceName == service && node.privateKeyVariable == variable)
    let file = try Self.parsed([node])
    // By its text: a subscript would look for the truth value that a plain `no` is.
    let found = try #require(file["services"]?.mapping.flatMap { Array($0).last })
    #expect(
      found.key.string == service && found.value["environment"]?["NODE_PRIVATE_KEY_PEM"]?.string == "${\(variable)}")
  }

  @Test func whatClashesIsNamed() {
    let network = ComposeNetwork(nodes: [
      Self.node("North Pole", port: 9942), Self.node("north-pole", port: 9942), Self.node("Postgres", port: 9900),
      Self.node("", port: 0), Self.node("pg", port: 5432, types: ["postgresql"]),
    ])
    let problems = network.problems()
    #expect(problems.count == 7, "\(problems)")
    #expect(problems.contains { $0.contains("\"North Pole\" and \"north-pole\"") && $0.contains("service north-pole") })
    #expect(problems.contains { $0.contains("The port 9942") && $0.contains("\"North Pole\"") })
    #expect(problems.contains { $0.contains("the service postgres, which the network has already") })
    #expect(problems.contains { $0.contains("9900") && $0.contains("the config server") })
    #expect(problems.contains { $0.contains("from 1 to 65535") })
    #expect(problems.contains { $0.contains("5432") && $0.contains("the service postgres") })
    #expect(ComposeNetwork(nodes: [Self.node("north"), Self.node("south", port: 9943)]).problems().isEmpty)
  }

  @Test func aPEMIsOneLineOfTheEnvironmentFile() throws {
    let pem = Ed25519.KeyPair()
    let text = PrivateKey.ed25519(pem).pem
    let line = EnvironmentFile.line("NORTH_PRIVATE_KEY_PEM", text).withUnsafeBytes {
      String(decoding: $0, as: UTF8.self)
    }
    #expect(line.hasPrefix("NORTH_PRIVATE_KEY_PEM='-----BEGIN PRIVATE KEY-----\\n") && !line.contains("\n"))
    #expect(line.hasSuffix("\\n-----END PRIVATE KEY-----'"))
    // As the node reads it.
    let value = Array(line.dropFirst("NORTH_PRIVATE_KEY_PEM='".count).dropLast().utf8)
    let read = try value.withUnsafeBytes { try PrivateKey(pem: $0) }
    #expect(read.publicKey == pem.publicKey)
  }
}
