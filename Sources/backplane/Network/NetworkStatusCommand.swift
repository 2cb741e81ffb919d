import ArgumentParser
import ComposeText
import Foundation
import JSONText
import ManagedNode
import MessageCrypto

struct NetworkStatus: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Print how every node of the network is, as the config server has it.",
    discussion: """
      The status is 0 when every node is online: it has said so, signed, within three of its heartbeats.
      """)

  /// A heartbeat may be late, and one may be lost.
  static let heartbeatsMissedMax: Double = 3
  /// Clocks differ, and a short heartbeat is no reason to call a busy machine's node gone.
  static let graceMs: Double = 5_000

  @OptionGroup var network: NetworkOptions
  @Option(
    name: .long,
    help: ArgumentHelp("The config server (BACKPLANE_NODE; http://localhost:9900).", valueName: "url"))
  var node: String?
  @Option(name: .long, help: ArgumentHelp("Seconds to wait for each answer.", valueName: "seconds")) var timeout = 30
  @OptionGroup var output: OutputOptions

  /// A node as it is seen from outside.
  struct Row {
    var name: String
    /// `online`, `degraded`, `offline`; `silent` when it has not been heard of for too long, `unknown` when never, or not
    /// with a signature of its own.
    var state: String
    var status: NodeStatus?
    var note: String
  }

  func run() async throws {
    let file = try network.load()
    let variable = ProcessInfo.processInfo.environment["BACKPLANE_NODE"] ?? ""
    let url = node ?? (variable.isEmpty ? "http://localhost:\(ComposeFile.configServerPort)" : variable)
    let server = ConfigServer(client: try NodeClient(url: url, timeoutSeconds: timeout))
    let reader = try file.keys.encryption(NetworkKeys.operatorName)
    let nowMs = Date().timeIntervalSince1970 * 1000
    var rows: [Row] = []
    for node in file.manifest.nodes { rows.append(try await Self.row(node, server, reader, nowMs: nowMs)) }
    if output.json {
      Output.line(JSONValue.object(["nodes": .array(zip(rows, file.manifest.nodes).map(Self.json))]).text)
    } else {
      Output.table(
        ["NODE", "STATE", "HEARD", "UP", "PORT", "BACKENDS", "NOTE"],
        rows.map { row in
          [
            row.name, row.state, row.status.map { "\(Self.duration(nowMs - Double($0.lastHeartbeatMs))) ago" } ?? "-",
            row.status.map { Self.duration(Double($0.uptimeMs)) } ?? "-",
            row.status?.port.map { "\($0)" } ?? "-",
            row.status?.backends.map { "\($0.type) \($0.status)" }.joined(separator: ", ") ?? "-", row.note,
          ]
        })
    }
    guard rows.allSatisfy({ $0.state == "online" }) else { throw CommandFailure.answered(.refused) }
  }

  private static func row(
    _ node: NetworkManifest.Node, _ server: ConfigServer, _ reader: X25519.KeyPair?, nowMs: Double
  ) async throws -> Row {
    let document = ManagedDocument.status(nodeId: node.nodeId)
    var row = Row(name: node.name, state: "unknown", status: nil, note: "")
    guard let answer = try await server.read(document.uri) else {
      row.note = "it has not reported yet"
      return row
    }
    do {
      let status = try NodeStatus(document.open(answer.data, decryptionKey: reader).payload.bytes)
      row.status = status
      row.state = status.status.rawValue
      row.note = status.problem ?? ""
      let silentMs = nowMs - Double(status.lastHeartbeatMs)
      let allowedMs =
        max(node.configuration.monitoring.heartbeatIntervalMs, 0) * heartbeatsMissedMax + graceMs
      if status.status != .offline, silentMs > allowedMs {
        row.state = "silent"
        row.note = "its last word is older than \(duration(allowedMs)); it said \(status.status.rawValue)"
      }
    } catch { row.note = "\(error)" }
    return row
  }

  private static func json(_ row: Row, _ node: NetworkManifest.Node) -> JSONValue {
    var members: [String: JSONValue] = [
      "name": .string(row.name), "node_id": .string(node.nodeId), "state": .string(row.state),
    ]
    if !row.note.isEmpty { members["note"] = .string(row.note) }
    if let status = row.status {
      members["status"] = JSONValue.parse(status.text)
    }
    return .object(members)
  }

  private static func duration(_ milliseconds: Double) -> String {
    let seconds = Int(max(milliseconds, 0) / 1000)
    switch seconds {
    case ..<60: return "\(seconds) s"
    case ..<3600: return "\(seconds / 60) min"
    case ..<86_400: return "\(seconds / 3600) h \(seconds % 3600 / 60) min"
    default: return "\(seconds / 86_400) d \(seconds % 86_400 / 3600) h"
    }
  }
}
