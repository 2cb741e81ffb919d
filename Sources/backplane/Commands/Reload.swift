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

  @Flag(name: .long, help: "Replace a backend that keeps its data in memory only, though the data is lost.")
  var loseState = false

  @OptionGroup var options: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let directory = FileManager.default.currentDirectoryPath
    // The node's working directory is not ours.
    let files = now.map { JSONValue.string($0.hasPrefix("/") ? $0 : directory + "/" + $0) }
    let answer = try await options.ask("reload", ["now": .array(files), "lose_state": .bool(loseState)])
    guard let receipt = answer["receipt"] else {
      throw CommandFailure(.internal, "the node's answer has no receipt.")
    }
    let text = ReceiptText(receipt: receipt)
    if output.json { Output.line(receipt.text) } else { text.sentences.forEach(Output.line) }
    if let status = text.failureStatus { throw CommandFailure.answered(status) }
  }
}
