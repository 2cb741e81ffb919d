import ArgumentParser

struct History: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(abstract: "Print the receipts of past reloads, the last one first.")

  @Option(name: .long, help: "Most receipts to print.") var limit: Int = 20
  @OptionGroup var options: ControlOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard (1...100_000).contains(limit) else { throw ValidationError("--limit must be from 1 to 100000.") }
  }

  func run() async throws {
    let answer = try await options.ask("history", ["limit": .integer(Int64(limit))])
    let receipts = answer["receipts"]?.array ?? []
    if output.json {
      Output.line(JSONValue.object(["receipts": .array(receipts)]).text)
    } else if receipts.isEmpty {
      Output.line("There was no reload yet.")
    } else {
      for receipt in receipts {
        let lines = ReceiptText(receipt: receipt).sentences
        Output.line(Output.printable(receipt["at"]?.cell ?? "-") + "  " + lines[0])
        lines.dropFirst().forEach(Output.line)
      }
    }
  }
}
