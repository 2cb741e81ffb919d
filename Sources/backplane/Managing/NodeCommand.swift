import ArgumentParser
import Foundation
import ManagedNode
import MessageCrypto

struct NodeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node", abstract: "Look at managed nodes.",
    subcommands: [NodeStatusCommand.self, NodeMetricsCommand.self]
  )
}

struct NodeStatusCommand: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "Print the heartbeats of managed nodes.",
    discussion: """
      They are read at the node that keeps them (--node); each must be signed by its node. Exits with 1 unless all are \
      online and fresh: a heartbeat that is older than three intervals is stale.
      """)

  @OptionGroup var nodes: WatchedNodesOptions
  @OptionGroup var watching: WatchingOptions
  @OptionGroup var node: NodeOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    try await NodeWatch(.status, nodes, watching, node, json: output.json).run()
  }
}

struct NodeMetricsCommand: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "metrics", abstract: "Print what managed nodes measured of themselves.",
    discussion: """
      It is read at the node that keeps it (--node); each must be signed by its node. Exits with 1 unless all are there \
      and fresh: metrics that are older than three intervals (at least 30 s each) are stale.
      """)

  @OptionGroup var nodes: WatchedNodesOptions
  @OptionGroup var watching: WatchingOptions
  @OptionGroup var node: NodeOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    try await NodeWatch(.metrics, nodes, watching, node, json: output.json).run()
  }
}

struct WatchingOptions: ParsableArguments {
  @Flag(name: .long, help: "Look again and again; on a terminal the table is drawn in its place, with trends.")
  var watch = false

  @Option(name: .long, help: "Between two looks.") var intervalMs: Int = 2000

  @Option(name: .long, help: ArgumentHelp("End after so many looks.", valueName: "number")) var count: Int?

  func validate() throws {
    guard (100...86_400_000).contains(intervalMs) else {
      throw ValidationError("--interval-ms must be from 100 to 86400000.")
    }
    if let count, !watch || count < 1 { throw ValidationError("--count goes with --watch and is above zero.") }
  }
}

/// One look, or one after the other.
private struct NodeWatch {
  private let nodes: WatchedNodesOptions
  private let watching: WatchingOptions
  private let finder: NodeFinder
  private let json: Bool

  init(
    _ subject: ManagedDocument.Subject, _ nodes: WatchedNodesOptions, _ watching: WatchingOptions, _ node: NodeOptions,
    json: Bool
  ) throws {
    self.nodes = nodes
    self.watching = watching
    self.json = json
    finder = NodeFinder(
      client: DocumentClient(node: try node.client()), subject: subject,
      decryptionKey: try nodes.decryption.recipient())
  }

  func run() async throws {
    let watched = try await nodes.read(finder.client, decryptionKey: finder.decryptionKey)
    let isDrawn = watching.watch && !json && Screen.isThere
    var table = NodeTable(subject: finder.subject, hasTrends: isDrawn)
    var screen = Screen()
    var looks = 0
    while true {
      let findings = await finder.look(at: watched)
      looks += 1
      table.add(findings)
      if !watching.watch, let failure = Self.failure(findings) { throw failure }
      if json {
        printJSON(findings)
      } else if isDrawn {
        let lines = Output.lines(of: table.head, findings.map(table.row))
        screen.draw(["\(Self.now()), \(watched.count) nodes"] + lines + table.notes(findings))
      } else if watching.watch {
        printLines(findings, table)
      } else {
        Output.table(table.head, findings.map(table.row))
        for note in table.notes(findings) { Output.line(note) }
      }
      guard watching.watch, watching.count.map({ looks < $0 }) ?? true else {
        if !findings.allSatisfy(\.isGood) { throw CommandFailure.answered(.refused) }
        return
      }
      try await Task.sleep(for: .milliseconds(watching.intervalMs))
    }
  }

  /// Nobody is there to ask about any node.
  private static func failure(_ findings: [NodeFinding]) -> CommandFailure? {
    guard let first = findings.first, findings.allSatisfy(\.isUnreachable) else { return nil }
    return CommandFailure(.unavailable, first.problem ?? "")
  }

  /// One line a node, each with the time and all that the table would say: for a file or another program.
  private func printLines(_ findings: [NodeFinding], _ table: NodeTable) {
    let head = table.head.map { $0.lowercased().replacing(" ", with: "_") }
    let time = Self.now()
    for finding in findings {
      var fields = zip(head, table.row(finding)).map { "\($0)=\($1.replacing(" ", with: "_"))" }
      if let problem = finding.problem { fields.append("problem=\(problem)") }
      Output.line(Output.printable("\(time) " + fields.joined(separator: " ")))
    }
  }

  private func printJSON(_ findings: [NodeFinding]) {
    Output.line(
      JSONValue.object([
        "at_ms": .integer(Int64(Date().timeIntervalSince1970 * 1000)), "nodes": .array(findings.map(\.json)),
      ]).text)
  }

  private static func now() -> String { Date().ISO8601Format() }
}
