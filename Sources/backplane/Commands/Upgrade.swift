import ArgumentParser
import Foundation

struct Upgrade: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Let a new process take the running node over, and print the receipt.",
    discussion: """
      It runs the executable that lies where the node's was started from, so this is how a new version of it is taken. \
      Listening sockets, records in memory, receipts and counters move; what is under way is finished by the old process. \
      Nothing but the process changes: files that have changed are taken by a reload afterwards. Exits with 69 when the \
      new process cannot take over; then the old one serves on.
      """)

  @Option(
    name: .long, help: ArgumentHelp("Run this executable in the place of the node's own.", valueName: "path"))
  var executable: String?

  @OptionGroup var options: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let directory = FileManager.default.currentDirectoryPath
    let path = executable.map { $0.hasPrefix("/") ? $0 : directory + "/" + $0 }
    let answer = try await options.ask("upgrade", path.map { ["executable": .string($0)] } ?? [:])
    try ReceiptText.tell(answer, output)
  }
}
