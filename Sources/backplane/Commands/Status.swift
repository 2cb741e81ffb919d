import ArgumentParser
import Foundation

struct Status: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(abstract: "Print what the running node is doing.")

  @OptionGroup var options: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let answer = try await options.ask("status")
    if output.json {
      Output.line(answer.text)
      return
    }
    let name = answer["node"]?.cell ?? "backplane"
    let health = answer["health"]?.cell ?? "unknown"
    let uptime = answer["uptime_ms"]?.integer.map { ", up \(DurationText.text(milliseconds: $0))" } ?? ""
    Output.line(
      Output.printable("Node \(name) is \(health), generation \(answer["generation"]?.cell ?? "?")\(uptime)."))
    let columns = ["name", "kind", "plugin", "version", "generation", "state", "in_flight"]
    Output.table(
      columns.map { $0.uppercased() },
      (answer["slots"]?.array ?? []).map { slot in columns.map { slot[$0]?.cell ?? "-" } })
    for slot in answer["slots"]?.array ?? [] {
      if let peer = slot["peer"] {
        Output.line(Output.printable("Peer \(slot["name"]?.cell ?? "?"): \(Self.sentence(peer))."))
      }
      guard let proposing = slot["proposing"] else { continue }
      Output.line(
        Output.printable("Slot \(slot["name"]?.cell ?? "?") may propose a configuration: \(Self.proposal(proposing))"))
    }
    for note in answer["notes"]?.array ?? [] { Output.line(Output.printable("Note: \(note.cell)")) }
  }

  /// `bidirectional; 3 messages wait in memory (612 bytes, the oldest for 2 s), 100 pushed, ...`.
  private static func sentence(_ peer: JSONValue) -> String {
    var parts = [peer["direction"]?.cell ?? "?"]
    if let push = peer["push"] {
      let units = push["units"]?.integer ?? 0
      var text = "\(units) messages wait in \(push["durable"]?.cell == "true" ? "files" : "memory")"
      if units > 0 {
        text += " (\(push["bytes"]?.cell ?? "?") bytes"
        if let oldest = push["oldest_ms"]?.integer {
          let nowMs = Int64(Date().timeIntervalSince1970 * 1000)
          text += ", the oldest for \(DurationText.text(milliseconds: max(0, nowMs - oldest)))"
        }
        text += ")"
      }
      for key in ["pushed", "retried", "refused", "dropped"] { text += ", \(push[key]?.cell ?? "0") \(key)" }
      parts.append(text)
    }
    if let pull = peer["pull"] {
      let counts = ["hits", "misses", "timeouts", "failures", "skipped"].map { "\(pull[$0]?.cell ?? "0") \($0)" }
      parts.append("pulls: " + counts.joined(separator: ", "))
    }
    return parts.joined(separator: "; ")
  }

  private static func proposal(_ proposing: JSONValue) -> String {
    guard proposing["in_place"] == .bool(true) else { return "none is in place." }
    return "one is in place since \(proposing["at"]?.cell ?? "?") (receipt \(proposing["receipt"]?.cell ?? "?"))."
  }
}
