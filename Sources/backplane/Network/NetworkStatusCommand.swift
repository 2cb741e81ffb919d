import ArgumentParser
import ComposeText
import Foundation
import ManagedNode

struct NetworkStatus: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Print how every node of the network is, as the config server has it.",
    discussion: """
      As backplane node status, for all of a manifest, with the operator's key of its folder. Exits with 1 unless all are \
      online and fresh: a heartbeat that is older than three intervals is stale.
      """)

  /// For a manifest that does not say how often a heart beats.
  private static let heartbeatIntervalMs: Double = 60_000

  @OptionGroup var network: NetworkOptions
  @Option(
    name: .long,
    help: ArgumentHelp("The config server (BACKPLANE_NODE; http://localhost:9900).", valueName: "url"))
  var node: String?
  @Option(name: .long, help: ArgumentHelp("Seconds to wait for each answer.", valueName: "seconds")) var timeout = 30
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...3600).contains(timeout) else { throw ValidationError("--timeout must be from 1 to 3600 seconds.") }
  }

  func run() async throws {
    let file = try network.load()
    let variable = ProcessInfo.processInfo.environment["BACKPLANE_NODE"] ?? ""
    let url = node ?? (variable.isEmpty ? "http://localhost:\(ComposeFile.configServerPort)" : variable)
    let finder = NodeFinder(
      client: DocumentClient(node: try NodeClient(url: url, timeoutSeconds: timeout)), subject: .status,
      decryptionKey: try file.keys.encryption(NetworkKeys.operatorName))
    let findings = await finder.look(
      at: file.manifest.nodes.map { node in
        let intervalMs = node.configuration.monitoring.heartbeatIntervalMs
        return WatchedNode(
          id: node.publicKey, name: node.name,
          heartbeatIntervalMs: intervalMs > 0 ? intervalMs : Self.heartbeatIntervalMs)
      })
    if let first = findings.first, findings.allSatisfy(\.isUnreachable) {
      throw CommandFailure(.unavailable, first.problem ?? "nobody answers at \(url)")
    }
    if output.json {
      Output.line(JSONValue.object(["nodes": .array(findings.map(\.json))]).text)
    } else {
      let table = NodeTable(subject: .status, hasTrends: false)
      Output.table(table.head, findings.map(table.row))
      for note in table.notes(findings) { Output.line(note) }
    }
    if !findings.allSatisfy(\.isGood) { throw CommandFailure.answered(.refused) }
  }
}
