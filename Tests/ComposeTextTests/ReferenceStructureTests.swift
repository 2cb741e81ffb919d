import ComposeText
import Foundation
import Testing
import VectorTesting
import Yams

/// The reference's own compose files, which are no YAML: read with their defects mended, and compared with ours.
@Suite struct ReferenceStructure {
  struct Sample {
    let network: ComposeNetwork
    let file: ComposeFile
    let reference: String

    init(_ vector: [String: Any]) throws {
      let manifest = try #require(vector["manifest"] as? [String: Any])
      let options = try #require(vector["options"] as? [String: Any])
      reference = try #require(vector["yaml"] as? String)
      network = ComposeNetwork(
        nodes: try #require(manifest["nodes"] as? [[String: Any]]).map { node in
          let config = try #require(node["config"] as? [String: Any])
          let server = try #require(config["server"] as? [String: Any])
          return ComposeNetwork.Node(
            name: try #require(node["name"] as? String), publicKey: try #require(node["publicKey"] as? String),
            encryptionPublicKey: node["encryptionPublicKey"] as? String, port: try #require(server["port"] as? Int),
            corsOrigin: try #require(server["corsOrigin"] as? String),
            backendTypes: try #require(config["backends"] as? [[String: Any]]).map {
              try #require($0["type"] as? String)
            })
        })
      file = ComposeFile(
        operatorPublicKey: try #require(options["operatorPubKeyHex"] as? String),
        projectRoot: options["useImages"] as? Bool == true ? nil : options["projectRoot"] as? String ?? ".",
        image: "b3nd-node:latest", configServerBackendURL: "memory://")
    }

    /// The reference's text with what keeps it from being YAML mended: `*` is quoted, and `{}` joins its key.
    var mended: String {
      reference.replacingOccurrences(of: "CORS_ORIGIN: *", with: "CORS_ORIGIN: '*'")
        .replacingOccurrences(of: ":\n{}", with: ": {}")
    }
  }

  private static func samples() throws -> [Sample] { try SharedVectors.list("compose").map { try Sample($0) } }

  /// Keys in their order, and scalars as the texts that stand there.
  private static func mapping(_ node: Node?) throws -> Node.Mapping { try #require(node?.mapping) }

  private static func keys(_ node: Node?) throws -> [String] {
    try mapping(node).keys.map { try #require($0.string) }
  }

  @Test func servicesHaveTheReferencesNamesOrderAndKeys() throws {
    for sample in try Self.samples() {
      let ours = try #require(try Yams.compose(yaml: sample.file.text(sample.network)))
      let theirs = try #require(try Yams.compose(yaml: sample.mended))
      #expect(ours["version"]?.string == theirs["version"]?.scalar?.string)
      #expect(try Self.keys(ours["services"]) == (try Self.keys(theirs["services"])))
      for name in try Self.keys(theirs["services"]) {
        let (our, their) = (ours["services"]?[name], theirs["services"]?[name])
        let ourKeys = try Self.keys(our)
        let theirKeys = try Self.keys(their)
        #expect(ourKeys.filter(theirKeys.contains) == theirKeys, "\(name): \(ourKeys)")
        // As a list there, as a mapping here.
        let theirNeeds = their?["depends_on"]?.sequence?.compactMap(\.string) ?? []
        #expect((try our?["depends_on"].map { try Self.keys($0) } ?? []) == theirNeeds)
        #expect(our?["restart"]?.string == their?["restart"]?.string)
        #expect(our?["image"]?.string == their?["image"]?.string)
        #expect(our?["build"]?["context"]?.string == their?["build"]?["context"]?.string)
        try compareEnvironment(name, our?["environment"], their?["environment"])
        // Databases are published on this machine alone.
        #expect(
          our?["ports"]?.sequence?.first?.string?.replacingOccurrences(of: "127.0.0.1:", with: "")
            == their?["ports"]?.sequence?.first?.scalar?.string)
      }
      let theirVolumes = try theirs["volumes"].map { try Self.keys($0) } ?? []
      let ourVolumes = try Self.keys(ours["volumes"])
      #expect(ourVolumes.filter(theirVolumes.contains) == theirVolumes)
    }
  }

  private func compareEnvironment(_ name: String, _ our: Node?, _ their: Node?) throws {
    guard let their else { return }
    let ourKeys = try Self.keys(our)
    let theirKeys = try Self.keys(their)
    #expect(ourKeys.filter(theirKeys.contains) == theirKeys, "\(name): \(ourKeys)")
    for key in theirKeys where key != "SCHEMA_MODULE" {
      // The reference's empty texts and numbers are none: compared as they stand there.
      #expect(our?[key]?.string == their[key]?.scalar?.string, "\(name) \(key)")
    }
  }

  @Test func everyTextIsQuoted() throws {
    for sample in try Self.samples() {
      for line in sample.file.text(sample.network).split(separator: "\n") {
        guard let value = line.firstRange(of: ": ").map({ line[$0.upperBound...] }) else {
          #expect(line.hasSuffix(":") || line.drop { $0 == " " }.hasPrefix("- \""), "\(line)")
          continue
        }
        let isPlain = ["true", "{}", "3"].contains(String(value))
        #expect(isPlain || value.hasPrefix("\"") && value.hasSuffix("\"") || line.contains("- \""), "\(line)")
      }
    }
  }
}
