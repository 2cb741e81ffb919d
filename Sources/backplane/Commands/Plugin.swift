import ArgumentParser
import Kernel

struct Plugin: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Look at, check and begin plugins.",
    subcommands: [PluginList.self, PluginInspect.self, PluginCheck.self, PluginNew.self])
}

struct PluginList: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "List the plugin files in the plugin directories.")

  @OptionGroup var options: ConfigurationOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let plugins = try await KernelHooks.listPlugins(in: try options.load().node.directories.plugins)
    if output.json {
      Output.line(JSONValue.object(["plugins": .array(plugins.map(\.json))]).text)
      return
    }
    Output.table(
      ["ID", "VERSION", "KINDS", "SCHEMES", "FILE", "STATE"],
      plugins.map {
        [
          $0.id ?? "-", $0.version ?? "-", $0.kinds.joined(separator: ","), $0.schemes.joined(separator: ","), $0.file,
          $0.refusal ?? "good",
        ]
      })
  }
}

struct PluginInspect: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "inspect", abstract: "Print what a plugin file says of itself, without running it.")

  @Argument(help: "The plugin's file.") var file: String
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let plugin = try await KernelHooks.inspectPlugin(file)
    if output.json {
      Output.line(plugin.json.text)
    } else {
      var rows = [["file", plugin.file], ["id", plugin.id ?? "-"], ["version", plugin.version ?? "-"]]
      rows.append(["kinds", plugin.kinds.joined(separator: ", ")])
      if !plugin.schemes.isEmpty { rows.append(["schemes", plugin.schemes.joined(separator: ", ")]) }
      if let manifest = plugin.manifest { rows.append(["manifest", manifest]) }
      rows.append(["state", plugin.refusal ?? "good"])
      Output.table(["WHAT", "VALUE"], rows)
    }
    if plugin.refusal != nil { throw CommandFailure.answered(.refused) }
  }
}

struct PluginCheck: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Run the conformance suite of a plugin's kinds in a child process.")

  @Argument(help: "The plugin's file.") var file: String
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let results = try await KernelHooks.checkPlugin(file)
    let failedCount = results.filter { !$0.isPassed }.count
    if output.json {
      let checks = results.map {
        JSONValue.object(["name": .string($0.name), "passed": .bool($0.isPassed), "detail": .string($0.detail)])
      }
      Output.line(JSONValue.object(["ok": .bool(failedCount == 0), "checks": .array(checks)]).text)
    } else {
      Output.table(
        ["CHECK", "RESULT", "DETAIL"], results.map { [$0.name, $0.isPassed ? "passed" : "FAILED", $0.detail] })
      Output.line(
        failedCount == 0 ? "All \(results.count) checks passed." : "\(failedCount) of \(results.count) checks failed.")
    }
    if failedCount > 0 { throw CommandFailure.answered(.refused) }
  }
}

extension KernelHooks.PluginDescription {
  var json: JSONValue {
    .object([
      "file": .string(file), "id": id.map(JSONValue.string) ?? .null, "version": version.map(JSONValue.string) ?? .null,
      "kinds": .array(kinds.map(JSONValue.string)), "schemes": .array(schemes.map(JSONValue.string)),
      "manifest": manifest.flatMap { JSONValue.parse(Array($0.utf8)) } ?? .null,
      "refusal": refusal.map(JSONValue.string) ?? .null,
    ])
  }
}
