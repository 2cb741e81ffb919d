import ArgumentParser
import Foundation

struct Reload: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Let the running node take up what changed, and print the receipt.",
    discussion:
      "Exits with 0 when it was taken or nothing had changed, 78 for the configuration, 69 for a refused plugin.")

  @Option(
    name: .long, parsing: .singleValue,
    help: ArgumentHelp("Do not wait for this file to settle, repeatable.", valueName: "file"))
  var now: [String] = []

  @Flag(
    name: .long,
    help: "Hand no state over: replace or remove a backend that keeps its data in memory only, though the data is lost."
  )
  var loseState = false

  @Flag(name: .long, help: "Try again what was refused or rolled back, though nothing about it has changed.")
  var retry = false

  @OptionGroup var options: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let directory = FileManager.default.currentDirectoryPath
    // The node's working directory is not ours.
    let files = now.map { JSONValue.string($0.hasPrefix("/") ? $0 : directory + "/" + $0) }
    let answer = try await options.ask(
      "reload", ["now": .array(files), "lose_state": .bool(loseState), "retry": .bool(retry)])
    try ReceiptText.tell(answer, output)
  }
}
