import ArgumentParser
import Foundation
import Kernel

struct QuarantineCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "quarantine", abstract: "Look at and lift the quarantine of plugins that crashed the node.",
    subcommands: [Show.self, Clear.self], defaultSubcommand: Show.self)

  struct Show: AsyncParsableCommand, AnswersInJSON {
    static let configuration = CommandConfiguration(
      commandName: "list", abstract: "Print which plugin files are in quarantine and what they did.")

    @OptionGroup var options: ControlOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
      let answer = try await options.askOrLook("quarantine") { QuarantineHooks.list($0) }
      if output.json { return Output.line(answer.text) }
      let entries = answer["quarantine"]?.array ?? []
      guard !entries.isEmpty else { return Output.line("No plugin is in quarantine.") }
      for entry in entries {
        Output.line(
          Output.printable(
            "\(entry["plugin"]?.cell ?? "?") \(entry["version"]?.cell ?? "?"), \(entry["content"]?.cell.prefix(12) ?? "")"
          ))
        Output.line(Output.printable("  \(entry["reason"]?.cell ?? "")"))
      }
    }
  }

  struct Clear: AsyncParsableCommand, AnswersInJSON {
    static let configuration = CommandConfiguration(
      abstract: "Let a plugin out of quarantine.",
      discussion:
        "Takes effect at the next reload, or at the next start when the node does not run. Exits with 1 when nothing "
        + "of that name is in quarantine.")

    @Argument(help: ArgumentHelp("The plugin's id, or the SHA-256 of one file.", valueName: "plugin"))
    var plugin: String

    @OptionGroup var options: ControlOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
      let answer = try await options.askOrLook("quarantine-clear", ["plugin": .string(plugin)]) {
        try QuarantineHooks.clear(plugin, $0)
      }
      if output.json { return Output.line(answer.text) }
      for entry in answer["quarantine"]?.array ?? [] {
        Output.line(
          Output.printable("\(entry["plugin"]?.cell ?? "?") \(entry["version"]?.cell ?? "?") is out of quarantine."))
      }
      Output.line("It takes effect at the next reload (`backplane reload`).")
    }
  }
}

/// The quarantine of a node that does not run: one that refuses to start cannot be asked.
enum QuarantineHooks {
  static func list(_ stateDirectory: String) -> JSONValue {
    value(Quarantine(stateDirectory: stateDirectory).all)
  }

  static func clear(_ plugin: String, _ stateDirectory: String) throws -> JSONValue {
    let cleared = Quarantine(stateDirectory: stateDirectory).clear(plugin)
    guard !cleared.isEmpty else { throw CommandFailure(.refused, "nothing of '\(plugin)' is in quarantine.") }
    return value(cleared)
  }

  private static func value(_ entries: [Quarantine.Entry]) -> JSONValue {
    let encoded = (try? JSONEncoder().encode(["quarantine": entries])) ?? Data()
    return JSONValue.parse([UInt8](encoded)) ?? .object([:])
  }
}
