import ArgumentParser
import Conformance
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
      rows += plugin.warnings.map { ["warning", $0] }
      rows.append(["state", plugin.refusal ?? "good"])
      Output.table(["WHAT", "VALUE"], rows)
    }
    if plugin.refusal != nil { throw CommandFailure.answered(.refused) }
  }
}

struct PluginCheck: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Run the conformance suite of a plugin's kinds in a child process.")

  @Argument(help: "The plugin's file.", completion: .file(extensions: ["so"])) var file: String
  @Option(help: "Chooses the random cases; a failure says which one it was.") var seed: UInt64?
  @Option(
    help: """
      The configuration to test with, a JSON object. What it names is written to. (default: {"url": "<scheme>://"} for a \
      backend, else {})
      """)
  var configuration: String?
  @Option(help: "How much is done: quick takes seconds, full a minute or some (100,000 records, records of 64 MiB).")
  var level = Level.quick
  @Option(help: "How many records the check with many of them puts. (default: 2000, and 100000 with --level full)")
  var records: Int?
  @Option(help: ArgumentHelp("Only this check, or those whose names begin so; may be repeated.", valueName: "name"))
  var only: [String] = []
  @Option(
    help: ArgumentHelp(
      "How long all checks may take. (default: 120, and 1800 with --level full)", valueName: "seconds"))
  var timeout: Int?
  @OptionGroup var output: OutputOptions

  enum Level: String, ExpressibleByArgument, CaseIterable {
    case quick
    case full
  }

  func validate() throws {
    if let timeout, !(1...86_400).contains(timeout) { throw ValidationError("--timeout is 1 to 86400 seconds.") }
    if let records, !(1...10_000_000).contains(records) { throw ValidationError("--records is 1 to 10000000.") }
  }

  func run() async throws {
    var extent = level == .full ? Extent.full : .quick
    if let records { extent.recordsCount = records }
    let timeout = timeout ?? (level == .full ? 1_800 : 120)
    let report = try await KernelHooks.checkPlugin(
      file, seed: seed ?? .random(in: 1...999_999_999), configuration: configuration, extent: extent, only: only,
      timeoutMs: timeout * 1_000)
    if report.checks.allSatisfy({ $0.name == loadCheckName }) && report.isPassed {
      throw CommandFailure(
        .usage, "no check is called \(only.joined(separator: " or ")); docs/conformance.md lists them")
    }
    if output.json { Output.line(report.json.text) } else { print(report) }
    if !report.isPassed { throw CommandFailure.answered(.refused) }
  }

  private func print(_ report: ConformanceReport) {
    if !report.capabilities.isEmpty {
      Output.table(["CAPABILITY", "VALUE"], report.capabilities.map { [$0.name, $0.value] })
      Output.line("")
    }
    Output.table(
      ["CHECK", "RESULT", "MS", "REMARK"],
      report.checks.map {
        [$0.name, $0.passed ? "passed" : "FAILED", "\($0.takenMs)", $0.passed ? $0.detail : "see below"]
      })
    for failure in report.failures {
      Output.line("\n\(failure.name) failed:")
      for line in failure.detail.split(whereSeparator: \.isNewline) {
        Output.line("  \(Output.printable(String(line)))")
      }
    }
    let (checks, failures) = (report.checks.count, report.failures.count)
    Output.line(
      "\n" + (failures == 0 ? "All \(checks) checks passed." : "\(failures) of \(checks) checks failed.")
        + " The seed was \(report.seed).")
  }
}

extension ConformanceReport {
  var json: JSONValue {
    let checks = checks.map {
      JSONValue.object([
        "name": .string($0.name), "passed": .bool($0.passed), "detail": .string($0.detail),
        "taken_ms": .integer(Int64($0.takenMs)),
      ])
    }
    let capabilities = capabilities.map { JSONValue.object(["name": .string($0.name), "value": .string($0.value)]) }
    return .object([
      "ok": .bool(isPassed), "seed": .integer(Int64(clamping: seed)), "checks": .array(checks),
      "capabilities": .array(capabilities),
    ])
  }
}

extension KernelHooks.PluginDescription {
  var json: JSONValue {
    .object([
      "file": .string(file), "id": id.map(JSONValue.string) ?? .null, "version": version.map(JSONValue.string) ?? .null,
      "kinds": .array(kinds.map(JSONValue.string)), "schemes": .array(schemes.map(JSONValue.string)),
      "manifest": manifest.flatMap { JSONValue.parse(Array($0.utf8)) } ?? .null,
      "warnings": .array(warnings.map(JSONValue.string)), "refusal": refusal.map(JSONValue.string) ?? .null,
    ])
  }
}
