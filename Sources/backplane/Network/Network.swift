import ArgumentParser
import ComposeText
import Foundation
import MessageCrypto

struct Network: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Make, publish, run and watch a network of nodes that one manifest describes.",
    subcommands: [Init.self, Publish.self, Compose.self, Up.self, NetworkStatus.self])
}

extension Network {
  struct Publish: AsyncParsableCommand, AnswersInJSON {
    static let configuration = CommandConfiguration(
      abstract: "Bring every node's configuration and the manifest to the config server.",
      discussion: """
        Everything is checked first. Configurations are signed by the operator, and encrypted to the nodes that have an \
        encryption key in the manifest. What is there already is left alone.
        """)

    @OptionGroup var network: NetworkOptions
    @OptionGroup var node: NodeOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
      let file = try network.load()
      for notice in file.notices { Output.warning(notice) }
      let outcomes = try await NetworkPublisher(file: file, server: DocumentClient(node: try node.client())).publish()
      if output.json {
        Output.line(JSONValue.object(["documents": .array(outcomes.map(\.json))]).text)
      } else {
        Output.table(["NODE", "RESULT", "URI"], outcomes.map { [$0.node ?? "(manifest)", $0.words, $0.uri] })
      }
      for case .failed(_, let status) in outcomes.map(\.change) { throw CommandFailure.answered(status) }
    }
  }

  struct Compose: AsyncParsableCommand, AnswersInJSON {
    static let configuration = CommandConfiguration(
      abstract: "Write a compose file for the network.",
      discussion: """
        A config server, the databases that the nodes need, and every node. Secrets are named, not written: their \
        values go into a file of their own with --env-file, which only its owner can read.
        """)

    @OptionGroup var network: NetworkOptions
    @Option(
      name: [.customShort("o"), .customLong("output")], help: ArgumentHelp("Write to this file.", valueName: "path"))
    var path: String?
    @Option(name: .long, help: ArgumentHelp("Write the private keys to this file, such as .env.", valueName: "path"))
    var envFile: String?
    @Flag(name: .long, help: "Replace the file of --env-file.") var force = false
    @Option(name: .long, help: ArgumentHelp("The folder that the image is built from.", valueName: "directory"))
    var projectRoot: String?
    @Option(name: .long, help: ArgumentHelp("Use this image and build none.", valueName: "image")) var image: String?
    @Option(name: .long, help: ArgumentHelp("Where the config server keeps its records.", valueName: "backend-url"))
    var configBackend = "sqlite://"
    @OptionGroup var output: OutputOptions

    func validate() throws {
      if image != nil, projectRoot != nil { throw ValidationError("Give --image or --project-root, not both.") }
      if force, envFile == nil { throw ValidationError("--force goes with --env-file.") }
    }

    func run() async throws {
      let file = try network.load()
      for notice in file.notices { Output.warning(notice) }
      let services = try file.services(usesOwnDatabases: true)
      let operatorKey = try file.operatorKeys().signing.publicKeyHex
      var compose = ComposeFile(
        operatorPublicKey: operatorKey, projectRoot: image == nil ? projectRoot ?? "." : nil,
        configServerBackendURL: configBackend)
      if let image { compose.image = image }
      let text = compose.text(services)
      if let envFile {
        try SecretOutput.write(try environment(file, services), toFile: envFile, replaces: force)
      }
      guard let path else { return Output.bytes(Array(text.utf8)) }
      do {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
      } catch { throw CommandFailure(.usage, "\(path) cannot be written: \(error.localizedDescription)") }
      let files = [path] + (envFile.map { [$0] } ?? [])
      Output.line(
        output.json
          ? JSONValue.object(["files": .array(files.map { .string($0) })]).text
          : "Wrote \(files.joined(separator: " and ")).")
    }

    private func environment(_ file: NetworkFile, _ network: ComposeNetwork) throws -> [SecretBytes] {
      var lines: [SecretBytes] = []
      for node in network.nodes {
        guard let pem = try file.keys.pem(node.serviceName) else {
          throw CommandFailure(
            .usage, "the private key of \(node.name) is not in \(file.keys.path(node.serviceName, .signing)).")
        }
        lines.append(EnvironmentFile.line(node.privateKeyVariable, pem))
        guard node.encryptionPublicKey != nil else { continue }
        guard let key = try file.keys.encryptionHex(node.serviceName) else {
          throw CommandFailure(
            .usage, "the private key of \(node.name) is not in \(file.keys.path(node.serviceName, .encryption)).")
        }
        lines.append(EnvironmentFile.line(node.encryptionKeyVariable, key))
      }
      // Always there, so that compose does not complain of a variable that is not set.
      let operatorKey = file.isEncrypted ? try file.operatorKeys().encryption?.publicKeyHex ?? "" : ""
      let bytes = Array(operatorKey.utf8)
      lines.append(
        EnvironmentFile.line(
          ComposeNetwork.operatorEncryptionKeyVariable, bytes.withUnsafeBytes { SecretBytes(copying: $0) }))
      return lines
    }
  }
}
