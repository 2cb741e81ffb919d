import ArgumentParser

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
    let uptime = answer["uptime_ms"]?.integer.map { ", up \(Self.duration(milliseconds: $0))" } ?? ""
    Output.line(
      Output.printable("Node \(name) is \(health), generation \(answer["generation"]?.cell ?? "?")\(uptime)."))
    let columns = ["name", "kind", "plugin", "version", "generation", "state", "in_flight"]
    Output.table(
      columns.map { $0.uppercased() },
      (answer["slots"]?.array ?? []).map { slot in columns.map { slot[$0]?.cell ?? "-" } })
    for slot in answer["slots"]?.array ?? [] {
      guard let proposing = slot["proposing"] else { continue }
      Output.line(
        Output.printable("Slot \(slot["name"]?.cell ?? "?") may propose a configuration: \(Self.proposal(proposing))"))
    }
    for note in answer["notes"]?.array ?? [] { Output.line(Output.printable("Note: \(note.cell)")) }
  }

  private static func proposal(_ proposing: JSONValue) -> String {
    guard proposing["in_place"] == .bool(true) else { return "none is in place." }
    return "one is in place since \(proposing["at"]?.cell ?? "?") (receipt \(proposing["receipt"]?.cell ?? "?"))."
  }

  private static func duration(milliseconds: Int64) -> String {
    let seconds = milliseconds / 1000
    switch seconds {
    case ..<60: return "\(seconds) s"
    case ..<3600: return "\(seconds / 60) min \(seconds % 60) s"
    case ..<86_400: return "\(seconds / 3600) h \(seconds % 3600 / 60) min"
    default: return "\(seconds / 86_400) d \(seconds % 86_400 / 3600) h"
    }
  }
}
