import ArgumentParser
import Foundation
import Kernel

struct Config: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check and show the configuration; write that of managed nodes.",
    subcommands: [ConfigCheck.self, ConfigShow.self, ConfigSign.self, ConfigPublish.self, ConfigPull.self])
}

struct ConfigCheck: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Say everything that is wrong with the configuration.")

  @OptionGroup var options: ConfigurationOptions
  @OptionGroup var output: OutputOptions

  @Flag(name: .long, help: "Let the plugins judge their slots, too, each in a probe process.")
  var probe = false

  func run() async throws {
    let loaded: LoadedConfiguration
    do throws(ConfigurationError) {
      loaded = try ConfigurationLoader.load(
        flags: options.flags, environment: ProcessInfo.processInfo.environment,
        workingDirectory: FileManager.default.currentDirectoryPath)
    } catch {
      try report(problems: error.problems, warnings: [])
      return
    }
    var failures: [KernelHooks.CheckResult] = []
    if probe { failures = try await KernelHooks.checkSlots(loaded).filter { !$0.isPassed } }
    try report(problems: [], warnings: loaded.warnings, failures: failures, files: loaded.files)
  }

  private func report(
    problems: [ConfigurationProblem], warnings: [ConfigurationProblem], failures: [KernelHooks.CheckResult] = [],
    files: [String] = []
  ) throws {
    let isGood = problems.isEmpty && failures.isEmpty
    if output.json {
      let slots = failures.map { JSONValue.object(["slot": .string($0.name), "message": .string($0.detail)]) }
      Output.line(
        JSONValue.object([
          "ok": .bool(isGood), "problems": .array(problems.map(Self.json) + slots),
          "warnings": .array(warnings.map(Self.json)), "files": .array(files.map(JSONValue.string)),
        ]).text)
    } else {
      for warning in warnings { Output.line("warning: \(Output.printable(warning.description))") }
      for problem in problems { Output.line(Output.printable(problem.description)) }
      for failure in failures { Output.line(Output.printable("slot \(failure.name): \(failure.detail)")) }
      if isGood {
        Output.line("The configuration is good (\(files.isEmpty ? "no file" : files.joined(separator: ", "))).")
      }
    }
    if !isGood { throw CommandFailure.answered(.configuration) }
  }

  private static func json(_ problem: ConfigurationProblem) -> JSONValue {
    var members: [String: JSONValue] = [
      "origin": .string(problem.origin.description), "message": .string(problem.message),
    ]
    if let pointer = problem.pointer, let key = problem.key {
      members["pointer"] = .string(pointer)
      members["key"] = .string(key)
    }
    if case .file(let path, let line) = problem.origin {
      members["file"] = .string(path)
      if line > 0 { members["line"] = .integer(Int64(line)) }
    }
    return .object(members)
  }
}

struct ConfigShow: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Print every value and where it came from.",
    discussion: "Secrets are left out: passwords in URLs and values of keys like password show ***.")

  @OptionGroup var options: ControlOptions
  @OptionGroup var output: OutputOptions

  @Flag(
    name: .long,
    help: "Ask the running node what it runs with, with what services have proposed (over its control socket).")
  var running = false

  func run() async throws {
    if running { return try await showRunning() }
    let loaded = try options.configuration.load()
    if output.json {
      let values = loaded.values.map { value in
        JSONValue.object([
          "key": .string(value.key), "value": JSONValue.parse(Array(value.value.utf8)) ?? .string(value.value),
          "origin": .string(value.origin.description),
        ])
      }
      Output.line(JSONValue.object(["values": .array(values)]).text)
    } else {
      for warning in loaded.warnings { Output.warning("\(warning)") }
      Output.table(["KEY", "VALUE", "ORIGIN"], loaded.values.map { [$0.key, $0.value, $0.origin.description] })
    }
  }

  private func showRunning() async throws {
    let values = try await options.ask("configuration")["values"]?.array ?? []
    func text(_ value: JSONValue, _ key: String) -> String { value[key]?.string ?? "" }
    guard output.json else {
      let keys = ["key", "value", "origin"]
      return Output.table(keys.map { $0.uppercased() }, values.map { value in keys.map { text(value, $0) } })
    }
    let parsed = values.map { value in
      JSONValue.object([
        "key": .string(text(value, "key")), "origin": .string(text(value, "origin")),
        "value": JSONValue.parse(Array(text(value, "value").utf8)) ?? .string(text(value, "value")),
      ])
    }
    Output.line(JSONValue.object(["values": .array(parsed)]).text)
  }
}
