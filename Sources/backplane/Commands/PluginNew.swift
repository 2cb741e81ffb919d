import ArgumentParser
import Foundation

struct PluginNew: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "new", abstract: "Write a plugin package that builds as it stands.",
    discussion: "Makes a folder of the plugin's name. What is in it, and what to do with it, is in its README.md.")

  enum Kind: String, ExpressibleByArgument, CaseIterable { case backend, schema, transport, service }
  enum Language: String, ExpressibleByArgument, CaseIterable { case swift, c }

  @Option(name: .long, help: "What the plugin is.") var kind: Kind
  @Option(name: .long, help: "What it is written in.") var language: Language = .swift
  @Option(
    name: .long,
    help: ArgumentHelp(
      "The PluginAPI package (BACKPLANE_PLUGIN_API; else looked for near this executable).", valueName: "directory"))
  var pluginApi: String?
  @Argument(help: "The plugin's name, and that of the folder made for it.") var name: String
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let scaffold = Scaffold(
      kind: kind, language: language, name: try PluginName(name, kind: kind),
      pluginAPI: try PluginAPILocation.find(flag: pluginApi))
    let files = scaffold.files
    try PluginNew.write(files, to: name)
    if output.json {
      Output.line(
        JSONValue.object([
          "folder": .string(name), "files": .array(files.map { .string("\(name)/\($0.path)") }),
        ]).text)
      return
    }
    Output.line("Wrote \(name), a \(kind.rawValue) that builds as it stands:")
    Output.line("  cd \(name) && \(language == .swift ? "swift build -c release" : "make")")
    Output.line("\(name)/README.md says how to check it, drop it in and give it a slot.")
  }

  /// Never into a folder that is there: whatever is in it stays as it is.
  private static func write(_ files: [Scaffold.File], to folder: String) throws(CommandFailure) {
    guard mkdir(folder, 0o777) == 0 else {
      let reason =
        errno == EEXIST ? "it exists already; choose another name or remove it" : String(cString: strerror(errno))
      throw CommandFailure(.usage, "the folder \(folder) cannot be made: \(reason).")
    }
    do {
      for file in files {
        let url = URL(fileURLWithPath: "\(folder)/\(file.path)")
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(file.text.utf8).write(to: url)
      }
    } catch {
      throw CommandFailure(.unavailable, "the folder \(folder) could not be filled: \(error.localizedDescription)")
    }
  }
}
