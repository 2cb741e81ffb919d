import ArgumentParser

struct PluginNew: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    commandName: "new", abstract: "Write a plugin package that builds as it stands.")

  enum Kind: String, ExpressibleByArgument, CaseIterable { case backend, schema, transport }
  enum Language: String, ExpressibleByArgument, CaseIterable { case swift, c }

  @Option(name: .long, help: "What the plugin is.") var kind: Kind
  @Option(name: .long, help: "What it is written in.") var language: Language = .swift
  @Argument(help: "The plugin's name, and that of the folder made for it.") var name: String
  @OptionGroup var output: OutputOptions

  func run() async throws {
    throw CommandFailure(.internal, "`plugin new` is not part of this build.")
  }
}
