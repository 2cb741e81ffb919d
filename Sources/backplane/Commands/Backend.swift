import ArgumentParser

struct Backend: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Decide about the backends of the running node.", subcommands: [Accept.self])

  struct Accept: AsyncParsableCommand, AnswersInJSON {
    static let configuration = CommandConfiguration(
      abstract: "Take a backend's data as good although it missed a write.",
      discussion:
        "A backend that missed an acknowledged write is behind: it is not read from while another can answer. "
        + "Say this when its data has been repaired, or when what it missed does not matter. "
        + "Exits with 1 when the slot is not behind.")

    @Argument(help: ArgumentHelp("The backend's slot.", valueName: "name"))
    var slot: String

    @OptionGroup var options: ControlOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
      let answer = try await options.ask("accept", ["slot": .string(slot)])
      if output.json {
        Output.line(answer.text)
      } else {
        Output.line(Output.printable("Slot \(slot) counts as up to date and is read from in its order again."))
      }
    }
  }
}
