import ArgumentParser

struct Rollback: AsyncParsableCommand, AnswersInJSON {
  static let configuration = CommandConfiguration(
    abstract: "Put slots back to what served before they were last replaced, and print the receipt.",
    discussion: """
      Without names: everything that the last reload replaced. State is handed back with what was written since. What is \
      rolled back is not tried again until its file or its configuration changes (`backplane reload --retry` tries it). \
      Exits with 69 when a slot cannot go back.
      """)

  @Argument(help: "Names of slots.")
  var slots: [String] = []

  @OptionGroup var options: ControlOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    let answer = try await options.ask("rollback", slots.isEmpty ? [:] : ["slots": .array(slots.map { .string($0) })])
    try ReceiptText.tell(answer, output)
  }
}
