import ArgumentParser
import ComposeText
import Foundation
import JSONText
import Kernel
import ManagedNode

extension NodeDraft: ExpressibleByArgument {
  init?(argument: String) { self.init(argument) }
}
extension NetworkDraft.Peers: ExpressibleByArgument {}
extension NetworkDraft.Place: ExpressibleByArgument {}

extension Network {
  struct Init: AsyncParsableCommand, AnswersInJSON {
    static let configuration = CommandConfiguration(
      commandName: "init",
      abstract: "Make the keys and the manifest of a new network.",
      discussion: """
        Writes network.json and the folder keys into the directory. Nothing that is there is replaced. A node is NAME, \
        NAME=backend-url, NAME@port or NAME=backend-url@port; without a URL it keeps its records in memory, without a \
        port it gets the next free one from 9942 on. Among the peers of a mesh every write reaches every node.
        """)

    @Argument(help: ArgumentHelp("Where to; made when it is missing.", valueName: "directory")) var directory = "."
    @Option(name: .long, help: "The network's name.") var name: String
    @Option(name: .long, help: "The network's id; else made of its name.") var id: String?
    @Option(
      name: .long, parsing: .singleValue,
      help: ArgumentHelp("A node, repeatable.", valueName: "name[=backend-url][@port]"))
    var node: [NodeDraft] = []
    @Option(name: .long, help: "Which nodes are peers of which: mesh or none.") var peers = NetworkDraft.Peers.mesh
    @Option(
      name: .customLong("for"),
      help: "Where the nodes will run, and so how they reach each other: local (127.0.0.1) or compose (service names).")
    var place = NetworkDraft.Place.local
    @Flag(name: .long, help: "Configurations are encrypted to the nodes, and what they report to the operator.")
    var encrypted = false
    @Option(name: .long, help: "The origin that browsers may come from, or *.") var corsOrigin = "*"
    @Option(name: .long, help: "How often a node says how it is.") var heartbeatMs = 30_000
    @Option(name: .long, help: "How often a node looks for a changed configuration.") var pollMs = 10_000
    @OptionGroup var output: OutputOptions

    func validate() throws {
      guard !node.isEmpty else { throw ValidationError("A network needs a node: --node north") }
      guard heartbeatMs > 0, pollMs > 0 else { throw ValidationError("Intervals must be above zero.") }
      guard !name.isEmpty, id?.isEmpty != true else { throw ValidationError("Neither name nor id may be empty.") }
    }

    func run() async throws {
      let draft = try NetworkDraft(
        id: id ?? ServiceName.make(name), name: name, nodes: node, peers: peers, place: place,
        heartbeatIntervalMs: heartbeatMs, configPollIntervalMs: pollMs, corsOrigin: corsOrigin)
      let keys = NetworkKeys(directory: "\(directory)/\(NetworkKeys.folderName)")
      let file = "\(directory)/network.json"
      try refuseWhatIsThere(file, keys, draft)
      try keys.makeFolder()
      let operatorKey = try keys.make(NetworkKeys.operatorName, .signing)
      let operatorEncryptionKey = try keys.make(NetworkKeys.operatorName, .encryption)
      var publicKeys: [String: String] = [:]
      var encryptionKeys: [String: String] = [:]
      for node in draft.nodes {
        publicKeys[node.service] = try keys.make(node.service, .signing)
        encryptionKeys[node.service] = try keys.make(node.service, .encryption)
      }
      let manifest = draft.manifest(publicKeys: publicKeys, encryptionKeys: encrypted ? encryptionKeys : [:])
      do {
        let text = Array(IndentedJSON.text(manifest.text) + [0x0A])
        try Data(text).write(to: URL(fileURLWithPath: file), options: .withoutOverwriting)
      } catch { throw CommandFailure(.usage, "\(file) cannot be written: \(error.localizedDescription)") }
      tell(file, keys, manifest, operatorKey, operatorEncryptionKey)
    }

    /// Before anything is written: half a network is none.
    private func refuseWhatIsThere(_ file: String, _ keys: NetworkKeys, _ draft: NetworkDraft) throws {
      let names = [NetworkKeys.operatorName] + draft.nodes.map(\.service)
      let files = [file] + names.flatMap { [keys.path($0, .signing), keys.path($0, .encryption)] }
      let present = files.filter { access($0, F_OK) == 0 }
      guard present.isEmpty else {
        throw CommandFailure(
          .usage,
          "nothing was made: \(present.joined(separator: ", ")) \(present.count == 1 ? "is" : "are") there already. "
            + "Choose another directory; a lost key is lost for good.")
      }
    }

    private func tell(
      _ file: String, _ keys: NetworkKeys, _ manifest: NetworkManifest, _ operatorKey: String,
      _ operatorEncryptionKey: String
    ) {
      guard !output.json else {
        return Output.line(
          JSONValue.object([
            "file": .string(file), "keys": .string(keys.directory), "network_id": .string(manifest.networkId),
            "operator_key": .string(operatorKey), "operator_encryption_key": .string(operatorEncryptionKey),
            "nodes": .array(
              manifest.nodes.map { node in
                .object([
                  "name": .string(node.name), "node_id": .string(node.nodeId),
                  "port": .integer(Int64(node.configuration.server.portNumber ?? 0)),
                ])
              }),
          ]).text)
      }
      Output.line(
        "Wrote \(file) with \(manifest.nodes.count) nodes, and their keys and the operator's into \(keys.directory).")
      Output.line("The operator's public key is \(operatorKey).\n")
      Output.table(
        ["NODE", "PORT", "BACKEND", "ID"],
        manifest.nodes.map { node in
          [
            node.name, "\(node.configuration.server.portNumber ?? 0)",
            node.configuration.backends.map { Redaction.redact($0.url) }.joined(separator: ","), node.nodeId,
          ]
        })
      Output.line("\nKeep \(keys.directory) to yourself: who has the operator's key configures every node. Next:")
      if place == .compose {
        Output.line("  backplane network compose \(file) -o compose.yaml --env-file .env")
        Output.line("  docker compose up -d")
        Output.line("  backplane network publish \(file) --node http://localhost:\(ComposeFile.configServerPort)")
      } else {
        Output.line("  backplane network up \(file)")
      }
      Output.line("  backplane network status \(file)")
    }
  }
}
